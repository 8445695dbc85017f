//! Descriptors that belong to the caller: known by their numbers, for nothing here owns them.

use nix::errno::Errno;

use kernel::Failure;
use kernel::explain::call;

/// Whether there is an open descriptor of this number (man 2 fcntl, F_GETFD).
pub fn is_open(number: u32) -> bool {
    // SAFETY: takes numbers only.
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
