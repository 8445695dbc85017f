//! The host as a router: switched on for the cells where it was off, for them alone, and taken back with the last bridge.
//!
//! What was switched on stands on the note of the bridge that needed it, before it is done: after a SIGKILL, that is where the
//! next command finds it. A bridge that is made meanwhile gets the same words, so the last one to go takes it back.

use std::fs;

use anyhow::Result;
use kernel::purpose;
use kernel::sys::netlink::Netlink;

use crate::firewall;
use crate::link::{self, Link};
use crate::note::{Switched, is_ours};
use crate::{settings, sysctl};

const V4: &str = "net.ipv4.ip_forward";
const V6: &str = "net.ipv6.conf.all.forwarding";
/// The kernel sets this to 0 with the former, and to 1 when that is taken back.
const REDIRECTS: &str = "net.ipv4.conf.all.accept_redirects";
/// What the bridges of ours say together, but for one.
pub fn switched(links: &[Link], except: &str) -> Switched {
    let others = links.iter().filter(|link| is_ours(link) && link.name != except);
    others.fold(Switched::default(), |all, link| all.or(Switched::of(&link.note)))
}

/// What has to be switched on for a new bridge, or has been for another of ours. A policy without any was left when a bridge
/// of ours was removed by hand.
pub fn needed(links: &[Link], bridge: &str, v6: bool) -> Result<Switched> {
    let mut needed = switched(links, bridge);
    if needed.is_nothing() && firewall::is_there(firewall::POLICY)? {
        needed = firewall::policy()?;
    }
    if is_off(V4) {
        needed = needed.or(Switched { v4: true, v6: false, no_redirects: is_off(REDIRECTS) });
    }
    needed.v6 |= v6 && is_off(V6);
    Ok(needed)
}

// ANCHOR: switch_on
/// Switches forwarding on where it is off. The policy comes first: the host is to be a router for its cells alone.
pub fn switch_on(links: &[Link], switched: Switched) -> Result<()> {
    firewall::set_policy(&ours(links), switched)?;
    for (setting, wanted) in [(V4, switched.v4), (V6, switched.v6)] {
        if wanted && is_off(setting) {
            settings::set(&file(setting), "1")?;
        }
    }
    Ok(())
}

/// Switches off what was switched on for a bridge that goes, unless another of ours needs it.
pub fn take_back(links: &[Link], bridge: &str) -> Result<()> {
    let Some(note) = links.iter().find(|link| link.name == bridge).map(|link| &link.note) else { return Ok(()) };
    let (was, still) = (Switched::of(note), switched(links, bridge));
    if was.is_nothing() {
        return Ok(());
    }
    purpose("it was switched on for cells: this host passes no packets on any more");
    switch_off(was.v4 && !still.v4, was.v6 && !still.v6)?;
    if was.v4 && !still.v4 && was.no_redirects {
        settings::set(&file(REDIRECTS), "0")?;
    }
    let others: Vec<Link> = links.iter().filter(|link| link.name != bridge).cloned().collect();
    if still.is_nothing() { firewall::remove_policy() } else { firewall::set_policy(&ours(&others), still) }
}
// ANCHOR_END: switch_on

fn switch_off(v4: bool, v6: bool) -> Result<()> {
    for (setting, off) in [(V4, v4), (V6, v6)] {
        if off && !is_off(setting) {
            settings::set(&file(setting), "0")?;
        }
    }
    Ok(())
}

/// The names of our bridges.
fn ours(links: &[Link]) -> Vec<&str> {
    links.iter().filter(|link| is_ours(link)).map(|link| link.name.as_str()).collect()
}

/// Writes the policy anew if it was thrown away.
pub fn restore_policy(links: &[Link]) -> Result<()> {
    let switched = switched(links, "");
    let gone = !switched.is_nothing() && !firewall::is_there(firewall::POLICY)?;
    if gone { firewall::set_policy(&ours(links), switched) } else { Ok(()) }
}

/// A policy without a bridge: that was removed by hand, and its note with it. Takes back what the rules say.
pub fn prune(netlink: &Netlink) -> Result<bool> {
    let lost = switched(&link::links(netlink)?, "").is_nothing() && firewall::is_there(firewall::POLICY)?;
    if !lost {
        return Ok(false);
    }
    let was = firewall::policy()?;
    switch_off(was.v4, was.v6)?;
    firewall::remove_policy()?;
    Ok(true)
}

/// What makes each link with an advertised route go on listening to its router while it forwards: the setting for all links
/// reaches none that is there already.
pub fn advertised_uplinks(netlink: &Netlink) -> Result<String> {
    let routes = link::routes(netlink, false)?;
    let listens = |link: &Link| {
        let setting = format!("/proc/sys/net/ipv6/conf/{}/accept_ra", link.name);
        let told = routes.iter().any(|route| route.advertised && route.link == link.index);
        told && fs::read_to_string(setting).is_ok_and(|value| value.trim() != "2")
    };
    // sysctl takes a dot in a link's name for a slash, and the other way round.
    let setting = |link: &Link| format!(" net.ipv6.conf.{}.accept_ra=2", link.name.replace('.', "/"));
    Ok(link::links(netlink)?.iter().filter(|link| listens(link)).map(setting).collect())
}

/// The size of the largest packet that each of the host's default routes takes. Behind a smaller one, a tunnel's say, larger packets
/// are lost wherever a network keeps back the message that they were too large. It is at least what IPv6 needs.
pub fn mtu_of_the_way_out(netlink: &Netlink) -> Result<u32> {
    const ETHERNET: u32 = 1500;
    const LEAST_OF_IPV6: u32 = 1280;
    let routes = [link::routes(netlink, true)?, link::routes(netlink, false)?].concat();
    let links = link::links(netlink)?;
    let is_way_out = |link: &&Link| routes.iter().any(|route| route.to.is_none() && route.link == link.index);
    let least = links.iter().filter(is_way_out).map(|link| link.mtu).min();
    Ok(least.unwrap_or(ETHERNET).max(LEAST_OF_IPV6))
}

fn is_off(setting: &str) -> bool {
    fs::read_to_string(file(setting)).is_ok_and(|value| value.trim() == "0")
}

fn file(setting: &str) -> String {
    format!("/proc/sys/{}", sysctl::file(setting))
}
