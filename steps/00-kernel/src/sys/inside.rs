//! Lesson 1: files of a root filesystem, read as if an attacker had made them.
//!
//! `/etc/passwd` of an image may be a FIFO, which blocks its reader for ever; a device, whose opening has effects; a link to
//! a file of the host's in /proc/PID/root; or /dev/zero, which never ends. And it may become one of these between a look and
//! the opening. So it is opened without being opened (O_PATH), looked at, and then *that* file is opened again.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Mutex;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use super::mount::open_patiently;
use crate::Failure;
use crate::explain::call;

/// How much of a file of a root filesystem is read at most, in bytes.
pub const MOST: u64 = 1 << 20;

/// The beginning of a regular file below `root`, `most` bytes of it; `None` if it is missing or of another kind.
///
/// No `..` and no symbolic link leads out of `root`, and none of the links in /proc that are more than a path is followed.
pub fn read_below(root: impl AsFd, path: &Path, most: u64) -> Option<Vec<u8>> {
    let file = open_below(root.as_fd(), path).ok()?;
    let mut bytes = Vec::new();
    File::from(file).take(most).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The same for a process that stands in the root already. A relative path begins at the working directory.
pub fn read(path: &Path, most: u64) -> Option<Vec<u8>> {
    let root = nix::fcntl::open("/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
    let here = if path.is_absolute() { "/".into() } else { std::env::current_dir().ok()? };
    read_below(&root, &here.join(path), most)
}

fn open_below(root: impl AsFd, path: &Path) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let how = |flags: OFlag| OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
    let place = open_patiently(&root, path, how(OFlag::O_PATH))?;
    match reopen(&place) {
        // Without a /proc (step 1 has none) the path is walked again. What is put there in between cannot make us wait; a
        // device is opened only if the rules for devices, which bind this process already, let the cell open it as well.
        Err(Errno::ENOENT) => {
            let file = open_patiently(&root, path, how(READ_ONLY))?;
            let (seen, opened) = (fstat(&place)?, fstat(&file)?);
            let is_same = (seen.st_dev, seen.st_ino) == (opened.st_dev, opened.st_ino);
            if is_same { Ok(file) } else { Err(Errno::ESTALE) }
        }
        opened => opened,
    }
}

const READ_ONLY: OFlag = OFlag::O_RDONLY.union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY).union(OFlag::O_CLOEXEC);

/// Opens for reading what an O_PATH descriptor stands for, if it is a regular file: whatever its name means by now.
///
/// # Errors
/// EINVAL: it is of another kind. ENOENT: there is no /proc, or something else stands in its place.
pub fn reopen(place: impl AsFd) -> Result<OwnedFd, Errno> {
    let place = place.as_fd();
    if !is(&fstat(place)?, SFlag::S_IFREG) {
        return Err(Errno::EINVAL);
    }
    let open = |links: &OwnedFd| openat(links, place.as_raw_fd().to_string().as_str(), READ_ONLY, Mode::empty());
    match &*LINKS.lock().expect("one thread") {
        Some(held) => open(held),
        None => open(&links()?),
    }
}

/// The links to the descriptors of this process, in /proc.
fn links() -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let links = nix::fcntl::open("/proc/self/fd", flags, Mode::empty()).map_err(|_| Errno::ENOENT)?;
    // A directory of the image's that is called /proc could have a device in it that is called /proc/self/fd/3.
    if fstatfs(&links)?.filesystem_type() == PROC_SUPER_MAGIC { Ok(links) } else { Err(Errno::ENOENT) }
}

static LINKS: Mutex<Option<OwnedFd>> = Mutex::new(None);

/// While this lives, files are opened again by the /proc that was there when it was made.
#[derive(Debug)]
pub struct HeldLinks(());

impl HeldLinks {
    /// For a process that will stand in a root whose /proc does not show it (step 7).
    ///
    /// # Errors
    /// There is no /proc.
    pub fn hold() -> Result<HeldLinks, Failure> {
        let links = links();
        *LINKS.lock().expect("one thread") = links.as_ref().ok().map(OwnedFd::try_clone).and_then(Result::ok);
        call(format_args!("open(\"/proc/self/fd\", PATH|DIRECTORY)"), links.map(drop))?;
        Ok(HeldLinks(()))
    }
}

impl Drop for HeldLinks {
    fn drop(&mut self) {
        *LINKS.lock().expect("one thread") = None;
    }
}

/// Whether a file is of that kind (man 7 inode).
pub fn is(about: &FileStat, kind: SFlag) -> bool {
    SFlag::from_bits_truncate(about.st_mode & libc::S_IFMT) == kind
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A FIFO, a device, a link into /proc: each is at once no file. A link inside is followed, one that leads out is not.
    #[test]
    fn regular_files_only() {
        let folder = std::env::temp_dir().join(format!("cellblock-inside-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("file"), "inside").unwrap();
        nix::unistd::mkfifo(&folder.join("fifo"), Mode::S_IRUSR).unwrap();
        let links = [("within", "/file"), ("out", "/etc/hostname"), ("magic", "/proc/self/exe"), ("zero", "/dev/zero")];
        links.iter().for_each(|(name, target)| symlink(target, folder.join(name)).unwrap());
        let root = File::open(&folder).unwrap();
        let read = |name: &str| read_below(&root, Path::new(name), 4);
        assert_eq!(read("within").as_deref(), Some(&b"insi"[..]));
        for name in ["fifo", "out", "magic", "zero", "nosuch", "."] {
            assert_eq!(read(name), None, "{name}");
        }
        let whole = File::open("/").unwrap();
        for path in ["/dev/zero", "/proc/self/exe", "/proc/self/fd/0"] {
            assert_eq!(read_below(&whole, Path::new(path), 4), None, "{path}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
