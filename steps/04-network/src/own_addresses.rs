//! Each cell sends with its own addresses only: a filter on the bridge.
//!
//! A bridge believes what it hears: a frame's source tells it where a card is, an ARP or IPv6 neighbour message where an address is.
//! So a cell that says its neighbour's addresses gets its neighbour's packets. What arrives from a cable is compared with what
//! its cell was given, before the bridge learns from it.
//!
//! The rules are the same for all cells. What each was given stands in sets, as pairs of a cable and an address: a launch beside
//! other cells only adds its own.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use anyhow::Result;
use kernel::purpose;

use crate::firewall;
use crate::lease::Lease;
use crate::link::{self, Mac};
use crate::sets::{self, Key, Set};
use crate::subnet::Subnet;

// ANCHOR: own_addresses
/// The filter of a bridge, as `nft` reads it. A neighbour advertisement says which address it is about in 128 bits, after the first
/// 64 of its head. In fragments that could be hidden; what is meant for neighbours only has a hop limit of 255.
pub const RULES: &str = r"  set cables { type ifname; }
  set cards { type ifname . ether_addr; }
  set own_v4 { type ifname . ipv4_addr; }
  set own_v6 { type ifname . ipv6_addr; }
  set own_targets { typeof iifname . @th,64,128; }
  chain own_addresses_only {
    type filter hook prerouting priority -300
    iifname != @cables accept
    iifname . ether saddr != @cards drop
    meta protocol != { ip, arp, ip6 } drop
    icmp type { redirect, router-advertisement } drop
    icmpv6 type { nd-router-advert, nd-redirect } drop
    iifname . ip saddr != @own_v4 drop
    iifname . arp saddr ether != @cards drop
    arp saddr ip != 0.0.0.0 iifname . arp saddr ip != @own_v4 drop
    exthdr frag exists ip6 hoplimit 255 drop
    ip6 saddr != :: iifname . ip6 saddr != @own_v6 drop
    icmpv6 type nd-neighbor-advert iifname . @th,64,128 != @own_targets drop
  }
";
// ANCHOR_END: own_addresses

/// Whether the filter of a bridge stands.
pub fn stands(bridge: &str) -> Result<bool> {
    Ok(sets::keys(&firewall::table(bridge), "cables")?.is_some())
}

/// Writes down what the cells that are plugged in were given, and no others. A lease comes with the name of its cable.
pub fn fill(bridge: &str, subnets: &[Subnet], leases: &[(String, Lease)]) -> Result<()> {
    purpose("which cable may send with which card and addresses: the members of the filter's sets");
    sets::fill(&firewall::table(bridge), &members(subnets, leases))
}

fn members(subnets: &[Subnet], leases: &[(String, Lease)]) -> [Set; 5] {
    let set = |name, keys: &dyn Fn(&str, &Lease) -> Vec<Key>| {
        let keys: BTreeSet<Key> = leases.iter().flat_map(|(veth, lease)| keys(veth, lease)).collect();
        Set { name, keys }
    };
    let card = |lease: &Lease| lease.mac(subnets[0]);
    let own = |veth: &str, lease: &Lease, wanted: fn(&IpAddr) -> bool| -> Vec<Key> {
        let link_local = IpAddr::V6(link_local(card(lease)));
        let own = subnets.iter().map(|subnet| subnet.host(lease.number)).chain([link_local]).filter(wanted);
        own.map(|address| key(veth, &link::octets(address))).collect()
    };
    [
        set("cables", &|veth, _| vec![key(veth, &[])]),
        set("cards", &|veth, lease| vec![key(veth, &card(lease))]),
        set("own_v4", &|veth, lease| own(veth, lease, IpAddr::is_ipv4)),
        set("own_v6", &|veth, lease| own(veth, lease, IpAddr::is_ipv6)),
        set("own_targets", &|veth, lease| own(veth, lease, IpAddr::is_ipv6)),
    ]
}

/// A cable's name, of at most 15 letters, in 16 bytes; behind it an address.
fn key(veth: &str, address: &[u8]) -> Key {
    const NAME: usize = libc::IFNAMSIZ;
    let mut key = veth.as_bytes().to_vec();
    key.resize(NAME, 0);
    key.extend(address);
    key.resize(key.len().next_multiple_of(4), 0);
    key
}

/// The address that the kernel makes for a card by itself (RFC 4291, appendix A).
fn link_local([a, b, c, d, e, f]: Mac) -> Ipv6Addr {
    let pair = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, pair(a ^ 2, b), pair(c, 0xff), pair(0xfe, d), pair(e, f))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_has_its_own_addresses() {
        let subnets: Vec<Subnet> = ["10.76.0.0/16", "fd76::/64"].iter().map(|text| text.parse().unwrap()).collect();
        let sets = members(&subnets, &[("cb1".to_owned(), Lease { number: 2, mac: None, ports: Vec::new() })]);
        let name = b"cb1\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let keys =
            |at: usize| sets[at].keys.iter().map(|key| key.strip_prefix(name).unwrap().to_vec()).collect::<Vec<_>>();
        assert_eq!(keys(0), [[]]);
        assert_eq!(keys(1), [[0x02, 0xcb, 10, 76, 0, 2, 0, 0]]);
        assert_eq!(keys(2), [[10, 76, 0, 2]]);
        let own: [Ipv6Addr; 2] = ["fd76::2".parse().unwrap(), "fe80::cb:aff:fe4c:2".parse().unwrap()];
        assert_eq!(keys(3), own.map(|own| own.octets()));
        assert_eq!(sets[4].keys, sets[3].keys);
    }
}
