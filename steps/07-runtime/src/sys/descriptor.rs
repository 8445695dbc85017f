//! descriptors that another program has opened.

use kernel::Failure;
use kernel::explain::call;
use kernel::sys::clone::Process;
use kernel::sys::{Fd, new_fd};

/// Whether a number is that of an open descriptor (man 2 fcntl, F_GETFD).
pub fn is_open(number: u32) -> bool {
    // SAFETY: takes numbers only; a number that is not open answers EBADF.
    i32::try_from(number).is_ok_and(|number| unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0)
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
