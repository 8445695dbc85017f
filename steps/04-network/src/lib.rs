//! Step 4, the visiting room: no network, the host's, or a bridge.
//!
//! A network namespace is a network stack of its own: links, addresses, routes, ports, firewall rules. A new one has
//! nothing but a loopback, and that is switched off. To let visitors in, a virtual cable is laid from the cell to a
//! bridge on the host, and the host passes packets on between the bridge and the world.
//!
//! What order matters:
//!
//! 1. [`Plan::prepare`], before the child is born: the bridge is there, an address is chosen, and the lock keeps other launchers from choosing until step 2 has ended.
//! 2. [`Network::plug`], while the child waits at the gate: the parent makes the cable, with one end in the child's
//!    namespace. Only the parent can: it alone stands on the host's side.
//! 3. [`Network::configure_interfaces`], in the child: its own end gets its address and its way out. Only the child can, for the
//!    same reason.
//!
//! Links and addresses are asked for by [`link`]'s messages; the firewall's rules by the program `nft` ([`firewall`]).

use std::net::IpAddr;

use anyhow::{Context, Result};
use kernel::purpose;
use kernel::sys::clone::{CloneFlags, write_file};
use kernel::sys::netlink::Netlink;
use namespaces::Child;

mod bridge;
mod cable;
mod files;
pub mod firewall;
mod lease;
pub mod link;
mod neighbours;
mod note;
mod options;
mod other_firewalls;
mod own_addresses;
mod prune;
mod publish;
mod router;
mod sets;
mod settings;
mod subnet;
pub mod sysctl;

use bridge::Plugged;
pub use bridge::unplug;
pub use cable::Cable;
pub use options::{Mode, NetworkOptions, Plan};
pub use prune::{PruneOptions, prune};

/// The cell's network, from the parent's side. Dropped, what was made for it is removed.
#[derive(Debug)]
pub struct Network {
    plan: Plan,
    plugged: Option<Plugged>,
}

impl Plan {
    /// Does what must be done before the child is born.
    pub fn prepare(self) -> Result<Network> {
        let plugged = if self.mode == Mode::Bridge { Some(Plugged::prepare(&self)?) } else { None };
        Ok(Network { plan: self, plugged })
    }
}

impl Network {
    /// The namespace that the child is born into: a network of its own, unless it has the host's.
    pub fn flags(&self) -> CloneFlags {
        if self.plan.mode == Mode::Host { CloneFlags::empty() } else { CloneFlags::CLONE_NEWNET }
    }

    /// The files by which programs in the cell find names.
    pub fn files(&self, hostname: &str) -> Vec<(&'static str, String)> {
        files::files(&self.plan, &self.addresses(), hostname)
    }

    /// Lays the cable from the bridge to the child.
    pub fn plug(&mut self, child: &Child) -> Result<()> {
        match &mut self.plugged {
            Some(plugged) => plugged.plug(child.pid()),
            None => Ok(()),
        }
    }

    // ANCHOR: configure_interfaces
    /// Switches on what the child finds in its namespace: the loopback, and its end of the cable.
    ///
    /// # Shell: `ip link set lo up; ip address add ADDRESS dev eth0; ip link set eth0 up; ip route add default via ...`
    pub fn configure_interfaces(&self) -> Result<()> {
        if self.plan.mode == Mode::Host {
            return Ok(());
        }
        purpose("the loopback: it is there from the start, but switched off");
        let netlink = Netlink::route()?;
        link::set_up(&netlink, "lo")?;
        let Some(plugged) = &self.plugged else { return Ok(()) };
        purpose("our end of the cable: an address, and the bridge as the way to everywhere else");
        let eth0 =
            link::links(&netlink)?.into_iter().find(|link| link.name == "eth0").context("the cable has an end here")?;
        if self.plan.mac.is_some() {
            // A neighbour may remember another card at this address: tell them all.
            write_file("/proc/sys/net/ipv4/conf/eth0/arp_notify", "1")?;
        }
        settings::learn_nothing("eth0")?;
        settings::refuse_redirects()?;
        for (subnet, address) in plugged.subnets.iter().zip(self.addresses()) {
            link::add_address(&netlink, &eth0, address, subnet.prefix)?;
        }
        link::set_up(&netlink, "eth0")?;
        for subnet in &plugged.subnets {
            // No neighbour can answer for the router.
            neighbours::address_is_at(&netlink, &eth0, subnet.host(1), note::our_mac(plugged.subnets[0], 1))?;
            link::add_default_route(&netlink, subnet.host(1))?;
        }
        Ok(())
    }
    // ANCHOR_END: configure_interfaces

    /// Which cable is the cell's, once it is laid: to be written down (step 7).
    pub fn cable(&self) -> Option<Cable> {
        self.plugged.as_ref().map(Plugged::cable)
    }

    /// The cell keeps its place when this is dropped: [`unplug`] gives it back.
    pub fn stay(&mut self) {
        self.plugged.iter_mut().for_each(|plugged| plugged.stays = true);
    }

    /// The cell's addresses.
    fn addresses(&self) -> Vec<IpAddr> {
        let host = |plugged: &Plugged| plugged.subnets.iter().map(|subnet| subnet.host(plugged.number)).collect();
        self.plugged.as_ref().map(host).unwrap_or_default()
    }
}
