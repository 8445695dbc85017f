//! Lessons 4 to 7: a process that has locked a file keeps others waiting (man 2 flock). The kernel unlocks when the last descriptor closes.

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
    /// Waits until no other process has it. `what` names the file in a failure.
    pub fn wait(file: File, what: &str) -> Result<Lock, Failure> {
        loop {
            match flock(&file, libc::LOCK_EX) {
                Err(Errno::EINTR) => {}
                locked => return Lock::of(file, locked, what),
            }
        }
    }

    /// Locks the file if no other process has it.
    ///
    /// # Errors
    /// EWOULDBLOCK: another process has it.
    pub fn without_waiting(file: File, what: &str) -> Result<Lock, Failure> {
        let locked = flock(&file, libc::LOCK_EX | libc::LOCK_NB);
        Lock::of(file, locked, what)
    }

    fn of(file: File, locked: Result<(), Errno>, what: &str) -> Result<Lock, Failure> {
        locked.map(|()| Lock(file)).map_err(|errno| Failure::call(format_args!("flock({what})"), errno))
    }

    /// Waits until no other process has it, but no longer than this: `None` then.
    pub fn wait_for(file: File, patience: Duration) -> Result<Option<Lock>, Failure> {
        const PAUSE: Duration = Duration::from_millis(10);
        let end = Instant::now() + patience;
        loop {
            match flock(&file, libc::LOCK_EX | libc::LOCK_NB) {
                Err(Errno::EWOULDBLOCK) if Instant::now() >= end => return Ok(None),
                Err(Errno::EWOULDBLOCK | Errno::EINTR) => std::thread::sleep(PAUSE),
                result => {
                    call(format_args!("flock(<container>, EX)"), result)?;
                    return Ok(Some(Lock(file)));
                }
            }
        }
    }

    /// Whether another process holds it at this moment.
    pub fn is_held(file: &File) -> bool {
        flock(file, libc::LOCK_SH | libc::LOCK_NB) == Err(Errno::EWOULDBLOCK)
    }
}

fn flock(file: &File, operation: i32) -> Result<(), Errno> {
    // SAFETY: takes numbers only.
    Errno::result(unsafe { libc::flock(file.as_raw_fd(), operation) }).map(drop)
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing unlocks, too, but not as long as a child of ours has a copy.
        let _ = flock(&self.0, libc::LOCK_UN);
    }
}
