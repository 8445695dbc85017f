//! /dev, built from nothing.
//!
//! The host's own /dev must not be mounted here: it is one file system for the whole machine (devtmpfs), with the
//! host's disks in it, and a node that is removed in here is removed there as well.

use std::path::Path;

use anyhow::{Context, Result};
use kernel::sys::mount::{self, Attributes, Depth, ResolveFlag};
use kernel::{Errno, Failure, Fd, purpose};

use crate::place::Place;
use crate::{Planned, file_system};

// ANCHOR: nodes
/// The devices that no program can do without: name, major and minor number (Linux, devices.txt).
pub const NODES: [(&str, u64, u64); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
// ANCHOR_END: nodes

/// What programs expect to find beside them.
pub const LINKS: [(&str, &str); 6] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("/proc/kcore", "core"),
    ("pts/ptmx", "ptmx"),
];

/// The new /dev.
pub struct Dev {
    /// All its mounts, /dev itself first.
    pub planned: Vec<Planned>,
    /// Its null device, which also masks files.
    pub null: Fd,
}

// ANCHOR: dev
/// Makes /dev and the file systems that belong into it: terminals, shared memory, message queues. `given` has nodes already.
///
/// # Shell: `mount -t tmpfs tmpfs dev; mknod -m 666 dev/null c 1 3; ...`
pub fn dev(given: Option<Fd>) -> Result<Dev> {
    purpose("an empty /dev, filled with six harmless devices");
    let (dev, bound) = match given {
        Some(dev) => (dev, Vec::new()),
        None => {
            let dev = empty()?;
            let bound = mount::unmasked(|| make_nodes(&dev))?;
            (dev, bound)
        }
    };
    for (target, name) in LINKS {
        mount::symlinkat(target, &dev, name)?;
    }
    for directory in ["pts", "shm", "mqueue"] {
        mount::mkdirat(&dev, Path::new(directory))?;
    }
    let null = match bound.iter().find(|node| node.place == Place::system("dev/null")) {
        Some(node) => node.mount.duplicate()?,
        None => mount::openat2(&dev, Path::new("null"), ResolveFlag::RESOLVE_NO_SYMLINKS, "null")?,
    };
    let mut planned = vec![Planned { what: "place /dev", mount: dev, place: Place::system("dev") }];
    planned.extend(bound);
    planned.extend(file_systems()?);
    Ok(Dev { planned, null })
}
// ANCHOR_END: dev

fn empty() -> Result<Fd, Failure> {
    let quiet = Attributes::NOSUID.union(Attributes::NOEXEC);
    file_system(c"tmpfs", &[(c"mode", c"755"), (c"size", c"64k")], quiet, "dev")
}

/// A /dev with nodes of its own for a cell that may make none (step 6), all of it `owner`'s. None if this process may not either.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN; no memory.
pub fn for_a_cell(owner: (u32, u32)) -> Result<Option<Fd>> {
    let dev = empty()?;
    for (name, major, minor) in NODES {
        match mount::unmasked(|| mount::mknodat(&dev, name, major, minor)) {
            Err(refused) if refused.errno() == Some(Errno::EPERM) => return Ok(None),
            made => made.with_context(|| format!("cannot make the device {name}"))?,
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
        match mount::mknodat(dev, name, major, minor) {
            Err(refused) if refused.errno() == Some(Errno::EPERM) => bound.push(bind_node(dev, name)?),
            made => made.with_context(|| format!("cannot make the device {name}"))?,
        }
    }
    Ok(bound)
}

fn bind_node(dev: &Fd, name: &str) -> Result<Planned> {
    purpose("not ours to make: bind the host's node onto an empty file");
    mount::mkfileat(dev, Path::new(name))?;
    let path = Path::new("/dev").join(name);
    let node = mount::open_path(&path, "node").with_context(|| format!("the host has no {}", path.display()))?;
    let mount = mount::open_tree(&node, Depth::One, "device")?;
    protect(&mount)?;
    Ok(Planned { what: "place the host's device", mount, place: Place::system(&format!("dev/{name}")) })
}

/// A device can be written to through a read-only mount all the same. But the host's root, if it is root in here, could take the
/// node's permissions away from the whole machine.
pub fn protect(node: &Fd) -> Result<(), Failure> {
    mount::mount_setattr(node, Depth::One, Attributes::RDONLY.union(Attributes::NOEXEC).union(Attributes::NOSUID))
}
// ANCHOR_END: make_nodes

/// What is mounted in /dev. A devpts of our own numbers its terminals from 0 and shows none of the host's.
fn file_systems() -> Result<[Planned; 3]> {
    let quiet = Attributes::NOSUID.union(Attributes::NOEXEC);
    let quieter = quiet.union(Attributes::NODEV);
    purpose("terminals of our own");
    let pts = file_system(c"devpts", &[(c"mode", c"620"), (c"ptmxmode", c"666")], quiet, "pts")?;
    purpose("shared memory and message queues of our own");
    let shm = file_system(c"tmpfs", &[(c"mode", c"1777"), (c"size", c"64m")], quieter, "shm")?;
    let mqueue = file_system(c"mqueue", &[], quieter, "mqueue")?;
    Ok([
        Planned { what: "place the terminals", mount: pts, place: Place::system("dev/pts") },
        Planned { what: "place the shared memory", mount: shm, place: Place::system("dev/shm") },
        Planned { what: "place the message queues", mount: mqueue, place: Place::system("dev/mqueue") },
    ])
}
