//! /proc and /sys: fresh ones, and what of them stays closed.
//!
//! Both are windows into the one kernel that host and cell share. A fresh /proc shows this pid namespace only; but its
//! settings and some of its files are the whole machine's.

use std::path::Path;

use anyhow::{Context, Result};
use kernel::sys::mount::{self, Attributes, Depth};
use kernel::{Errno, Fd, purpose};

use crate::place::Place;
use crate::{Planned, file_system};

const QUIET: Attributes = Attributes::NOSUID.union(Attributes::NODEV).union(Attributes::NOEXEC);

// ANCHOR: lists
/// No process in a cell needs to read these: the kernel's memory and timers, keys, firmware, the power meter by which
/// a neighbour's secrets can be guessed. The list is Docker's.
pub const MASKED: [&str; 12] = [
    "proc/acpi",
    "proc/asound",
    "proc/interrupts",
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/sched_debug",
    "proc/scsi",
    "proc/timer_list",
    "proc/timer_stats",
    "sys/devices/virtual/powercap",
    "sys/firmware",
];

/// These may be read, but a write would change the host: its settings, its buses, its interrupts, its end.
pub const READ_ONLY: [&str; 5] = ["proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"];
// ANCHOR_END: lists

// ANCHOR: proc
/// A fresh /proc (man 5 proc).
///
/// # Shell: `mount -t proc proc /proc`
pub fn proc() -> Result<Planned> {
    purpose("a fresh /proc, so that ps sees this pid namespace only");
    let proc = file_system(c"proc", &[], QUIET, "proc")?;
    Ok(Planned { what: "place /proc", mount: proc, place: Place::system("proc") })
}
// ANCHOR_END: proc

// ANCHOR: sys
/// A fresh /sys, read-only (man 5 sysfs); where only the owner of the network namespace may make one, the host's.
///
/// # Shell: `mount -t sysfs -o ro sysfs /sys`
pub fn sys() -> Result<Planned> {
    purpose("a fresh /sys, read-only: devices can be seen, not changed");
    let read_only = QUIET.union(Attributes::RDONLY);
    let sys = match file_system(c"sysfs", &[], read_only, "sys") {
        Err(refused) if refused.errno() == Some(Errno::EPERM) => {
            purpose("only the network namespace's owner may: bind the host's, read-only to the last mount");
            let host = mount::open_path(Path::new("/sys"), "host's /sys")?;
            let copy = mount::open_tree(&host, Depth::Recursive, "sys")?;
            mount::mount_setattr(&copy, Depth::Recursive, read_only)?;
            copy
        }
        fresh => fresh?,
    };
    Ok(Planned { what: "place /sys", mount: sys, place: Place::system("sys") })
}
// ANCHOR_END: sys

// ANCHOR: mask
/// Covers what no process in the cell may read: a file with the null device, a directory with an empty one. `null` is a mount of the null
/// device that has no place yet.
pub fn mask_paths<'a>(root: &Fd, null: &Fd, paths: impl Iterator<Item = &'a str>) -> Result<()> {
    purpose("cover what no process in here needs to read");
    let (mut null_is_placed, mut empty) = (false, None::<Fd>);
    for path in paths {
        let Some(target) = Place::closed(path).find_closed(root)? else { continue };
        let is_directory = mount::is_directory(&target)?;
        // Before Linux 6.15 only what has a place can be copied: so the first of each kind is placed, and copied for others.
        let cover = match &empty {
            _ if !is_directory && null_is_placed => mount::open_tree(null, Depth::One, "null")?,
            _ if !is_directory => null.duplicate()?,
            Some(placed) => mount::open_tree(placed, Depth::One, "empty")?,
            None => file_system(c"tmpfs", &[(c"size", c"4k")], QUIET.union(Attributes::RDONLY), "empty")?,
        };
        mount::move_mount(&cover, &target).with_context(|| format!("cannot mask /{path}"))?;
        if is_directory {
            empty = Some(cover);
        } else {
            null_is_placed = true;
        }
    }
    Ok(())
}
// ANCHOR_END: mask

// ANCHOR: read_only
/// Puts a read-only mount of each place over the place itself.
///
/// # Shell: `mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys`
pub fn make_read_only<'a>(root: &Fd, paths: impl Iterator<Item = &'a str>) -> Result<()> {
    purpose("what may be read, but would change the host if written");
    for path in paths {
        let Some(target) = Place::closed(path).find_closed(root)? else { continue };
        let copy = mount::open_tree(&target, Depth::Recursive, "copy")?;
        mount::mount_setattr(&copy, Depth::Recursive, Attributes::RDONLY)?;
        mount::move_mount(&copy, &target).with_context(|| format!("cannot make /{path} read-only"))?;
    }
    Ok(())
}
// ANCHOR_END: read_only
