//! /proc and /sys: fresh ones, and what of them stays closed.
//!
//! Both are windows into the one kernel that host and cell share. A fresh /proc shows this pid namespace only; but its
//! settings and some of its files are the whole machine's.

use std::path::Path;

use anyhow::{Context, Result};
use kernel::sys::mount::{self, Attributes, Depth};
use kernel::{Errno, Failure, Fd, purpose};

use crate::Planned;
use crate::file_systems::{self, PROC, SYS, file_system};
use crate::place::Place;

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
pub(crate) fn proc() -> Result<Planned> {
    purpose("a fresh /proc, so that ps sees this pid namespace only");
    Ok(PROC.plan("place /proc")?)
}
// ANCHOR_END: proc

// ANCHOR: sys
/// A fresh /sys, read-only (man 5 sysfs); where only the owner of the network namespace may make one, the host's.
///
/// # Shell: `mount -t sysfs -o ro sysfs /sys`
pub(crate) fn sys() -> Result<Planned> {
    purpose("a fresh /sys, read-only: devices can be seen, not changed");
    let mount = match SYS.make() {
        Err(refused) if refused.errno() == Some(Errno::EPERM) => {
            purpose("only the network namespace's owner may: bind the host's, read-only to the last mount");
            let host = host_sys()?;
            close_sys(&host)?;
            host
        }
        fresh => fresh?,
    };
    Ok(Planned { what: "place /sys", mount, place: Place::system(SYS.place) })
}

/// The host's /sys with all that is mounted in it, without a place. [`close_sys`] is still to be called.
pub fn host_sys() -> Result<Fd, Failure> {
    let host = mount::open_path(Path::new("/sys"), "host's /sys")?;
    mount::open_tree(&host, Depth::Recursive, "sys")
}

/// Makes the host's /sys read-only to the last mount: cgroups and securityfs could be written otherwise (as in CVE-2023-25809).
pub fn close_sys(host: &Fd) -> Result<(), Failure> {
    mount::mount_setattr(host, Depth::Recursive, SYS.attributes)
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
            None => file_system("tmpfs", &["size=4k"], file_systems::READ_ONLY, "empty")?,
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
