//! A network device of the host, moved into the container.
//!
//! A device is in one network namespace at a time. On its way it is switched off and loses its addresses, so they are noted
//! before and given back there (config-linux.md, Network Devices). When the namespace ends, the kernel gives a real card
//! back to the host, and removes a virtual one.

use std::net::IpAddr;
use std::path::Path;

use crate::sys::namespace;
use anyhow::{Context, Result};
use kernel::sys::clone::CloneFlags;
use kernel::sys::netlink::Netlink;
use kernel::{Errno, Failure, Fd, Remedy, purpose};

use network::link::{self, Link};

/// A device that will move, as it is on the host.
#[derive(Debug)]
pub struct Device {
    link: Link,
    /// Its name in the cell.
    inside: String,
    addresses: Vec<(IpAddr, u8)>,
}

/// Devices that have moved. Dropped before [`Moved::stay`] is called, they come back.
#[derive(Debug)]
pub struct Moved<'a> {
    home: Fd,
    there: Netlink,
    devices: Vec<&'a Device>,
}

/// Finds a device of the host's, before anything is made.
///
/// # Errors
/// A device of that name does not exist; it is the loopback, which cannot move.
pub fn find(name: &str, inside: &str) -> Result<Device> {
    purpose("a device that will move, and its addresses: it would lose them on the way");
    let netlink = Netlink::route()?;
    let link = link::links(&netlink)?.into_iter().find(|link| link.name == name);
    let link =
        link.ok_or_else(|| Failure::new(format!("there is no network device {name}")).hint("ip link lists them"))?;
    if name == "lo" {
        return Err(Failure::new("lo: each network namespace has a loopback of its own").hint("leave it out").into());
    }
    let addresses = link::addresses(&netlink, &link)?;
    Ok(Device { link, inside: inside.to_owned(), addresses })
}

/// Moves devices into a network namespace, under the names that they have there, with their addresses, switched on.
///
/// # Errors
/// EEXIST: one of that name is there already. EPERM: that takes root. EINVAL: this kind of device cannot move.
///
/// # Shell: `ip link set NAME netns PID name INSIDE`
pub fn move_in<'a>(devices: &'a [Device], namespace: &Fd) -> Result<Moved<'a>> {
    purpose("network devices of the host's move in");
    let home = namespace::open(Path::new("/proc/self/ns/net"))?;
    let here = Netlink::route()?;
    let mut moved = Moved { there: netlink_in(namespace, &home)?, home, devices: Vec::new() };
    for device in devices {
        let name = &device.link.name;
        link::move_to(&here, &device.link, namespace, &device.inside)
            .hint_on(Errno::EEXIST, "there is one of that name already: linux.netDevices.NAME.name gives it another")
            .hint_on(Errno::EINVAL, "this kind of device belongs to its namespace, and cannot leave it")
            .with_context(|| format!("cannot move the network device {name}"))?;
        moved.devices.push(device);
        settle(&moved.there, device, &device.inside, true)?;
    }
    Ok(moved)
}

impl Moved<'_> {
    /// They stay where they are.
    pub fn stay(mut self) {
        self.devices.clear();
    }

    fn take_back(&mut self) -> Result<()> {
        let here = Netlink::route()?;
        for device in std::mem::take(&mut self.devices) {
            let Some(link) = link::links(&self.there)?.into_iter().find(|link| link.name == device.inside) else {
                continue;
            };
            link::move_to(&self.there, &link, &self.home, &device.link.name)?;
            settle(&here, device, &device.link.name, device.link.is_up)?;
        }
        Ok(())
    }
}

impl Drop for Moved<'_> {
    fn drop(&mut self) {
        if self.devices.is_empty() {
            return;
        }
        purpose("the launch has failed: the network devices come back");
        let names: Vec<&str> = self.devices.iter().map(|device| device.link.name.as_str()).collect();
        let text = format!("the network devices {} did not come back", names.join(", "));
        if let Err(error) = self.take_back().context(text) {
            eprint!("{}", Failure::from_error(&error).lines("network"));
        }
    }
}

/// Its addresses again, and on it goes.
fn settle(netlink: &Netlink, device: &Device, name: &str, up: bool) -> Result<()> {
    let link = link::links(netlink)?.into_iter().find(|link| link.name == name).context("it has just moved here")?;
    for (address, prefix) in &device.addresses {
        link::add_address(netlink, &link, *address, *prefix)?;
    }
    if up {
        link::set_up(netlink, name)?;
    }
    Ok(())
}

/// A socket stays in the namespace that it was made in: so we go there for a moment.
fn netlink_in(namespace: &Fd, home: &Fd) -> Result<Netlink> {
    namespace::join(namespace, CloneFlags::CLONE_NEWNET).context("cannot reach the container's network namespace")?;
    let made = Netlink::route();
    namespace::join(home, CloneFlags::CLONE_NEWNET).context("cannot come back to the host's network namespace")?;
    Ok(made?)
}
