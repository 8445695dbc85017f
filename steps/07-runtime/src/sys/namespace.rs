//! Namespaces that are there already: joining them.

use std::path::Path;

use nix::errno::Errno;
use nix::sched::CloneFlags;

use kernel::Failure;
use kernel::explain::call;
use kernel::sys::{Fd, Lazy, errno, names, new_fd};

/// The flag of time namespaces (man 2 unshare), which is younger than the others.
pub const NEWTIME: i32 = libc::CLONE_NEWTIME;

/// A namespace that has a file: `/proc/PID/ns/net`, or a bind mount of it (man 7 namespaces).
pub fn open(path: &Path) -> Result<Fd, Failure> {
    let result = std::fs::File::open(path).map_err(errno);
    call(format_args!("open({path:?})"), result.map(|file| Fd::new(file.into(), "namespace")))
}

/// Whether a namespace belongs to that user namespace: who is root there has rights in it (man 2 ioctl_ns, NS_GET_USERNS).
pub fn belongs_to(namespace: &Fd, users: &Fd) -> bool {
    const NS_GET_USERNS: libc::c_ulong = 0xb701;
    // SAFETY: takes numbers only.
    let result = unsafe { libc::ioctl(namespace.raw(), NS_GET_USERNS as _) };
    // SAFETY: NS_GET_USERNS gives a new descriptor.
    let Ok(owner) = (unsafe { new_fd(result.into(), "owner") }) else { return false };
    let same = |one: nix::sys::stat::FileStat, other: nix::sys::stat::FileStat| {
        (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
    };
    matches!((nix::sys::stat::fstat(&owner), nix::sys::stat::fstat(users)), (Ok(one), Ok(other)) if same(one, other))
}

/// What the option `pidns` of a new proc file system takes to show this pid namespace instead of the own (Linux 6.17). It holds
/// as long as the descriptor is open.
pub fn for_proc(pid_namespace: &Fd) -> String {
    format!("/proc/self/fd/{}", pid_namespace.raw())
}

/// Joins the namespace behind a file, or those of a process that the flags name, all at once (man 2 setns).
pub fn join(what: &Fd, flags: CloneFlags) -> Result<(), Failure> {
    // SAFETY: takes numbers only.
    let result = unsafe { libc::setns(what.raw(), flags.bits()) };
    let text = Lazy(|| names(flags.iter_names().map(|(name, _)| name), "CLONE_"));
    call(format_args!("setns({what}, {text})"), Errno::result(result).map(drop))
}

/// The NIS domain name, an old companion of the host's name (man 2 setdomainname).
pub fn set_domain_name(name: &str) -> Result<(), Failure> {
    // SAFETY: the kernel reads as many bytes as the name has.
    let result = unsafe { libc::setdomainname(name.as_ptr().cast(), name.len() as _) };
    call(format_args!("setdomainname({name:?})"), Errno::result(result).map(drop))
}

/// Lets this process live on when its parent ends (man 2 PR_SET_PDEATHSIG, 0).
pub fn outlive_parent() -> Result<(), Failure> {
    let result = nix::sys::prctl::set_pdeathsig(None);
    call(format_args!("prctl(SET_PDEATHSIG, 0)"), result)
}
