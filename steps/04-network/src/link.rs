//! Links, addresses and routes: one function a request. What `ip` does, done by hand.

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use kernel::sys::netlink::{Answer, Message, Netlink, find};
use kernel::{Errno, Failure, Fd};

use crate::subnet::Subnet;

const CREATE: i32 = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
const UP: u32 = libc::IFF_UP as u32;
const LINK_HEAD: usize = 16;
const ROUTE_HEAD: usize = 12;
const ADDRESS_HEAD: usize = 8;
const FLAGS: u16 = 8; // IFA_FLAGS
const ROUTER: u8 = 9; // RTPROT_RA

/// An address of the link layer.
pub type Mac = [u8; 6];

/// As it is written.
pub fn show_mac(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// A link, as far as we care.
#[derive(Debug, Clone)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// The number of the bridge that it is plugged into.
    pub master: Option<u32>,
    /// bridge, veth, ...; nothing for a network card.
    pub kind: String,
    /// Its address of the link layer.
    pub mac: Option<Mac>,
    /// The size of the largest packet that it takes.
    pub mtu: u32,
    /// Whether it is switched on.
    pub is_up: bool,
    /// A note of up to 255 bytes, which the kernel keeps for the process that writes it: our memory.
    pub note: String,
}

/// The fixed part of a request about a link (struct ifinfomsg): family, kind, number, flags, and which flags change.
pub(crate) fn link_head(index: u32, flags: u32) -> Vec<u8> {
    [[0; 4], index.to_ne_bytes(), flags.to_ne_bytes(), flags.to_ne_bytes()].concat()
}

// ANCHOR: add_bridge
/// Makes a bridge, a switch inside of the kernel.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN.
///
/// # Shell: `ip link add NAME address MAC type bridge`
pub fn add_bridge(netlink: &Netlink, name: &str, mac: Mac) -> Result<(), Failure> {
    let order = Message::order(libc::RTM_NEWLINK, CREATE, &link_head(0, 0))
        .text(libc::IFLA_IFNAME, name)
        .attribute(libc::IFLA_ADDRESS, &mac)
        .nest(libc::IFLA_LINKINFO, &[], |info| info.text(libc::IFLA_INFO_KIND, "bridge"));
    netlink.ask(format_args!("RTM_NEWLINK name=<new bridge> kind=bridge"), order).map(drop)
}
// ANCHOR_END: add_bridge

/// Gives a bridge its name, its note, and the size of the largest packet that it takes. It must be switched off. (A size that
/// a bridge has from its birth, and not from an order, changes with what is plugged in.)
///
/// # Errors
/// EEXIST if a link has that name: then it has none of the three.
///
/// # Shell: `ip link set OLD name NAME alias NOTE mtu MTU`
pub fn rename(netlink: &Netlink, link: &Link, name: &str, note: &str, mtu: u32) -> Result<(), Failure> {
    let order = Message::order(libc::RTM_SETLINK, 0, &link_head(link.index, 0))
        .text(libc::IFLA_IFNAME, name)
        .attribute(libc::IFLA_IFALIAS, note.as_bytes())
        .attribute(libc::IFLA_MTU, &mtu.to_ne_bytes());
    netlink.ask(format_args!("RTM_SETLINK link=<new bridge> name={name} alias={note:?} mtu={mtu}"), order).map(drop)
}

// ANCHOR: add_veth
/// Makes a pair of virtual network cards, joined by a cable: one here, the other, `eth0`, in the network namespace of
/// the process `pid`.
///
/// # Shell: `ip link add NAME mtu MTU type veth peer name eth0 address MAC mtu MTU netns PID`
pub fn add_veth(netlink: &Netlink, name: &str, pid: i32, mac: Mac, mtu: u32) -> Result<(), Failure> {
    const PEER: u16 = 1; // VETH_INFO_PEER
    let peer = |data: Message| {
        data.nest(PEER, &link_head(0, 0), |peer| {
            peer.text(libc::IFLA_IFNAME, "eth0")
                .attribute(libc::IFLA_ADDRESS, &mac)
                .attribute(libc::IFLA_MTU, &mtu.to_ne_bytes())
                .attribute(libc::IFLA_NET_NS_PID, &pid.to_ne_bytes())
        })
    };
    let order = Message::order(libc::RTM_NEWLINK, CREATE, &link_head(0, 0))
        .text(libc::IFLA_IFNAME, name)
        .attribute(libc::IFLA_MTU, &mtu.to_ne_bytes())
        .nest(libc::IFLA_LINKINFO, &[], |info| {
            info.text(libc::IFLA_INFO_KIND, "veth").nest(libc::IFLA_INFO_DATA, &[], peer)
        });
    netlink.ask(format_args!("RTM_NEWLINK name=<veth> kind=veth peer=eth0 netns=<child> mtu={mtu}"), order).map(drop)
}
// ANCHOR_END: add_veth

// ANCHOR: plug_in
/// Plugs a link into a bridge, writes a note on it, and switches it on.
///
/// # Shell: `ip link set NAME master BRIDGE alias NOTE up`
pub fn plug_in(netlink: &Netlink, name: &str, bridge: &Link, note: &str) -> Result<(), Failure> {
    let order = Message::order(libc::RTM_SETLINK, 0, &link_head(0, UP))
        .text(libc::IFLA_IFNAME, name)
        .attribute(libc::IFLA_MASTER, &bridge.index.to_ne_bytes())
        .attribute(libc::IFLA_IFALIAS, note.as_bytes());
    let text = format_args!("RTM_SETLINK name=<veth> master={} alias={note:?} up", bridge.name);
    netlink.ask(text, order).map(drop)
}
// ANCHOR_END: plug_in

/// Writes a note on a link.
///
/// # Shell: `ip link set NAME alias NOTE`
pub fn write_note(netlink: &Netlink, name: &str, note: &str) -> Result<(), Failure> {
    let order = Message::order(libc::RTM_SETLINK, 0, &link_head(0, 0))
        .text(libc::IFLA_IFNAME, name)
        .attribute(libc::IFLA_IFALIAS, note.as_bytes());
    // The number that stands for the rules is another on each run, as the cables' names are.
    let shown = match note.split_once(" rules ") {
        Some((before, number)) if number != "none" => format!("{before} rules <number>"),
        _ => note.to_owned(),
    };
    netlink.ask(format_args!("RTM_SETLINK name={name} alias={shown:?}"), order).map(drop)
}

/// Takes the note off a cable and switches it off: the next cell with the address must not share it with one that is still
/// on its way out. The kernel may be removing it just now: then that is done as well.
///
/// # Shell: `ip link set NAME alias '' down`
pub fn unplug(netlink: &Netlink, name: &str) -> Result<(), Failure> {
    let head = [[0; 4], [0; 4], [0; 4], UP.to_ne_bytes()].concat(); // of the flags, this one changes, to nothing
    let order =
        Message::order(libc::RTM_SETLINK, 0, &head).text(libc::IFLA_IFNAME, name).attribute(libc::IFLA_IFALIAS, &[]);
    match netlink.tell(format_args!("RTM_SETLINK name=<veth> alias=\"\" down"), order) {
        Err(refused) if refused.errno() != Some(Errno::ENODEV) => Err(refused),
        _ => Ok(()),
    }
}

/// Switches a link on.
///
/// # Shell: `ip link set NAME up`
pub fn set_up(netlink: &Netlink, name: &str) -> Result<(), Failure> {
    let order = Message::order(libc::RTM_SETLINK, 0, &link_head(0, UP)).text(libc::IFLA_IFNAME, name);
    netlink.ask(format_args!("RTM_SETLINK name={name} up"), order).map(drop)
}

/// Moves a link into another network namespace, and renames it there.
///
/// # Shell: `ip link set NAME netns PID name NEW`
pub fn move_to(netlink: &Netlink, link: &Link, namespace: &Fd, name: &str) -> Result<(), Failure> {
    let order = Message::order(libc::RTM_NEWLINK, 0, &link_head(link.index, 0))
        .attribute(libc::IFLA_NET_NS_FD, &namespace.as_fd().as_raw_fd().to_ne_bytes())
        .text(libc::IFLA_IFNAME, name);
    netlink.ask(format_args!("RTM_NEWLINK link={} netns={namespace} name={name}", link.name), order).map(drop)
}

/// Removes a link.
///
/// # Shell: `ip link del NAME`
pub fn delete(netlink: &Netlink, name: &str) -> Result<(), Failure> {
    let order = Message::order(libc::RTM_DELLINK, 0, &link_head(0, 0)).text(libc::IFLA_IFNAME, name);
    netlink.ask(format_args!("RTM_DELLINK name={name}"), order).map(drop)
}

/// All links of this network namespace.
///
/// # Shell: `ip link`
pub fn links(netlink: &Netlink) -> Result<Vec<Link>, Failure> {
    let answers = netlink.ask(format_args!("RTM_GETLINK"), Message::question(libc::RTM_GETLINK, &link_head(0, 0)))?;
    Ok(answers.iter().filter_map(read_link).collect())
}

fn read_link(answer: &Answer) -> Option<Link> {
    let text = |value: &[u8]| String::from_utf8_lossy(value).trim_end_matches('\0').to_owned();
    let attribute = |kind| answer.attribute(LINK_HEAD, kind);
    let info = attribute(libc::IFLA_LINKINFO).unwrap_or_default();
    Some(Link {
        index: u32::from_ne_bytes(answer.fixed(4)?),
        name: attribute(libc::IFLA_IFNAME).map(text)?,
        master: attribute(libc::IFLA_MASTER).and_then(|value| value.try_into().ok()).map(u32::from_ne_bytes),
        kind: find(info, libc::IFLA_INFO_KIND).map(text).unwrap_or_default(),
        mac: attribute(libc::IFLA_ADDRESS).and_then(|value| value.try_into().ok()),
        mtu: attribute(libc::IFLA_MTU).and_then(|value| value.try_into().ok()).map_or(0, u32::from_ne_bytes),
        is_up: u32::from_ne_bytes(answer.fixed(8)?) & UP != 0,
        note: attribute(libc::IFLA_IFALIAS).map(text).unwrap_or_default(),
    })
}

// ANCHOR: add_address
/// Gives a link an address; the kernel adds the route to its subnet by itself.
///
/// # Shell: `ip address add ADDRESS/PREFIX dev NAME nodad`
pub fn add_address(netlink: &Netlink, link: &Link, address: IpAddr, prefix: u8) -> Result<(), Failure> {
    let bytes = octets(address);
    let head = [&[family(address), prefix, 0, 0][..], &link.index.to_ne_bytes()].concat(); // struct ifaddrmsg
    let order = Message::order(libc::RTM_NEWADDR, CREATE, &head)
        .attribute(libc::IFA_LOCAL, &bytes)
        .attribute(libc::IFA_ADDRESS, &bytes)
        // Nobody else can have it: no need to ask around for a second first (duplicate address detection).
        .attribute(FLAGS, &libc::IFA_F_NODAD.to_ne_bytes());
    netlink.ask(format_args!("RTM_NEWADDR link={} address={address}/{prefix}", link.name), order).map(drop)
}
// ANCHOR_END: add_address

/// The addresses that a link was given, for use beyond the link itself: with their prefixes.
///
/// # Shell: `ip address show dev NAME scope global permanent`
pub fn addresses(netlink: &Netlink, link: &Link) -> Result<Vec<(IpAddr, u8)>, Failure> {
    let head = [0; ADDRESS_HEAD];
    let answers = netlink.ask(format_args!("RTM_GETADDR"), Message::question(libc::RTM_GETADDR, &head))?;
    Ok(answers
        .iter()
        .filter(|answer| answer.fixed(4).map(u32::from_ne_bytes) == Some(link.index))
        .filter_map(read_address)
        .collect())
}

fn read_address(answer: &Answer) -> Option<(IpAddr, u8)> {
    let [family, prefix, _, scope] = answer.fixed(0)?;
    let flags = answer.attribute(ADDRESS_HEAD, FLAGS).and_then(|value| value.try_into().ok()).map(u32::from_ne_bytes);
    let lasts = flags.is_some_and(|flags| flags & libc::IFA_F_PERMANENT != 0);
    let value = answer.attribute(ADDRESS_HEAD, libc::IFA_LOCAL).or(answer.attribute(ADDRESS_HEAD, libc::IFA_ADDRESS))?;
    (lasts && scope == libc::RT_SCOPE_UNIVERSE).then_some((address(family, value)?, prefix))
}

/// Sends everything that goes nowhere else to a gateway.
///
/// # Shell: `ip route add default via GATEWAY`
pub fn add_default_route(netlink: &Netlink, gateway: IpAddr) -> Result<(), Failure> {
    let (table, made_at_boot, anywhere, unicast) = (libc::RT_TABLE_MAIN, libc::RTPROT_BOOT, 0, libc::RTN_UNICAST);
    let head = [family(gateway), 0, 0, 0, table, made_at_boot, anywhere, unicast, 0, 0, 0, 0]; // struct rtmsg
    let order = Message::order(libc::RTM_NEWROUTE, CREATE, &head).attribute(libc::RTA_GATEWAY, &octets(gateway));
    netlink.ask(format_args!("RTM_NEWROUTE default via={gateway}"), order).map(drop)
}

/// A route of the host's: where to, through which link, and who told us.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// Its destination; `None` for the default route.
    pub to: Option<Subnet>,
    /// The number of the link.
    pub link: u32,
    /// A router's advertisement brought it (IPv6).
    pub advertised: bool,
}

/// The routes of one family in the main table.
///
/// # Shell: `ip route; ip -6 route`
pub fn routes(netlink: &Netlink, v4: bool) -> Result<Vec<Route>, Failure> {
    let mut head = [0; ROUTE_HEAD];
    head[0] = if v4 { libc::AF_INET } else { libc::AF_INET6 } as u8;
    let text = format_args!("RTM_GETROUTE family={}", if v4 { "inet" } else { "inet6" });
    let answers = netlink.ask(text, Message::question(libc::RTM_GETROUTE, &head))?;
    Ok(answers.iter().filter_map(read_route).collect())
}

fn read_route(answer: &Answer) -> Option<Route> {
    let [family, length, _, _, table, told_by, _, kind] = answer.fixed(0)?;
    if table != libc::RT_TABLE_MAIN || kind != libc::RTN_UNICAST {
        return None;
    }
    let base = answer.attribute(ROUTE_HEAD, libc::RTA_DST).and_then(|bytes| address(family, bytes));
    let link = answer.attribute(ROUTE_HEAD, libc::RTA_OIF)?.try_into().ok()?;
    let to = base.filter(|_| length > 0).map(|base| Subnet::new(base, length));
    Some(Route { to, link: u32::from_ne_bytes(link), advertised: told_by == ROUTER })
}

pub(crate) fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { libc::AF_INET as u8 } else { libc::AF_INET6 as u8 }
}

fn address(family: u8, bytes: &[u8]) -> Option<IpAddr> {
    match i32::from(family) {
        libc::AF_INET => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    }
}

pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
