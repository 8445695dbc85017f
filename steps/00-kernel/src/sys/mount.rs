//! Lesson 3: file systems made detached, and moved onto a descriptor.
//!
//! Since Linux 5.2 a mount can exist without a place: [`fsmount`] and [`open_tree`] return it as a descriptor, and
//! [`move_mount`] puts it onto another descriptor. No path is looked up twice, so none can be exchanged in between.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
pub use nix::fcntl::ResolveFlag;
use nix::fcntl::{OFlag, OpenHow};
use nix::mount::{MntFlags, MsFlags};
use nix::sys::stat::{Mode, SFlag, makedev};

use super::{Fd, Lazy, names, new_fd};
use crate::Failure;
use crate::explain::call;

bitflags::bitflags! {
    /// What a mount forbids (man 2 mount_setattr).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Attributes: u64 {
        /// Nothing can be written.
        const RDONLY = libc::MOUNT_ATTR_RDONLY;
        /// Programs here do not take on their owner's rights.
        const NOSUID = libc::MOUNT_ATTR_NOSUID;
        /// Device nodes here open nothing.
        const NODEV = libc::MOUNT_ATTR_NODEV;
        /// Nothing here can be executed.
        const NOEXEC = libc::MOUNT_ATTR_NOEXEC;
        /// Reading a file does not note the time.
        const NOATIME = libc::MOUNT_ATTR_NOATIME;
        /// Each reading notes the time.
        const STRICTATIME = libc::MOUNT_ATTR_STRICTATIME;
        /// Reading a directory does not note the time.
        const NODIRATIME = libc::MOUNT_ATTR_NODIRATIME;
        /// Symbolic links here are not followed.
        const NOSYMFOLLOW = libc::MOUNT_ATTR_NOSYMFOLLOW;
    }
}

impl Attributes {
    /// All bits that say when the time is noted: they are one number, and must be cleared before it is set.
    pub const TIMES: Attributes = Attributes::from_bits_retain(libc::MOUNT_ATTR__ATIME);

    fn show(self) -> String {
        names(self.iter_names().map(|(name, _)| name), "")
    }
}

/// Which other mounts are told of what is mounted and unmounted below a mount (man 7 mount_namespaces, "Shared subtrees").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// No other.
    Private,
    /// It is told, and tells no other.
    Slave,
    /// Each tells the other.
    Shared,
    /// No other, and it cannot be mounted a second time.
    Unbindable,
}

impl Propagation {
    fn flag(self) -> MsFlags {
        match self {
            Propagation::Private => MsFlags::MS_PRIVATE,
            Propagation::Slave => MsFlags::MS_SLAVE,
            Propagation::Shared => MsFlags::MS_SHARED,
            Propagation::Unbindable => MsFlags::MS_UNBINDABLE,
        }
    }

    fn show(self) -> &'static str {
        match self {
            Propagation::Private => "PRIVATE",
            Propagation::Slave => "SLAVE",
            Propagation::Shared => "SHARED",
            Propagation::Unbindable => "UNBINDABLE",
        }
    }
}

/// Changes the propagation of the mount at a path, and, recursively, of all below (man 2 mount).
pub fn propagate(path: &str, depth: Depth, propagation: Propagation) -> Result<(), Failure> {
    let none = None::<&str>; // an empty string instead of NULL would cost the kernel a page each
    let (rec, shown) = if depth == Depth::Recursive { (MsFlags::MS_REC, "REC|") } else { (MsFlags::empty(), "") };
    let result = nix::mount::mount(none, path, none, rec | propagation.flag(), none);
    call(format_args!("mount(NULL, {path:?}, NULL, {shown}{}, NULL)", propagation.show()), result)
}

/// Changes the propagation of a mount that may have no place yet (man 2 mount_setattr).
pub fn propagate_mount(mount: &Fd, depth: Depth, propagation: Propagation) -> Result<(), Failure> {
    let change = libc::mount_attr { attr_set: 0, attr_clr: 0, propagation: propagation.flag().bits(), userns_fd: 0 };
    let text = format_args!("mount_setattr({mount}, {}{})", propagation.show(), depth.show());
    call(text, change_mount(mount, depth, &change))
}

/// Makes every mount below `/` private: none made here appears on the host, none made there appears here
/// (man 7 mount_namespaces).
///
/// # Shell: `mount --make-rprivate /`
pub fn make_mounts_private() -> Result<(), Failure> {
    propagate("/", Depth::Recursive, Propagation::Private)
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
    let result = open_patiently(root, path, how);
    call(format_args!("openat2({root}, {path:?}, {text})"), result.map(|fd| Fd::new(fd, label)))
}

/// Asks again where the kernel says so: it cannot tell whether `..` has led out when anything on the machine was mounted or
/// renamed meanwhile (man 2 openat2, EAGAIN).
pub(super) fn open_patiently(root: impl AsFd, path: &Path, how: OpenHow) -> nix::Result<OwnedFd> {
    const MOST_TRIES: usize = 1000;
    let mut tries = (0..MOST_TRIES).map(|_| nix::fcntl::openat2(&root, path, how));
    tries.find(|result| !matches!(result, Err(Errno::EAGAIN))).unwrap_or(Err(Errno::EAGAIN))
}

/// Where the symbolic link at `path` below `root` leads; none: what is there is no link. No link may be on the way to it.
pub fn link_below(root: &Fd, path: &Path) -> Result<Option<PathBuf>, Failure> {
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS;
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let result = open_patiently(root, path, OpenHow::new().flags(flags).resolve(resolve));
    let text = format_args!("openat2({root}, {path:?}, NOFOLLOW|IN_ROOT|NO_SYMLINKS)");
    let held = call(text, result.map(|fd| Fd::new(fd, "link")))?;
    match nix::fcntl::readlinkat(&held, "") {
        Err(Errno::ENOENT | Errno::EINVAL) => Ok(None),
        target => {
            target.map(|to| Some(to.into())).map_err(|errno| Failure::call(format_args!("readlinkat({held})"), errno))
        }
    }
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

/// Sets one of its options that has no value (man 2 fsconfig): `ro`.
pub fn fsconfig_flag(fs: &Fd, key: &CStr) -> Result<(), Failure> {
    const SET_FLAG: libc::c_uint = 0;
    let null = std::ptr::null::<libc::c_char>();
    // SAFETY: the key ends with a NUL and outlives the call; this command takes no value.
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
    let result = unsafe { libc::syscall(libc::SYS_fsmount, fs.raw(), libc::FSMOUNT_CLOEXEC, attributes.bits()) };
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
    mount_change(mount, depth, attributes, Attributes::default())
}

/// Changes what a mount forbids, and what no longer.
pub fn mount_change(mount: &Fd, depth: Depth, set: Attributes, clear: Attributes) -> Result<(), Failure> {
    // When the time is noted is a number, not a bit: the old one must go.
    let is_time = set.union(clear).intersects(Attributes::TIMES);
    let cleared = clear.difference(set);
    let cleared = if is_time { cleared.union(Attributes::TIMES) } else { cleared };
    let change = libc::mount_attr { attr_set: set.bits(), attr_clr: cleared.bits(), propagation: 0, userns_fd: 0 };
    let text = Lazy(|| {
        let less = clear.show();
        if clear.is_empty() { set.show() } else { format!("{}, not {less}", set.show()) }
    });
    call(format_args!("mount_setattr({mount}, {text}{})", depth.show()), change_mount(mount, depth, &change))
}

fn change_mount(mount: &Fd, depth: Depth, change: &libc::mount_attr) -> Result<(), Errno> {
    let flags = libc::AT_EMPTY_PATH as libc::c_uint | depth.bits();
    let size = size_of::<libc::mount_attr>();
    // SAFETY: `change` outlives the call, and `size` is its size; the path is an empty string.
    let result = unsafe {
        libc::syscall(libc::SYS_mount_setattr, mount.raw(), c"".as_ptr(), flags, std::ptr::from_ref(change), size)
    };
    Errno::result(result).map(drop)
}

/// Shows the files of a mount with other owners: an id on disk is taken for an id of that user namespace
/// (man 2 mount_setattr, MOUNT_ATTR_IDMAP, Linux 5.12). EINVAL where the file system takes no part in it.
pub fn map_ids(mount: &Fd, depth: Depth, user_namespace: &Fd) -> Result<(), Failure> {
    let userns_fd = user_namespace.raw() as u64;
    let change = libc::mount_attr { attr_set: libc::MOUNT_ATTR_IDMAP, attr_clr: 0, propagation: 0, userns_fd };
    let text = format_args!("mount_setattr({mount}, IDMAP={user_namespace}{})", depth.show());
    call(text, change_mount(mount, depth, &change))
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

/// Takes away the mount in which we stand, and all below it, as soon as no process uses them (man 2 umount, MNT_DETACH).
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
    let result = unmasked(|| nix::sys::stat::mkdirat(parent, name, Mode::from_bits_truncate(0o755)));
    call(format_args!("mkdirat({parent}, {name:?}, 0755)"), result)
}

/// Makes an empty file in a directory, to mount something onto (man 2 mknod).
pub fn mkfileat(parent: &Fd, name: &Path) -> Result<(), Failure> {
    let mode = Mode::from_bits_truncate(0o644);
    let result = unmasked(|| nix::sys::stat::mknodat(parent, name, SFlag::S_IFREG, mode, 0));
    call(format_args!("mknodat({parent}, {name:?}, REG|0644)"), result)
}

/// Makes a file in a directory, with that content (man 2 open, man 2 write).
pub fn write_fileat(parent: &Fd, name: &str, content: &str) -> Result<(), Failure> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let result = unmasked(|| nix::fcntl::openat(parent, name, flags, Mode::from_bits_truncate(0o644)))
        .and_then(|file| nix::unistd::write(file, content.as_bytes()));
    call(format_args!("write({parent}, {name:?}, {} bytes)", content.len()), result.map(drop))
}

/// Writes a text to a file below a descriptor, in one call. Nothing on the way may be a link, or a mount.
pub fn write_below(root: &Fd, path: &Path, text: &str) -> Result<(), Failure> {
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_SYMLINKS;
    let how = OpenHow::new().flags(OFlag::O_WRONLY | OFlag::O_CLOEXEC).resolve(resolve);
    let result = nix::fcntl::openat2(root, path, how).and_then(|file| nix::unistd::write(file, text.as_bytes()));
    call(format_args!("write({root}/{path:?}, {text:?})"), result).map(drop)
}

/// Makes a character device's node (man 2 mknod), readable and writable for all, but for the umask: see [`unmasked`].
pub fn mknodat(parent: &Fd, name: &str, major: u64, minor: u64) -> Result<(), Failure> {
    make_node(parent, Path::new(name), libc::S_IFCHR, 0o666, (major, minor))
}

/// Makes a node of any kind: `kind` is S_IFCHR, S_IFBLK or S_IFIFO, `mode` its permissions.
pub fn make_node(parent: &Fd, name: &Path, kind: u32, mode: u32, device: (u64, u64)) -> Result<(), Failure> {
    let flags = SFlag::from_bits_truncate(kind);
    let shown = match flags {
        SFlag::S_IFCHR => "CHR",
        SFlag::S_IFBLK => "BLK",
        _ => "FIFO",
    };
    let (major, minor) = device;
    let result = nix::sys::stat::mknodat(parent, name, flags, Mode::from_bits_truncate(mode), makedev(major, minor));
    call(format_args!("mknodat({parent}, {name:?}, {shown}|{mode:04o}, {major}:{minor})"), result)
}

/// Gives a file to another user (man 2 chown).
pub fn chownat(parent: &Fd, name: &Path, owner: (u32, u32)) -> Result<(), Failure> {
    let (user, group) = (nix::unistd::Uid::from_raw(owner.0), nix::unistd::Gid::from_raw(owner.1));
    let flags = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
    let result = nix::unistd::fchownat(parent, name, Some(user), Some(group), flags);
    call(format_args!("fchownat({parent}, {name:?}, {user}, {group})"), result)
}

/// The permissions of a file or directory (man 2 stat).
pub fn mode(place: &Fd) -> Result<u32, Failure> {
    let stat = nix::sys::stat::fstat(place).map_err(|errno| Failure::call(format_args!("fstat({place})"), errno))?;
    Ok(stat.st_mode & 0o7777)
}

/// Sets the permissions of the directory at the top of a mount (man 2 chmod).
pub fn chmod_top(mount: &Fd, mode: u32) -> Result<(), Failure> {
    let flags = nix::sys::stat::FchmodatFlags::FollowSymlink;
    let result = nix::sys::stat::fchmodat(mount, ".", Mode::from_bits_truncate(mode), flags);
    call(format_args!("fchmodat({mount}, \".\", {mode:o})"), result)
}

/// Makes a symbolic link in a directory (man 2 symlink).
pub fn symlinkat(target: &str, parent: &Fd, name: &str) -> Result<(), Failure> {
    call(format_args!("symlinkat({target:?}, {parent}, {name:?})"), nix::unistd::symlinkat(target, parent, name))
}

/// Makes things that get the modes which they are made with, whatever umask the caller's shell has (man 2 umask).
pub fn unmasked<T>(make: impl FnOnce() -> T) -> T {
    let mask = nix::sys::stat::umask(Mode::empty());
    let made = make();
    nix::sys::stat::umask(mask);
    made
}

/// Whether a place is a directory (man 2 stat).
pub fn is_directory(place: &Fd) -> Result<bool, Failure> {
    let stat = nix::sys::stat::fstat(place).map_err(|errno| Failure::call(format_args!("fstat({place})"), errno))?;
    Ok(SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT) == SFlag::S_IFDIR)
}

/// The owner of a file or directory (man 2 stat).
pub fn owner(place: &Fd) -> Result<(u32, u32), Failure> {
    let stat = nix::sys::stat::fstat(place).map_err(|errno| Failure::call(format_args!("fstat({place})"), errno))?;
    Ok((stat.st_uid, stat.st_gid))
}

/// The kind of a file (S_IFCHR, ...) and, for a device, its major and minor number (man 2 stat).
pub fn device_of(place: &Fd) -> Result<(u32, (u64, u64)), Failure> {
    let stat = nix::sys::stat::fstat(place).map_err(|errno| Failure::call(format_args!("fstat({place})"), errno))?;
    let numbers = (nix::sys::stat::major(stat.st_rdev), nix::sys::stat::minor(stat.st_rdev));
    Ok((stat.st_mode & libc::S_IFMT, numbers))
}

/// Whether a place lies in a /proc (man 2 statfs).
pub fn is_procfs(place: &Fd) -> Result<bool, Failure> {
    let statfs =
        nix::sys::statfs::fstatfs(place).map_err(|errno| Failure::call(format_args!("fstatfs({place})"), errno))?;
    Ok(statfs.filesystem_type() == nix::sys::statfs::PROC_SUPER_MAGIC)
}
