//! Addresses, handed out safely without a daemon and without a file.
//!
//! Who has which address stands where the kernel keeps it: as a note on the host's end of each cell's cable. When a
//! cell ends, in whatever way, the kernel takes its network namespace down, the cable with it, and so the note: the
//! address is free again. So that two launchers do not take the same one, each holds a lock while it chooses.

use std::fs::File;
use std::time::Duration;

use anyhow::Result;
use kernel::sys::errno;
use kernel::sys::lock::Lock;
use kernel::sys::netlink::Netlink;
use kernel::{Errno, Failure, Remedy, purpose};

use crate::link::{self, Link, Mac};
use crate::note::{OURS, our_mac, subnets_of};
use crate::options;
use crate::publish::Port;
use crate::settings;
use crate::subnet::Subnet;

const MAC: &str = "mac=";

/// What a cell has: its number in the subnet, and its published ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Its number, counted from the subnet's base.
    pub number: u32,
    /// The address of its network card, if it is not the one that goes with the number.
    pub mac: Option<Mac>,
    /// Its published ports.
    pub ports: Vec<Port>,
}

impl Lease {
    /// The note on the host's end of the cable: `cellblock 10.76.0.2 8080:80/tcp`. A card's address that was asked for
    /// stands before the ports: `mac=02:00:00:00:00:07`.
    ///
    /// # Errors
    /// More ports than the kernel's 255 bytes hold.
    pub fn note(&self, v4: Subnet) -> Result<String, Failure> {
        let ports: String = self.ports.iter().map(|port| format!(" {port}")).collect();
        let mac = self.mac.map(|mac| format!(" {MAC}{}", link::show_mac(mac))).unwrap_or_default();
        let note = format!("{OURS}{}{mac}{ports}", v4.host(self.number));
        if note.len() > 255 {
            let text = format!("{} published ports are too many for one cell", self.ports.len());
            return Err(Failure::new(text)
                .hint("the kernel's note on a link holds about fifteen; a range counts as one: -p 8000-8005:80-85"));
        }
        Ok(note)
    }

    /// The address of its network card.
    pub fn mac(&self, v4: Subnet) -> Mac {
        self.mac.unwrap_or_else(|| our_mac(v4, self.number))
    }

    /// Reads a note; `None` if it is not ours.
    pub fn read(note: &str, v4: Subnet) -> Option<Lease> {
        let mut words = note.strip_prefix(OURS)?.split(' ').peekable();
        let number = v4.number_of(words.next()?.parse().ok()?)?;
        let mac = words.next_if(|word| word.starts_with(MAC)).map(|word| options::mac(&word[MAC.len()..]).ok());
        let mac = if mac == Some(None) { return None } else { mac.flatten() };
        Some(Lease { number, mac, ports: words.map(|word| word.parse().ok()).collect::<Option<_>>()? })
    }
}

/// All leases on a bridge, with the name of the link that bears each.
pub fn leases(links: &[Link], bridge: &Link, v4: Subnet) -> Vec<(String, Lease)> {
    let plugged = links.iter().filter(|link| link.master == Some(bridge.index));
    plugged.filter_map(|link| Some((link.name.clone(), Lease::read(&link.note, v4)?))).collect()
}

// ANCHOR: lock
/// Waits for the lock whose holder may change the bridges of this network namespace (man 2 flock). It is a lock on a file that
/// each network namespace has, and that only the namespace's root can open: any process may open the namespace itself, and a
/// stranger's lock on that would keep root waiting. There is nothing to make and nothing to remove, and the lock ends with its
/// holder. It is the same file for all launchers that see the same /proc; one in a pid namespace of its own, but in this network
/// namespace, has another.
pub fn lock() -> Result<Lock, Failure> {
    const FILE: &str = "/proc/sys/net/ipv4/route/flush"; // mode 0200; to open it changes nothing
    let file = File::options().write(true).open(FILE);
    let file = file.map_err(|error| Failure::call(format_args!("open({FILE:?}, WRONLY)"), errno(error)));
    Lock::wait(file.hint_on(Errno::EROFS, settings::WRITABLE)?, "<network namespace>")
}
// ANCHOR_END: lock

// ANCHOR: choose
/// Chooses a number: the one that was asked for, or the first that nobody has. The lock must be held.
///
/// # Errors
/// The wanted one is taken, or none is left.
pub fn choose(netlink: &Netlink, bridge: &Link, v4: Subnet, wanted: Option<u32>) -> Result<u32> {
    purpose("who has which address? it stands on the links themselves");
    let Some(wanted) = wanted else {
        let taken = leases(&link::links(netlink)?, bridge, v4);
        let free = (2..=v4.last()).find(|number| taken.iter().all(|(_, lease)| lease.number != *number));
        return free.ok_or_else(|| {
            let text = format!("no address of {v4} is free on {}", bridge.name);
            Failure::new(text).hint("end some cells, or take a larger --subnet with another --bridge").into()
        });
    };
    let owner = |links: &[Link]| {
        let leases = leases(links, bridge, v4);
        leases.into_iter().find(|(_, lease)| lease.number == wanted).map(|(name, _)| name)
    };
    match wait_until_free(netlink, owner)? {
        None => Ok(wanted),
        Some(owner) => {
            let text = format!("the address {} is taken, by the link {owner}", v4.host(wanted));
            Err(Failure::new(text).hint("leave --ip out, and the first free one is taken").into())
        }
    }
}
// ANCHOR_END: choose

/// Refuses a port that another cell publishes. While its launcher lives, the port is bound as well; a container that goes
/// on alone (step 7) has nobody who could.
pub fn refuse_taken(netlink: &Netlink, ports: &[Port]) -> Result<()> {
    for port in ports {
        purpose("does another cell publish this port?");
        let owner = |links: &[Link]| {
            let bridges = links.iter().filter_map(|link| Some((link, *subnets_of(link)?.first()?)));
            let mut leases = bridges.flat_map(|(bridge, v4)| leases(links, bridge, v4));
            leases.find(|(_, lease)| lease.ports.iter().any(|other| other.overlaps(port))).map(|(name, _)| name)
        };
        if let Some(owner) = wait_until_free(netlink, owner)? {
            let text = format!("cannot publish {port}: another cell does, at the link {owner}");
            return Err(Failure::new(text).hint("take another port of the host's").into());
        }
    }
    Ok(())
}

/// Waits until there is no owner any more, or for a second at most: a cell that was killed just now loses its cable a few
/// milliseconds later, and the kernel tells those who listen.
fn wait_until_free(netlink: &Netlink, owner: impl Fn(&[Link]) -> Option<String>) -> Result<Option<String>> {
    const PATIENCE: Duration = Duration::from_secs(1);
    let news = Netlink::link_news()?;
    loop {
        let owner = owner(&link::links(netlink)?);
        if owner.is_none() || !news.wait(PATIENCE)? {
            return Ok(owner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written() {
        let v4: Subnet = "10.76.0.0/16".parse().unwrap();
        let lease = Lease {
            number: 2,
            mac: None,
            ports: vec!["8080:80".parse().unwrap(), "127.0.0.1:53:53/udp".parse().unwrap()],
        };
        let note = lease.note(v4).unwrap();
        assert_eq!(note, "cellblock 10.76.0.2 8080:80/tcp 127.0.0.1:53:53/udp");
        assert_eq!(Lease::read(&note, v4), Some(lease.clone()));
        let lease = Lease { mac: Some([2, 0, 0, 0, 0, 7]), ..lease };
        let note = lease.note(v4).unwrap();
        assert!(note.starts_with("cellblock 10.76.0.2 mac=02:00:00:00:00:07 8080"), "{note}");
        assert_eq!(Lease::read(&note, v4), Some(lease));
        for other in [
            "",
            "my own note",
            "cellblock",
            "cellblock 10.77.0.2",
            "cellblock 10.76.0.2 x",
            "cellblock 10.76.0.2 mac=x",
        ] {
            assert_eq!(Lease::read(other, v4), None, "{other:?}");
        }
    }
}
