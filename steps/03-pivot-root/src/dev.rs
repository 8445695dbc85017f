//! /dev, built from nothing.
//!
//! The host's own /dev must not be mounted here: it is one file system for the whole machine (devtmpfs), with the
//! host's disks in it, and a node that is removed in here is removed there as well.

use std::path::Path;

use anyhow::{Context, Result};
use kernel::sys::mount::{self, Attributes, Depth, ResolveFlag};
use kernel::{Errno, Failure, Fd, purpose};

use crate::Planned;
use crate::file_systems::{DEV, MQUEUE, PTS, SHM};
use crate::place::Place;

// ANCHOR: nodes
/// The devices that no program can do without: name, major and minor number (Linux, devices.txt).
pub const NODES: [(&str, u64, u64); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
// ANCHOR_END: nodes

/// What programs expect to find beside them.
const LINKS: [(&str, &str); 6] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("/proc/kcore", "core"),
    ("pts/ptmx", "ptmx"),
];

/// The new /dev.
pub(crate) struct Dev {
    /// All its mounts, /dev itself first.
    pub planned: Vec<Planned>,
    /// Its null device, which also masks files.
    pub null: Fd,
}

// ANCHOR: dev
/// Makes /dev and the file systems that belong into it: terminals, shared memory, message queues. `given` has nodes already.
///
/// # Shell: `mount -t tmpfs tmpfs dev; mknod -m 666 dev/null c 1 3; ...`
pub(crate) fn dev(given: Option<Fd>) -> Result<Dev> {
    purpose("an empty /dev, filled with six harmless devices");
    let (dev, bound) = match given {
        Some(dev) => (dev, Vec::new()),
        None => {
            let dev = DEV.make()?;
            let bound = mount::unmasked(|| make_nodes(&dev))?;
            (dev, bound)
        }
    };
    make_links(&dev)?;
    for directory in ["pts", "shm", "mqueue"] {
        mount::mkdirat(&dev, Path::new(directory))?;
    }
    let null = match bound.iter().find(|node| node.place == Place::system("dev/null")) {
        Some(node) => node.mount.duplicate()?,
        None => mount::openat2(&dev, Path::new("null"), ResolveFlag::RESOLVE_NO_SYMLINKS, "null")?,
    };
    let mut planned = vec![Planned { what: "place /dev", mount: dev, place: Place::system(DEV.place) }];
    planned.extend(bound);
    planned.extend(file_systems()?);
    Ok(Dev { planned, null })
}
// ANCHOR_END: dev

/// A /dev with nodes of its own for a cell that may make none (step 6), all of it `owner`'s. None if this process may not either.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN; no memory.
pub fn for_a_cell(owner: (u32, u32)) -> Result<Option<Fd>> {
    let dev = DEV.make()?;
    for (name, major, minor) in NODES {
        let made = mount::unmasked(|| mount::mknodat(&dev, name, major, minor));
        if !is_allowed(made).with_context(|| format!("cannot make the device {name}"))? {
            return Ok(None);
        }
        mount::chownat(&dev, Path::new(name), owner)?;
    }
    mount::chownat(&dev, Path::new("."), owner)?;
    Ok(Some(dev))
}

// ANCHOR: make_nodes
/// Makes the nodes, or, where the kernel allows none to be made (in a user namespace), plans to bind the host's.
fn make_nodes(dev: &Fd) -> Result<Vec<Planned>> {
    let mut bound = Vec::new();
    for (name, major, minor) in NODES {
        let made = mount::mknodat(dev, name, major, minor);
        if !is_allowed(made).with_context(|| format!("cannot make the device {name}"))? {
            bound.push(bind_node(dev, name)?);
        }
    }
    Ok(bound)
}

/// Whether a node was made: a process in a user namespace may make none (EPERM).
pub fn is_allowed(made: Result<(), Failure>) -> Result<bool, Failure> {
    match made {
        Err(refused) if refused.errno() == Some(Errno::EPERM) => Ok(false),
        made => made.map(|()| true),
    }
}

fn bind_node(dev: &Fd, name: &str) -> Result<Planned> {
    purpose("not ours to make: bind the host's node onto an empty file");
    mount::mkfileat(dev, Path::new(name))?;
    let mount = host_node(&Path::new("/dev").join(name))?;
    Ok(Planned { what: "place the host's device", mount, place: Place::system(&format!("dev/{name}")) })
}

/// A mount of one of the host's nodes, without a place.
///
/// # Errors
/// The host has no such node.
pub fn host_node(path: &Path) -> Result<Fd> {
    let node = mount::open_path(path, "node").with_context(|| format!("the host has no {}", path.display()))?;
    let mount = mount::open_tree(&node, Depth::One, "device")?;
    protect(&mount)?;
    Ok(mount)
}

/// A device can be written to through a read-only mount all the same. But the host's root, if it is root in here, could take the
/// node's permissions away from the whole machine.
pub fn protect(node: &Fd) -> Result<(), Failure> {
    let protected = Attributes::RDONLY.union(Attributes::NOEXEC).union(Attributes::NOSUID);
    mount::mount_setattr(node, Depth::One, protected)
}
// ANCHOR_END: make_nodes

/// Makes the links that are not there yet.
pub fn make_links(dev: &Fd) -> Result<()> {
    for (target, name) in LINKS {
        match mount::symlinkat(target, dev, name) {
            Err(refused) if refused.errno() == Some(Errno::EEXIST) => {}
            made => made.with_context(|| format!("cannot make /dev/{name}"))?,
        }
    }
    Ok(())
}

fn file_systems() -> Result<[Planned; 3]> {
    purpose("terminals of our own");
    let pts = PTS.plan("place the terminals")?;
    purpose("shared memory and message queues of our own");
    Ok([pts, SHM.plan("place the shared memory")?, MQUEUE.plan("place the message queues")?])
}
