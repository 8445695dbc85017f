//! Mounts as a launcher makes them: a fresh /proc, another root, and later overlay. Each is tried in a mount
//! namespace of a child.

use std::path::Path;

use kernel::sys::clone::CloneFlags;
use kernel::sys::mount::{self, Attributes};
use kernel::{Errno, Failure, Fd, purpose};

use crate::check::{Check, Lack, MOUNTS, NOBODY};
use crate::rights::{Rights, refused};
use crate::{modules, read};

/// The lines about file systems.
pub fn checks(rights: &Rights) -> Vec<Check> {
    purpose("a fresh /proc, as step 3 makes it");
    let namespaces = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS;
    let proc = rights.attempt(namespaces, make_proc, || Some(true), |errno| lack(errno, "CONFIG_PROC_FS"));
    purpose("another root, as step 3 exchanges it");
    let root = rights.attempt(
        CloneFlags::CLONE_NEWNS,
        exchange_root,
        || Some(true),
        |errno| match errno {
            Errno::EINVAL => {
                Lack::new("/ is no mount that could be exchanged", "in a chroot or an initramfs? leave it")
            }
            _ => refused(errno),
        },
    );
    purpose("an overlay of two directories, as a later lesson makes it of an image's layers");
    let registered = || read("/proc/filesystems").contains("\toverlay\n");
    let has_overlay = || if registered() { Some(true) } else { modules::in_kernel("overlay") };
    let overlay =
        rights.attempt(CloneFlags::CLONE_NEWNS, make_overlay, has_overlay, |errno| lack(errno, "CONFIG_OVERLAY_FS"));
    vec![
        Check::new("fresh-proc", MOUNTS, proc),
        Check::new("root-mount", MOUNTS, root),
        Check::new("overlay", NOBODY, overlay),
    ]
}

/// Refused in the container of an engine that covers parts of /proc: a user namespace must not uncover them this way.
fn make_proc() -> Result<(), Failure> {
    let new = mount::fsopen(c"proc", "new")?;
    mount::fsmount(&new, Attributes::NOSUID, "proc").map(drop)
}

fn exchange_root() -> Result<(), Failure> {
    enter_memory()?;
    mount::pivot_root_here()?;
    mount::detach_here()
}

/// A file system in memory, put over `/`; we stand in it.
fn enter_memory() -> Result<Fd, Failure> {
    mount::make_mounts_private()?;
    let memory = mount::fsmount(&mount::fsopen(c"tmpfs", "new")?, Attributes::NOSUID, "memory")?;
    mount::move_mount(&memory, &mount::open_path(Path::new("/"), "root")?)?;
    mount::fchdir(&memory)?;
    Ok(memory)
}

/// One directory upon the other. Overlay looks them up by name, so they need a place.
fn make_overlay() -> Result<(), Failure> {
    let memory = enter_memory()?;
    for layer in ["lower", "upper"] {
        mount::mkdirat(&memory, Path::new(layer))?;
    }
    let new = mount::fsopen(c"overlay", "new")?;
    mount::fsconfig_set(&new, c"lowerdir", c"upper:lower")?;
    mount::fsmount(&new, Attributes::NOSUID, "overlay").map(drop)
}

fn lack(errno: Errno, option: &str) -> Lack {
    match errno {
        Errno::ENODEV | Errno::EOPNOTSUPP => modules::lack(option),
        _ => refused(errno),
    }
}
