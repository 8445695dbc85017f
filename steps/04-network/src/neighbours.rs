//! Which card is behind which cable, and which address has which card. A bridge and a host learn that from what they hear; of
//! our cells all of it is known before, so it is written down, and nothing is learned.
//!
//! The filter of [`crate::own_addresses`] keeps false messages away. These entries hold without it as well: on a kernel that
//! filters nothing on a bridge, and after `nft flush ruleset`.

use std::net::IpAddr;

use kernel::Failure;
use kernel::sys::netlink::{Message, Netlink};

use crate::link::{self, Link, Mac};

const REPLACE: i32 = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
const PORT_MODE: u16 = 4; // IFLA_BRPORT_MODE
const PORT_LEARNING: u16 = 8; // IFLA_BRPORT_LEARNING
const ADDRESS: u16 = 1; // NDA_DST
/// Never forgotten, never replaced by what is heard. On a bridge that would mean one of its own cards.
const PERMANENT: u16 = libc::NUD_PERMANENT;
const STATIC: u16 = libc::NUD_NOARP;

// ANCHOR: configure_port
/// A port of a bridge learns no cards from what arrives there. With `hairpin`, a frame may also leave by the port at which it
/// arrived: a cell that asks for its own published port is led back to itself. Where the kernel has br_netfilter, the bridge
/// does that by itself, without the way through the host.
///
/// # Shell: `ip link set NAME type bridge_slave learning off hairpin on`
pub fn configure_port(netlink: &Netlink, name: &str, hairpin: bool) -> Result<(), Failure> {
    let order = Message::order(libc::RTM_NEWLINK, 0, &link::link_head(0, 0)).text(libc::IFLA_IFNAME, name).nest(
        libc::IFLA_LINKINFO,
        &[],
        |info| {
            info.text(libc::IFLA_INFO_SLAVE_KIND, "bridge").nest(libc::IFLA_INFO_SLAVE_DATA, &[], |port| {
                port.attribute(PORT_LEARNING, &[0]).attribute(PORT_MODE, &[u8::from(hairpin)])
            })
        },
    );
    let shown = if hairpin { "on" } else { "off" };
    netlink.ask(format_args!("RTM_NEWLINK name=<veth> port: learning=off hairpin={shown}"), order).map(drop)
}
// ANCHOR_END: configure_port

/// Tells a bridge which card is behind a port.
///
/// # Shell: `bridge fdb replace MAC dev NAME master static`
pub fn card_is_at(netlink: &Netlink, port: &Link, mac: Mac) -> Result<(), Failure> {
    let head = head(libc::AF_BRIDGE, port.index, STATIC, libc::NTF_MASTER);
    let order = Message::order(libc::RTM_NEWNEIGH, REPLACE, &head).attribute(libc::NDA_LLADDR, &mac);
    netlink.ask(format_args!("RTM_NEWNEIGH bridge port=<veth> card={}", link::show_mac(mac)), order).map(drop)
}

/// Tells this network namespace which card has an address.
///
/// # Shell: `ip neighbour replace ADDRESS lladdr MAC dev NAME nud permanent`
pub fn address_is_at(netlink: &Netlink, link: &Link, address: IpAddr, mac: Mac) -> Result<(), Failure> {
    let head = head(i32::from(link::family(address)), link.index, PERMANENT, 0);
    let order = Message::order(libc::RTM_NEWNEIGH, REPLACE, &head)
        .attribute(ADDRESS, &link::octets(address))
        .attribute(libc::NDA_LLADDR, &mac);
    let card = link::show_mac(mac);
    netlink.ask(format_args!("RTM_NEWNEIGH link={} address={address} card={card}", link.name), order).map(drop)
}

/// The fixed part of a request about a neighbour (struct ndmsg): family, link, state, flags, and no kind.
fn head(family: i32, link: u32, state: u16, flags: u8) -> Vec<u8> {
    [&[family as u8, 0, 0, 0][..], &link.to_ne_bytes(), &state.to_ne_bytes(), &[flags, 0]].concat()
}
