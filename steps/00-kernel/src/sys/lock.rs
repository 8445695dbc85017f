//! Lesson 7: a process that has locked a file keeps others waiting (man 2 flock). The kernel unlocks when the last descriptor closes.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::Failure;
use crate::explain::call;

/// A locked file or directory; unlocked when dropped.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Waits until no other process has it, but no longer than this: `None` then.
    pub fn wait_for(file: File, patience: Duration) -> Result<Option<Lock>, Failure> {
        const PAUSE: Duration = Duration::from_millis(10);
        let end = Instant::now() + patience;
        loop {
            // SAFETY: takes numbers only.
            match Errno::result(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
                Err(Errno::EWOULDBLOCK) if Instant::now() >= end => return Ok(None),
                Err(Errno::EWOULDBLOCK | Errno::EINTR) => std::thread::sleep(PAUSE),
                result => {
                    call(format_args!("flock(<container>, EX)"), result.map(drop))?;
                    return Ok(Some(Lock(file)));
                }
            }
        }
    }

    /// Whether another process holds it at this moment.
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
