//! Lesson 3: file systems made detached, and moved onto a descriptor.
//!
//! Since Linux 5.2 a mount can exist without a place: [`fsmount`] and [`open_tree`] return it as a descriptor, and
//! [`move_mount`] puts it onto another descriptor. No path is looked up twice, so none can be exchanged in between.

use std::ffi::CStr;
use std::path::Path;

use nix::errno::Errno;
pub use nix::fcntl::ResolveFlag;
use nix::fcntl::{OFlag, OpenHow};
use nix::mount::{MntFlags, MsFlags};
use nix::sys::stat::{Mode, SFlag, makedev};

use super::{Fd, Lazy, names, new_fd};
use crate::Failure;
use crate::explain::call;

/// What a mount forbids (man 2 mount_setattr).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes(u64);

impl Attributes {
    /// Nothing can be written.
    pub const RDONLY: Attributes = Attributes(libc::MOUNT_ATTR_RDONLY);
    /// Programs here do not take on their owner's rights.
    pub const NOSUID: Attributes = Attributes(libc::MOUNT_ATTR_NOSUID);
    /// Device nodes here open nothing.
    pub const NODEV: Attributes = Attributes(libc::MOUNT_ATTR_NODEV);
    /// Nothing here can be executed.
    pub const NOEXEC: Attributes = Attributes(libc::MOUNT_ATTR_NOEXEC);

    /// Both.
    pub const fn and(self, other: Attributes) -> Attributes {
        Attributes(self.0 | other.0)
    }

    fn show(self) -> String {
        let all =
            [(Self::RDONLY, "RDONLY"), (Self::NOSUID, "NOSUID"), (Self::NODEV, "NODEV"), (Self::NOEXEC, "NOEXEC")];
        names(all.iter().filter(|(bit, _)| self.0 & bit.0 != 0).map(|(_, name)| *name), "")
    }
}

/// Makes every mount below `/` private: none made here appears on the host, none made there appears here
/// (man 7 mount_namespaces).
///
/// # Shell: `mount --make-rprivate /`
pub fn make_mounts_private() -> Result<(), Failure> {
    let none = None::<&str>; // an empty string instead of NULL would cost the kernel a page each
    let result = nix::mount::mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none);
    call(format_args!("mount(NULL, \"/\", NULL, REC|PRIVATE, NULL)"), result)
}

/// A descriptor that stands for a place and reads nothing (man 2 open, O_PATH).
pub fn open_path(path: &Path, label: &'static str) -> Result<Fd, Failure> {
    let result = nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
    call(format_args!("open({path:?}, PATH)"), result.map(|fd| Fd::new(fd, label)))
}

/// Opens a place below `root`, as if `root` were `/` (man 2 openat2): no `..` and no symbolic link leads out.
pub fn openat2(root: &Fd, path: &Path, resolve: ResolveFlag, label: &'static str) -> Result<Fd, Failure> {
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(resolve);
    let text = Lazy(|| names(resolve.iter_names().map(|(name, _)| name), "RESOLVE_"));
    let result = nix::fcntl::openat2(root, path, how);
    call(format_args!("openat2({root}, {path:?}, {text})"), result.map(|fd| Fd::new(fd, label)))
}

/// A new file system of a kind, still to be configured (man 2 fsopen).
pub fn fsopen(kind: &CStr, label: &'static str) -> Result<Fd, Failure> {
    // SAFETY: `kind` ends with a NUL and outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), libc::FSOPEN_CLOEXEC) };
    // SAFETY: fsopen gives a new descriptor.
    call(format_args!("fsopen({kind:?})"), unsafe { new_fd(result, label) })
}

/// Sets one of its options (man 2 fsconfig): `size` to `64k`.
pub fn fsconfig_set(fs: &Fd, key: &CStr, value: &CStr) -> Result<(), Failure> {
    const SET_STRING: libc::c_uint = 1;
    // SAFETY: both strings end with a NUL and outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_fsconfig, fs.raw(), SET_STRING, key.as_ptr(), value.as_ptr(), 0) };
    call(format_args!("fsconfig({fs}, {key:?}, {value:?})"), Errno::result(result).map(drop))
        .map_err(|f| with_log(fs, f))
}

/// Sets one of its options that has no value (man 2 fsconfig): `cpu`.
pub fn fsconfig_flag(fs: &Fd, key: &CStr) -> Result<(), Failure> {
    const SET_FLAG: libc::c_uint = 0;
    let null = std::ptr::null::<libc::c_char>();
    // SAFETY: `key` ends with a NUL and outlives the call; this command takes no value.
    let result = unsafe { libc::syscall(libc::SYS_fsconfig, fs.raw(), SET_FLAG, key.as_ptr(), null, 0) };
    call(format_args!("fsconfig({fs}, {key:?})"), Errno::result(result).map(drop)).map_err(|f| with_log(fs, f))
}

/// Makes the file system as configured, and a mount of it that has no place yet (man 2 fsmount).
pub fn fsmount(fs: &Fd, attributes: Attributes, label: &'static str) -> Result<Fd, Failure> {
    const CMD_CREATE: libc::c_uint = 6;
    let null = std::ptr::null::<libc::c_char>();
    // SAFETY: this command takes neither key nor value.
    let result = unsafe { libc::syscall(libc::SYS_fsconfig, fs.raw(), CMD_CREATE, null, null, 0) };
    call(format_args!("fsconfig({fs}, CREATE)"), Errno::result(result).map(drop)).map_err(|f| with_log(fs, f))?;
    // SAFETY: takes numbers only.
    let result = unsafe { libc::syscall(libc::SYS_fsmount, fs.raw(), libc::FSMOUNT_CLOEXEC, attributes.0) };
    let text = Lazy(|| attributes.show());
    // SAFETY: fsmount gives a new descriptor.
    call(format_args!("fsmount({fs}, {text})"), unsafe { new_fd(result, label) })
}

/// The kernel writes its own words about a refused option into the descriptor: they make the hint.
fn with_log(fs: &Fd, failure: Failure) -> Failure {
    let mut buffer = [0; 256];
    match nix::unistd::read(fs, &mut buffer) {
        Ok(length) => failure.hint(format!("the kernel says: {}", String::from_utf8_lossy(&buffer[..length]).trim())),
        Err(_) => failure,
    }
}

/// Whether a copied tree has the mounts below it as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// This mount alone.
    One,
    /// With all mounts below.
    Recursive,
}

impl Depth {
    fn bits(self) -> libc::c_uint {
        if self == Depth::Recursive { libc::AT_RECURSIVE as libc::c_uint } else { 0 }
    }

    fn show(self) -> &'static str {
        if self == Depth::Recursive { "|RECURSIVE" } else { "" }
    }
}

/// A second mount of the tree at `place`, without a place of its own yet: a bind mount that is still to be put
/// somewhere (man 2 open_tree).
pub fn open_tree(place: &Fd, depth: Depth, label: &'static str) -> Result<Fd, Failure> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as libc::c_uint | depth.bits();
    // SAFETY: the path is an empty string, and outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_open_tree, place.raw(), c"".as_ptr(), flags) };
    // SAFETY: open_tree gives a new descriptor.
    call(format_args!("open_tree({place}, CLONE{})", depth.show()), unsafe { new_fd(result, label) })
}

/// Changes what a mount forbids (man 2 mount_setattr, Linux 5.12).
pub fn mount_setattr(mount: &Fd, depth: Depth, attributes: Attributes) -> Result<(), Failure> {
    let change = libc::mount_attr { attr_set: attributes.0, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH as libc::c_uint | depth.bits();
    let size = size_of::<libc::mount_attr>();
    // SAFETY: `change` outlives the call, and `size` is its size; the path is an empty string.
    let result =
        unsafe { libc::syscall(libc::SYS_mount_setattr, mount.raw(), c"".as_ptr(), flags, &raw const change, size) };
    let text = Lazy(|| attributes.show());
    call(format_args!("mount_setattr({mount}, {text}{})", depth.show()), Errno::result(result).map(drop))
}

/// Puts a mount onto a place (man 2 move_mount): both are descriptors, nothing is looked up.
pub fn move_mount(mount: &Fd, place: &Fd) -> Result<(), Failure> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    let empty = c"".as_ptr();
    // SAFETY: both paths are empty strings, and outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_move_mount, mount.raw(), empty, place.raw(), empty, flags) };
    call(format_args!("move_mount({mount}, {place})"), Errno::result(result).map(drop))
}

/// Makes a place the working directory (man 2 fchdir).
pub fn fchdir(place: &Fd) -> Result<(), Failure> {
    call(format_args!("fchdir({place})"), nix::unistd::fchdir(place))
}

/// Makes the mount in which we stand the root, and puts the old root on top of it (man 2 pivot_root, "pivot_root(".", ".")").
pub fn pivot_root_here() -> Result<(), Failure> {
    call(format_args!("pivot_root(\".\", \".\")"), nix::unistd::pivot_root(".", "."))
}

/// Takes away the mount in which we stand, and all below it, as soon as nobody uses them (man 2 umount, MNT_DETACH).
pub fn detach_here() -> Result<(), Failure> {
    call(format_args!("umount2(\".\", DETACH)"), nix::mount::umount2(".", MntFlags::MNT_DETACH))
}

/// Takes away what is mounted at a place below the working directory (man 2 umount, MNT_DETACH).
pub fn detach(place: &Path) -> Result<(), Failure> {
    let result = nix::mount::umount2(place, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
    call(format_args!("umount2({place:?}, DETACH)"), result)
}

/// Makes a directory in another (man 2 mkdir).
pub fn mkdirat(parent: &Fd, name: &Path) -> Result<(), Failure> {
    let result = nix::sys::stat::mkdirat(parent, name, Mode::from_bits_truncate(0o755));
    call(format_args!("mkdirat({parent}, {name:?}, 0755)"), result)
}

/// Makes an empty file in a directory, to mount something onto (man 2 mknod).
pub fn mkfileat(parent: &Fd, name: &Path) -> Result<(), Failure> {
    let result = nix::sys::stat::mknodat(parent, name, SFlag::S_IFREG, Mode::from_bits_truncate(0o644), 0);
    call(format_args!("mknodat({parent}, {name:?}, REG|0644)"), result)
}

/// Makes a file in a directory, with that content (man 2 open, man 2 write).
pub fn write_fileat(parent: &Fd, name: &str, content: &str) -> Result<(), Failure> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let result = nix::fcntl::openat(parent, name, flags, Mode::from_bits_truncate(0o644))
        .and_then(|file| nix::unistd::write(file, content.as_bytes()));
    call(format_args!("write({parent}, {name:?}, {} bytes)", content.len()), result.map(drop))
}

/// Makes a character device's node (man 2 mknod), readable and writable for all: clear the umask before.
pub fn mknodat(parent: &Fd, name: &str, major: u64, minor: u64) -> Result<(), Failure> {
    let device = makedev(major, minor);
    let result = nix::sys::stat::mknodat(parent, name, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), device);
    call(format_args!("mknodat({parent}, {name:?}, CHR|0666, {major}:{minor})"), result)
}

/// Makes a symbolic link in a directory (man 2 symlink).
pub fn symlinkat(target: &str, parent: &Fd, name: &str) -> Result<(), Failure> {
    call(format_args!("symlinkat({target:?}, {parent}, {name:?})"), nix::unistd::symlinkat(target, parent, name))
}

/// Lets new files have the mode they are made with, and returns what was masked before (man 2 umask).
pub fn clear_umask() -> Mode {
    nix::sys::stat::umask(Mode::empty())
}

/// Masks these bits in new files again.
pub fn restore_umask(mask: Mode) {
    nix::sys::stat::umask(mask);
}

/// Whether a place is a directory (man 2 stat).
pub fn is_directory(place: &Fd) -> Result<bool, Failure> {
    let stat = nix::sys::stat::fstat(place).map_err(|errno| Failure::call(format_args!("fstat({place})"), errno))?;
    Ok(SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT) == SFlag::S_IFDIR)
}

/// Whether a place lies in a /proc (man 2 statfs).
pub fn is_procfs(place: &Fd) -> Result<bool, Failure> {
    let statfs =
        nix::sys::statfs::fstatfs(place).map_err(|errno| Failure::call(format_args!("fstatfs({place})"), errno))?;
    Ok(statfs.filesystem_type() == nix::sys::statfs::PROC_SUPER_MAGIC)
}
