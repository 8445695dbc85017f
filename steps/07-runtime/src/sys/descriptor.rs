//! Descriptors that another program has opened: the caller's, known by their numbers, and a child's.

use kernel::Failure;
use kernel::explain::call;
use kernel::sys::clone::Process;
use kernel::sys::{Fd, new_fd};
use nix::errno::Errno;

/// Whether a number is that of an open descriptor (man 2 fcntl, F_GETFD).
pub fn is_open(number: u32) -> bool {
    // SAFETY: takes numbers only; a number that is not open answers EBADF.
    i32::try_from(number).is_ok_and(|number| unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0)
}

/// Whether an exec closes a descriptor (man 2 fcntl, F_SETFD).
pub fn set_close_on_exec(number: u32, closes: bool) -> Result<(), Failure> {
    let flag = if closes { libc::FD_CLOEXEC } else { 0 };
    // SAFETY: takes numbers only.
    let result = unsafe { libc::fcntl(number as i32, libc::F_SETFD, flag) };
    let name = if closes { "CLOEXEC" } else { "0" };
    call(format_args!("fcntl({number}, SETFD, {name})"), Errno::result(result).map(drop))
}

/// A copy of a descriptor of another process's, by its number there (man 2 pidfd_getfd).
///
/// # Errors
/// EPERM: this process may not trace that one. EBADF: it has closed it.
pub fn take_from(process: &Process, number: i32, label: &'static str) -> Result<Fd, Failure> {
    // SAFETY: takes numbers only.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.descriptor().raw(), number, 0) };
    // SAFETY: pidfd_getfd gives a new descriptor.
    call(format_args!("pidfd_getfd({}, {number})", process.descriptor()), unsafe { new_fd(result, label) })
}
