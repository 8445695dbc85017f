//! Waiting for several descriptors at once, and moving bytes between them.
//!
//! `--explain` does not tell of these calls: they are made while the command runs, after the launch, and their number depends on
//! what the command and the caller write.

use std::os::fd::BorrowedFd;

use kernel::Failure;
use kernel::sys::Fd;
use nix::errno::Errno;
use nix::poll::{PollFd, poll};

pub use nix::poll::{PollFlags as Events, PollTimeout};

/// Waits until one of these is ready, and says which are (man 2 poll). One without an event is not waited for: poll would return
/// at once if its other end were closed (POLLHUP). After a signal, none is.
pub fn ready<const N: usize>(wanted: [(BorrowedFd<'_>, Events); N]) -> Result<[bool; N], Failure> {
    ready_within(PollTimeout::NONE, wanted)
}

/// As [`ready`], for a time at most: none is ready when it is up.
pub fn ready_within<const N: usize>(
    time: PollTimeout,
    wanted: [(BorrowedFd<'_>, Events); N],
) -> Result<[bool; N], Failure> {
    let asked = wanted.iter().filter(|(_, events)| !events.is_empty());
    let mut polled: Vec<PollFd> = asked.map(|(fd, events)| PollFd::new(*fd, *events)).collect();
    match poll(&mut polled, time) {
        Err(Errno::EINTR) => return Ok([false; N]),
        other => other.map_err(|errno| Failure::call(format_args!("poll({N} descriptors)"), errno))?,
    };
    let mut answers = polled.iter().map(|fd| fd.any().unwrap_or(false));
    Ok(wanted.map(|(_, events)| !events.is_empty() && answers.next() == Some(true)))
}

/// Reads what is there: 0 bytes at the end, `None` if there is nothing yet (man 2 read).
pub fn read(from: &Fd, buffer: &mut [u8]) -> Result<Option<usize>, Errno> {
    none_yet(nix::unistd::read(from, buffer))
}

/// Writes as much as is taken, `None` if nothing is taken yet (man 2 write).
pub fn write(to: &Fd, bytes: &[u8]) -> Result<Option<usize>, Errno> {
    none_yet(nix::unistd::write(to, bytes))
}

fn none_yet(moved: Result<usize, Errno>) -> Result<Option<usize>, Errno> {
    match moved {
        Err(Errno::EINTR | Errno::EAGAIN) => Ok(None),
        moved => moved.map(Some),
    }
}
