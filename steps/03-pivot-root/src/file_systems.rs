//! New file systems: the table of those that every cell has, and how one is made (man 2 fsopen).

use std::ffi::CString;
use std::path::Path;

use kernel::sys::mount::{self, Attributes, Depth};
use kernel::{Failure, Fd, purpose};

use crate::Planned;
use crate::place::Place;

/// A file system that every cell has.
#[derive(Debug, Clone, Copy)]
pub struct Standard {
    /// Where it is mounted, as a path below the root.
    pub place: &'static str,
    /// As in /proc/filesystems.
    pub kind: &'static str,
    /// As `mount -o` takes them.
    pub options: &'static [&'static str],
    /// What the mount forbids.
    pub attributes: Attributes,
}

/// What most mounts forbid: device nodes, programs, and rights that come with a program.
pub const QUIET: Attributes = NO_PROGRAMS.union(Attributes::NODEV);
/// [`QUIET`], and nothing can be written.
pub(crate) const READ_ONLY: Attributes = QUIET.union(Attributes::RDONLY);
const NO_PROGRAMS: Attributes = Attributes::NOSUID.union(Attributes::NOEXEC);

// ANCHOR: standard
/// The file systems that every cell has, in the order in which they are mounted. The bundles that step 7 writes list them, too.
pub const STANDARD: [Standard; 6] = [PROC, DEV, PTS, SHM, MQUEUE, SYS];

/// The processes of this pid namespace, and the kernel's settings.
pub const PROC: Standard = Standard { place: "proc", kind: "proc", options: &[], attributes: QUIET };
/// An empty directory for device nodes.
pub const DEV: Standard =
    Standard { place: "dev", kind: "tmpfs", options: &["mode=755", "size=64k"], attributes: NO_PROGRAMS };
/// Terminals, numbered from 0: none of the host's is among them.
pub const PTS: Standard =
    Standard { place: "dev/pts", kind: "devpts", options: &["mode=620", "ptmxmode=666"], attributes: NO_PROGRAMS };
/// Shared memory (man 7 shm_overview).
pub const SHM: Standard =
    Standard { place: "dev/shm", kind: "tmpfs", options: &["mode=1777", "size=64m"], attributes: QUIET };
/// Message queues (man 7 mq_overview).
pub const MQUEUE: Standard = Standard { place: "dev/mqueue", kind: "mqueue", options: &[], attributes: QUIET };
/// Devices and drivers: read-only, because they are the whole machine's.
pub const SYS: Standard = Standard { place: "sys", kind: "sysfs", options: &[], attributes: READ_ONLY };
// ANCHOR_END: standard

impl Standard {
    /// Makes it, without a place.
    pub(crate) fn make(&self) -> Result<Fd, Failure> {
        let label = self.place.rsplit('/').next().unwrap_or(self.place);
        file_system(self.kind, self.options, self.attributes, label)
    }

    /// Makes it, and says where it belongs.
    pub(crate) fn plan(&self, what: &'static str) -> Result<Planned, Failure> {
        Ok(Planned { what, mount: self.make()?, place: Place::system(self.place) })
    }
}

// ANCHOR: new
/// A new file system as a mount without a place (man 2 fsopen). Its options are words, as `mount -o` takes them.
///
/// # Errors
/// EPERM where a user namespace may not mount such a file system; EINVAL: an option that it does not know.
pub fn file_system(
    kind: &str,
    options: &[impl AsRef<str>],
    attributes: Attributes,
    label: &'static str,
) -> Result<Fd, Failure> {
    let new = mount::fsopen(&c_string(kind)?, "new")?;
    for option in options {
        match option.as_ref().split_once('=') {
            Some((key, value)) => mount::fsconfig_set(&new, &c_string(key)?, &c_string(value)?)?,
            None => mount::fsconfig_flag(&new, &c_string(option.as_ref())?)?,
        }
    }
    mount::fsmount(&new, attributes, label)
}
// ANCHOR_END: new

fn c_string(text: &str) -> Result<CString, Failure> {
    CString::new(text).map_err(|_| Failure::new(format!("{text:?} cannot be a mount option: it contains a NUL")))
}

/// A file system of a later step. It is mounted read-only, with these things in it.
#[derive(Debug, Default)]
pub struct FileSystem {
    /// As in /proc/filesystems.
    pub kind: &'static str,
    /// Its place, below the root.
    pub place: String,
    /// Its options, as `mount -o` takes them: `cpu`, or `size=64k`.
    pub options: Vec<String>,
    /// Directories that are made in it, for others to be mounted on.
    pub directories: Vec<String>,
    /// Symbolic links that are made in it: where each leads, and its name.
    pub links: Vec<(String, String)>,
}

impl FileSystem {
    pub(crate) fn mount(&self) -> Result<Planned, Failure> {
        purpose("a file system of a later lesson, read-only");
        let mount = file_system(self.kind, &self.options, QUIET, "more")?;
        for directory in &self.directories {
            mount::mkdirat(&mount, Path::new(directory))?;
        }
        for (target, name) in &self.links {
            mount::symlinkat(target, &mount, name)?;
        }
        mount::mount_setattr(&mount, Depth::One, Attributes::RDONLY)?;
        Ok(Planned { what: "place it", mount, place: Place::system(&self.place) })
    }
}
