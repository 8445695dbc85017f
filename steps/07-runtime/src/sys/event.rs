//! A counter that the kernel or another process adds to, and that can be polled (man 2 eventfd).

use kernel::Failure;
use kernel::explain::call;
use kernel::sys::{Fd, new_fd};

/// A new counter, at zero.
pub fn counter() -> Result<Fd, Failure> {
    // SAFETY: takes numbers only.
    let result = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    // SAFETY: eventfd gives a new descriptor.
    call(format_args!("eventfd(0)"), unsafe { new_fd(result.into(), "counter") })
}

/// What cgroup.event_control takes: which counter the kernel adds to, and what the file it belongs to is.
pub fn registration(counter: &Fd, file: &std::fs::File) -> String {
    use std::os::fd::AsRawFd;
    format!("{} {}", counter.raw(), file.as_raw_fd())
}

/// What has been added since the last call.
pub fn take(counter: &Fd) -> u64 {
    let mut bytes = [0; 8];
    match nix::unistd::read(counter, &mut bytes) {
        Ok(8) => u64::from_ne_bytes(bytes),
        _ => 0,
    }
}
