//! Descriptors that another program has opened: the caller's, known by their numbers, and a child's.

use std::path::Path;

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

/// Closes all descriptors from one number to another (man 2 close_range). For those that nothing in this program owns.
pub fn close(first: u32, last: u32) -> Result<(), Failure> {
    // SAFETY: takes numbers only, and what it closes came from the caller: nothing here owns it.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    call(format_args!("close_range({first}, {last})"), Errno::result(result).map(drop))
}

/// The number of this process's descriptor by which a path is named, and what follows it: 63 and nothing for `/dev/fd/63`, 7 and
/// `file` for `/proc/self/fd/7/file`.
pub fn named_by(path: &Path) -> Option<(u32, &Path)> {
    let own = format!("/proc/{}/fd", std::process::id());
    let directories = ["/dev/fd", "/proc/self/fd", "/proc/thread-self/fd", &own];
    let below = directories.iter().find_map(|directory| path.strip_prefix(directory).ok())?;
    let number = below.iter().next()?;
    let is_number = number.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    let number_only = number.to_str().filter(|_| is_number)?;
    Some((number_only.parse().ok()?, below.strip_prefix(number).ok()?))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_by_descriptor() {
        let named =
            |path: &'static str| named_by(Path::new(path)).map(|(number, rest)| (number, rest.to_str().unwrap()));
        let own = format!("/proc/{}/fd/9", std::process::id());
        assert_eq!(named("/dev/fd/63"), Some((63, "")));
        assert_eq!(named("/proc/self/fd/7/below/file"), Some((7, "below/file")));
        assert_eq!(named_by(Path::new(&own)), Some((9, Path::new(""))));
        for other in
            ["/dev/fd", "/dev/fd/x", "/dev/fd/+3", "/dev/fd/99999999999", "/dev/stdout", "/proc/1/fd/3", "fd/3"]
        {
            assert_eq!(named(other), None, "{other}");
        }
    }
}
