//! Lesson 7: joining namespaces that are there already.

use std::path::Path;

use nix::errno::Errno;
use nix::sched::CloneFlags;

use super::{Fd, Lazy, errno, names, new_fd};
use crate::Failure;
use crate::explain::call;

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

/// A process, as a descriptor (man 2 pidfd_open).
pub fn open_process(pid: i32) -> Result<Fd, Failure> {
    // SAFETY: takes numbers only.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    // SAFETY: pidfd_open gives a new descriptor.
    call(format_args!("pidfd_open(<pid>)"), unsafe { new_fd(result, "process") })
}

/// Joins the namespace behind a file, or those of a process that the flags name, all at once (man 2 setns).
pub fn join(what: &Fd, flags: CloneFlags) -> Result<(), Failure> {
    // SAFETY: takes numbers only.
    let result = unsafe { libc::setns(what.raw(), flags.bits()) };
    let text = Lazy(|| names(flags.iter_names().map(|(name, _)| name), "CLONE_"));
    call(format_args!("setns({what}, {text})"), Errno::result(result).map(drop))
}

/// Sends a signal to a process held by a descriptor (man 2 pidfd_send_signal). ESRCH if it has ended.
pub fn signal(process: &Fd, number: i32) -> Result<(), Failure> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo is allowed and means "as kill(2) would fill it in".
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.raw(), number, none, 0) };
    call(format_args!("pidfd_send_signal({process}, {})", super::signal::name(number)), Errno::result(result).map(drop))
}

/// Waits until a process that need not be our child has ended (man 2 pidfd_open, "poll"); `false` if the time was up first.
pub fn wait_for_end(process: &Fd, milliseconds: u16) -> Result<bool, Failure> {
    use nix::poll::{PollFd, PollFlags, poll};
    use std::os::fd::AsFd;
    let mut polled = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    let result = poll(&mut polled, milliseconds).map(|count| count as usize);
    Ok(call(format_args!("poll({process}, {milliseconds} ms)"), result)? > 0)
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

/// Orphans among our descendants become our children, not init's (man 2 PR_SET_CHILD_SUBREAPER).
pub fn reap_orphans() -> Result<(), Failure> {
    call(format_args!("prctl(SET_CHILD_SUBREAPER, 1)"), nix::sys::prctl::set_child_subreaper(true))
}
