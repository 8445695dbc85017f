//! Each cell sends with its own addresses only: a filter on the bridge, one chain, a few rules a cable.
//!
//! A bridge believes what it hears: a frame's source tells it where a card is, an ARP or IPv6 neighbour message where an address is.
//! So a cell that says its neighbour's addresses gets its neighbour's packets. What arrives from a cable is compared with what
//! its cell was given, before the bridge learns from it.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr};

use crate::lease::Lease;
use crate::link::{Mac, show_mac};
use crate::subnet::Subnet;

// ANCHOR: own_addresses
/// The filter of one bridge, as `nft` reads it. A lease comes with the name of its cable.
pub fn rules(subnets: &[Subnet], leases: &[(String, Lease)]) -> String {
    let mut text = "  chain own_addresses_only {\n    type filter hook prerouting priority -300\n".to_owned();
    for (veth, lease) in leases {
        for rule in of_cable(subnets, lease) {
            let _ = writeln!(text, "    iifname \"{veth}\" {rule} drop");
        }
    }
    text + "  }\n"
}

/// What is dropped of all that arrives from a cell's cable.
fn of_cable(subnets: &[Subnet], lease: &Lease) -> Vec<String> {
    let card = lease.mac(subnets[0]);
    let mac = show_mac(card);
    let link_local = link_local(card);
    let mut rules = vec![
        format!("ether saddr != {mac}"),
        "meta protocol != { ip, arp, ip6 }".to_owned(),
        "icmp type { redirect, router-advertisement }".to_owned(),
        "icmpv6 type { nd-router-advert, nd-redirect }".to_owned(),
    ];
    let mut own_v6 = vec![link_local];
    for subnet in subnets {
        match subnet.host(lease.number) {
            IpAddr::V4(own) => rules.extend([
                format!("ip saddr != {own}"),
                format!("arp saddr ether != {mac}"),
                format!("arp saddr ip != {{ {own}, 0.0.0.0 }}"), // none, when it asks whether an address is free
            ]),
            IpAddr::V6(own) => own_v6.push(own),
        }
    }
    let words = own_v6.iter().map(Ipv6Addr::to_string).collect::<Vec<_>>().join(", ");
    rules.push(format!("ip6 saddr != {{ ::, {words} }}"));
    // The address that an advertisement is about: 128 bits, after 64 of its head.
    let targets: String = own_v6.iter().map(|own| format!(" @th,64,128 != {:#x}", u128::from(*own))).collect();
    rules.push(format!("icmpv6 type nd-neighbor-advert{targets}"));
    rules
}
// ANCHOR_END: own_addresses

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
        let text = rules(&subnets, &[("cb1".to_owned(), Lease { number: 2, mac: None, ports: Vec::new() })]);
        for rule in [
            "ether saddr != 02:cb:0a:4c:00:02",
            "ip saddr != 10.76.0.2",
            "ip6 saddr != { ::, fe80::cb:aff:fe4c:2, fd76::2 }",
        ] {
            assert!(text.contains(&format!("    iifname \"cb1\" {rule} drop\n")), "{rule}: {text}");
        }
    }
}
