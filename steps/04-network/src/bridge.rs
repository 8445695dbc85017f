//! The bridge, with all that belongs to it: addresses, forwarding, rules. The first cell makes it, the last removes it.

use std::fs;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use kernel::sys::lock::Lock;
use kernel::sys::netlink::Netlink;
use kernel::{Errno, Failure, Remedy, purpose};

use crate::cable::Cable;
use crate::firewall;
use crate::lease::{self, Lease};
use crate::link::{self, Link, Mac};
use crate::neighbours;
use crate::note::{HALF_MADE, NEW, Switched, bridge_note, is_half_made, our_mac, subnets_of};
use crate::options::Plan;
use crate::other_firewalls;
use crate::own_addresses;
use crate::publish::Port;
use crate::router;
use crate::settings;
use crate::subnet::Subnet;

/// A cell's place on a bridge. Dropped, it is given back, unless it stays; the last one takes the bridge down.
#[derive(Debug)]
pub struct Plugged {
    netlink: Netlink,
    lock: Option<Lock>,
    bridge: Link,
    /// IPv4, and IPv6 where the machine has it.
    pub subnets: Vec<Subnet>,
    /// The cell's number in the subnets.
    pub number: u32,
    /// The address of the cell's network card.
    pub mac: Mac,
    lease: Lease,
    veth: String,
    /// Another process gives it back (step 7).
    pub stays: bool,
    _reserved: Vec<OwnedFd>,
}

impl Plugged {
    // ANCHOR: prepare
    /// Finds the bridge or makes it, and chooses an address on it. Until [`Plugged::plug`] nobody else can.
    ///
    /// # Errors
    /// A port or an address that is taken; a link of that name that is not ours; a subnet that the host has a route to;
    /// EPERM without CAP_NET_ADMIN; no nft.
    pub fn prepare(plan: &Plan) -> Result<Plugged> {
        firewall::check()?;
        let netlink = Netlink::route()?;
        let lock = lease::lock()?;
        lease::refuse_taken(&netlink, &plan.ports)?;
        let reserved = plan.ports.iter().map(|port| port.reserve()).collect::<Result<Vec<_>, _>>()?;
        let (bridge, subnets) = find_or_make(&netlink, plan)?;
        let mut plugged = Plugged {
            netlink,
            lock: Some(lock),
            bridge,
            subnets,
            number: 0,
            mac: [0; 6],
            lease: Lease { number: 0, mac: plan.mac, ports: plan.ports.clone() },
            veth: format!("cb{:08x}", kernel::sys::process::random()?),
            stays: false,
            _reserved: reserved.into_iter().flatten().collect(),
        };
        let wanted = plan.ip.map(|ip| plugged.number_of(ip)).transpose()?;
        plugged.number = lease::choose(&plugged.netlink, &plugged.bridge, plugged.subnets[0], wanted)?;
        plugged.lease.number = plugged.number;
        plugged.lease.note(plugged.subnets[0])?;
        plugged.mac = plugged.lease.mac(plugged.subnets[0]);
        Ok(plugged)
    }
    // ANCHOR_END: prepare

    // ANCHOR: plug
    /// Joins the cell to the bridge by a virtual cable, and lets the next launcher go on.
    pub fn plug(&mut self, pid: i32) -> Result<()> {
        purpose("a cable with two ends: one in here, eth0 in the cell's network namespace");
        link::add_veth(&self.netlink, &self.veth, pid, self.mac, self.bridge.mtu)
            .context("cannot make a virtual cable")?;
        purpose("our end into the bridge; the note on it says whose address that is");
        link::plug_in(&self.netlink, &self.veth, &self.bridge, &self.lease.note(self.subnets[0])?)?;
        let links = link::links(&self.netlink)?;
        self.introduce(&links)?;
        update_rules(&self.netlink, &links, &self.bridge.name, Change::In)?;
        self.lock = None;
        Ok(())
    }
    // ANCHOR_END: plug

    /// Bridge and host are told what they would else learn from whatever the cell sends.
    fn introduce(&self, links: &[Link]) -> Result<()> {
        purpose("bridge and host know the cell's card and addresses: nothing is learned from what cells send");
        neighbours::configure_port(&self.netlink, &self.veth, !self.lease.ports.is_empty())?;
        let port = links.iter().find(|link| link.name == self.veth).context("the cable has an end here")?;
        neighbours::card_is_at(&self.netlink, port, self.mac)?;
        for subnet in &self.subnets {
            neighbours::address_is_at(&self.netlink, &self.bridge, subnet.host(self.number), self.mac)?;
        }
        Ok(())
    }

    /// Which cable is the cell's.
    pub fn cable(&self) -> Cable {
        Cable::here(&self.bridge.name, &self.veth)
    }

    fn number_of(&self, address: std::net::IpAddr) -> Result<u32> {
        let number = self.subnets.iter().find_map(|subnet| subnet.number_of(address));
        let subnets = || self.subnets.iter().map(Subnet::to_string).collect::<Vec<_>>().join(" nor in ");
        match number {
            None => Err(Failure::new(format!("--ip {address} lies neither in {}", subnets()))
                .hint("another --bridge with a --subnet of its own can have it")
                .into()),
            Some(number) if number < 2 || number > self.subnets[0].last() => {
                let text = format!("--ip {address} is not for a cell");
                Err(Failure::new(text)
                    .hint("the first addresses and the last one belong to the subnet and its bridge")
                    .into())
            }
            Some(number) => Ok(number),
        }
    }
}

impl Drop for Plugged {
    fn drop(&mut self) {
        self.lock = None;
        let unplugged = if self.stays { Ok(()) } else { unplug(&self.cable()) };
        if let Err(error) = unplugged {
            eprint!("{}", Failure::from_error(&error).hint("network --prune removes what is left").lines("network"));
        }
    }
}

/// Gives a cell's address and ports back; takes the bridge down if nobody else is plugged in.
pub fn unplug(cable: &Cable) -> Result<()> {
    cable.check_here()?;
    if cable.went_with_the_machine() {
        return Ok(()); // what has its names now is another's
    }
    let netlink = Netlink::route()?;
    let _lock = lease::lock()?;
    purpose("give the address back; the kernel removes the cable with the cell");
    link::unplug(&netlink, &cable.veth)?;
    update_rules(&netlink, &link::links(&netlink)?, &cable.bridge, Change::Out)
}

/// What has just happened to a cable.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    In,
    Out,
}

// ANCHOR: update_rules
/// Writes the rules anew if what is plugged in asks for others than those that stand (the bridge's own note remembers
/// which these are), or if they were flushed. With no cell plugged in any more, takes the bridge down.
fn update_rules(netlink: &Netlink, links: &[Link], name: &str, change: Change) -> Result<()> {
    let bridge = links.iter().find(|link| link.name == name);
    let Some((bridge, subnets)) = bridge.and_then(|bridge| Some((bridge, subnets_of(bridge)?))) else { return Ok(()) };
    let cables = lease::leases(links, bridge, subnets[0]);
    let leases: Vec<Lease> = cables.iter().map(|(_, lease)| lease.clone()).collect();
    if leases.is_empty() {
        return take_down(netlink, name);
    }
    let rules = firewall::rules(name, &subnets, &leases);
    let note = bridge_note(&subnets, Switched::of(&bridge.note), &firewall::fingerprint(&rules));
    let localnet = leases.iter().any(|lease| lease.ports.iter().any(Port::on_loopback_v4));
    if !localnet {
        settings::route_localnet(name, false)?;
    }
    let mut filtered = own_addresses::stands(name)?;
    if bridge.note != note || !filtered || !firewall::is_there(name)? {
        purpose("the firewall's rules, made anew from what is plugged in");
        filtered = firewall::replace(name, &rules, (!filtered).then_some(own_addresses::RULES))?;
        router::restore_policy(links)?;
        link::write_note(netlink, name, &note)?;
    }
    match filtered {
        true => own_addresses::fill(name, &subnets, &cables)?,
        false if change == Change::In => warn_of_neighbours(),
        false => {}
    }
    // After the rules, which drop what would come in by it from elsewhere.
    if localnet { settings::route_localnet(name, true) } else { Ok(()) }
}
// ANCHOR_END: update_rules

fn warn_of_neighbours() {
    eprintln!(
        "network: this kernel filters nothing on a bridge: a cell can take its neighbours' addresses, and their packets\n\
         hint: modprobe nf_tables; the kernel needs CONFIG_NF_TABLES_BRIDGE; until then, a --bridge and a --subnet for each cell"
    );
}

/// The subnets of the bridge that is there, or of one that is made now.
fn find_or_make(netlink: &Netlink, plan: &Plan) -> Result<(Link, Vec<Subnet>)> {
    purpose("is the bridge there already?");
    match find_link(netlink, &plan.bridge)? {
        Some(link) if is_half_made(&link) => {
            take_down(netlink, &link.name)?;
            make(netlink, plan)
        }
        Some(link) => {
            let subnets = read_subnets(&link, plan)?;
            Ok((link, subnets))
        }
        None => make(netlink, plan),
    }
}

/// The link with that name.
fn find_link(netlink: &Netlink, name: &str) -> Result<Option<Link>> {
    Ok(link::links(netlink)?.into_iter().find(|link| link.name == name))
}

/// The subnets that a bridge of ours has on its note.
///
/// # Errors
/// The link is not ours, or other subnets were asked for.
fn read_subnets(link: &Link, plan: &Plan) -> Result<Vec<Subnet>> {
    let Some(subnets) = subnets_of(link) else {
        let text = format!("there is a link named {}, and it is not one of ours", link.name);
        return Err(Failure::new(text).hint("name another: --bridge NAME").into());
    };
    for asked in [plan.v4, plan.v6].into_iter().flatten() {
        if !subnets.contains(&asked) {
            let text = format!("the bridge {} is there already, without the subnet {asked}", link.name);
            return Err(Failure::new(text).hint("name another bridge for it: --bridge NAME").into());
        }
    }
    Ok(subnets)
}

// ANCHOR: make
/// Makes the bridge, with the first address of each subnet. Its note is written last: until then it says that it is half-made.
fn make(netlink: &Netlink, plan: &Plan) -> Result<(Link, Vec<Subnet>)> {
    let v4 = plan.v4.unwrap_or_else(|| Subnet::new([10, 76, 0, 0].into(), 16));
    let mut subnets = vec![v4];
    subnets.extend(has_ipv6().then(|| plan.v6.unwrap_or_else(|| Subnet::companion(v4))));
    refuse_overlap(netlink, &subnets)?;
    purpose("a bridge, the switch into which cells are plugged, with the first address of each subnet");
    let new = format!("{NEW}{:08x}.new", kernel::sys::process::random()?);
    link::add_bridge(netlink, &new, our_mac(v4, 1))
        .hint_on(Errno::EPERM, "only root may change the host's network: sudo, or --net none, or --net host")
        .context("cannot make a bridge")?;
    purpose("its name, and with it the note that it is ours, and half-made; packets as large as get out of this host");
    let mtu = router::mtu_of_the_way_out(netlink)?;
    let link = find_link(netlink, &new)?.context("it was made just now")?;
    if let Err(taken) = link::rename(netlink, &link, &plan.bridge, HALF_MADE, mtu) {
        link::delete(netlink, &new)?;
        return Err(taken.into());
    }
    let made = set_up(netlink, &plan.bridge, &subnets);
    if made.is_err() {
        let _ = take_down(netlink, &plan.bridge);
    }
    made.map(|bridge| (bridge, subnets))
}

fn set_up(netlink: &Netlink, name: &str, subnets: &[Subnet]) -> Result<Link> {
    let bridge = find_link(netlink, name)?.context("it was made just now")?;
    purpose("it takes no router, address or way from what is plugged into it");
    settings::learn_nothing(name)?;
    for subnet in subnets {
        link::add_address(netlink, &bridge, subnet.host(1), subnet.prefix)?;
    }
    link::set_up(netlink, name)?;
    let switched = forward(netlink, name)?;
    link::write_note(netlink, name, &bridge_note(subnets, switched, "none"))?;
    Ok(bridge)
}
// ANCHOR_END: make

/// Takes down a bridge and its rules; and forwarding first, while the bridge's note still says that it is ours to take back.
pub fn take_down(netlink: &Netlink, name: &str) -> Result<()> {
    router::take_back(&link::links(netlink)?, name)?;
    purpose("no cell is connected any more: remove the bridge and its rules");
    link::delete(netlink, name).with_context(|| format!("cannot remove the bridge {name}"))?;
    firewall::remove(name)
}

/// A route of the host's into our subnet would be cut off by it, or we by the route.
fn refuse_overlap(netlink: &Netlink, subnets: &[Subnet]) -> Result<()> {
    purpose("does the host have a route into these subnets?");
    let mut routes = Vec::new();
    for subnet in subnets {
        routes.extend(link::routes(netlink, subnet.is_v4())?.into_iter().filter_map(|route| route.to));
    }
    for subnet in subnets {
        if let Some(to) = routes.iter().find(|to| to.overlaps(subnet)) {
            let text = format!("the subnet {subnet} overlaps a route of this host, to {to}");
            let free = Subnet::free(&routes, subnet.is_v4());
            return Err(Failure::new(text).hint(format!("choose another: --subnet {free}")).into());
        }
    }
    Ok(())
}

// ANCHOR: forward
/// Makes the host a router between the bridge and its other links, and returns what was off before. The bridge's note says
/// that first: a launcher that is killed leaves nothing on that the next command does not find.
fn forward(netlink: &Netlink, bridge: &str) -> Result<Switched> {
    purpose("the host passes packets on");
    // A router listens to no other router's advertisements: the host's own way out would be lost.
    let uplinks = if has_ipv6() { router::advertised_uplinks(netlink)? } else { String::new() };
    if !uplinks.is_empty() {
        eprintln!(
            "network: a router told this host its IPv6 way out, which forwarding would cut: cells have none beyond it\n\
             hint: sysctl -w{uplinks} net.ipv6.conf.all.forwarding=1"
        );
    }
    let links = link::links(netlink)?;
    let switched = router::needed(&links, bridge, has_ipv6() && uplinks.is_empty())?;
    if !switched.is_nothing() {
        link::write_note(netlink, bridge, format!("{HALF_MADE} {}", switched.words()).trim_end())?;
        router::switch_on(&links, switched)?;
    }
    for other in other_firewalls::who_drops_forwarded()? {
        let (table, hint) = (&other.table, other.allow(bridge));
        eprintln!("network: another firewall drops what is forwarded: nftables' table {table}\nhint: {hint}");
    }
    Ok(switched)
}
// ANCHOR_END: forward

fn has_ipv6() -> bool {
    fs::read_to_string("/proc/sys/net/ipv6/conf/all/disable_ipv6").is_ok_and(|value| value.trim() == "0")
}
