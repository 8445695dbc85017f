//! Lesson 7: whoever has locked a file keeps others waiting (man 2 flock). The kernel unlocks when the last descriptor closes.

use std::fs::File;
use std::os::fd::AsRawFd;

use nix::errno::Errno;

use crate::Failure;
use crate::explain::call;

/// A locked file or directory; unlocked when dropped.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Waits until nobody else has it.
    pub fn wait(file: File) -> Result<Lock, Failure> {
        loop {
            // SAFETY: takes numbers only.
            match Errno::result(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) }) {
                Err(Errno::EINTR) => {}
                result => return call(format_args!("flock(<container>, EX)"), result.map(drop)).map(|()| Lock(file)),
            }
        }
    }

    /// Whether somebody else has it at this moment.
    pub fn is_held(file: &File) -> bool {
        // SAFETY: takes numbers only.
        let result = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_SH | libc::LOCK_NB) };
        Errno::result(result) == Err(Errno::EWOULDBLOCK)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing unlocks, too, but not as long as a child of ours has a copy.
        // SAFETY: takes numbers only.
        unsafe { libc::flock(self.0.as_raw_fd(), libc::LOCK_UN) };
    }
}
