//! Through what each process needs: processes, memory, the disk. Each has a fuse.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use kernel::sys::clone::{self, Clone};
use nix::sys::stat::{Mode, SFlag, mknod as make_node};

use super::Verdict::{self, Escaped, Held};
use super::{in_child, reason};

/// Makes processes until the kernel says no, or until the fuse.
pub fn fork_bomb() -> Verdict {
    const FUSE: usize = 400;
    let mut children = Vec::new();
    let verdict = loop {
        if children.len() == FUSE {
            break Escaped(format!("made {FUSE} processes, and only the fuse stopped it"));
        }
        match clone::fork("bomb") {
            Ok(Clone::Child) => loop {
                nix::unistd::pause();
            },
            Ok(Clone::Parent(child)) => children.push(child),
            Err(failure) => {
                break Held(format!("stopped: {}", failure.errno().map_or_else(String::new, |e| format!("{e:?}"))));
            }
        }
    };
    for child in &children {
        let _ = child.send_signal(kernel::sys::signal::SIGKILL).and_then(|()| child.wait());
    }
    verdict
}

/// Takes memory, page by page, until it is killed, or until the fuse.
pub fn memory() -> Verdict {
    const FUSE: usize = 256 << 20;
    let taken = in_child(|| {
        let mut hoard = vec![0_u8; FUSE];
        hoard.iter_mut().step_by(4096).for_each(|page| *page = 1);
        std::hint::black_box(&hoard); // taken, though it is not used
        0
    });
    match taken {
        Some(_) => Escaped(format!("took {} MiB, and only the fuse stopped it", FUSE >> 20)),
        None => Held("killed on the way".to_owned()),
    }
}

/// Makes a node for the disk on which we lie (or for a loop device), and opens it.
pub fn mknod() -> Verdict {
    const LOOP_DEVICE: u64 = 7 << 8;
    let root = std::fs::metadata("/").map_or(LOOP_DEVICE, |root| root.dev());
    let mut held = String::new();
    for device in [root, LOOP_DEVICE] {
        match open_through_node(device) {
            Ok(_) => return Escaped("opened a disk of the host's".to_owned()),
            Err(why) => held = why,
        }
    }
    Held(held)
}

fn open_through_node(device: u64) -> Result<File, String> {
    const NODE: &str = "/tmp/inmate-disk";
    make_node(Path::new(NODE), SFlag::S_IFBLK, Mode::S_IRUSR, device).map_err(|errno| format!("mknod => {errno:?}"))?;
    let opened = File::open(NODE).map_err(|error| reason(&error));
    let _ = std::fs::remove_file(NODE);
    opened
}
