//! Mounts without a place, of which there may be more than a process may have descriptors. The lesson does not need this file;
//! configurations for step 7 may ask for thousands of mounts.
//!
//! A descriptor that waits in a socket as a message does not count among those of the process. So all but the first batch are
//! put there before the host's root goes, and each batch is taken out when its mounts are to be placed.

use std::collections::VecDeque;

use anyhow::{Context, Result};
use kernel::sys::privilege::Limit;
use kernel::sys::socket;
use kernel::{Errno, Failure, Fd, Remedy, purpose};

/// How many mounts are open at a time. The kernel would send 253 in a message (SCM_MAX_FD).
pub const BATCH: usize = 64;

/// Mounts in the order in which they will be placed.
#[derive(Debug)]
pub struct Trees {
    open: VecDeque<Fd>,
    /// Where the others wait.
    others: Option<Fd>,
}

impl Trees {
    /// Keeps mounts that this process makes.
    ///
    /// # Errors
    /// What the iterator returns; ETOOMANYREFS where an ordinary user wants to keep more than its hard limit of descriptors.
    pub fn keep(trees: impl Iterator<Item = Result<Fd>>) -> Result<Trees> {
        let mut trees = trees.fuse();
        let open = trees.by_ref().take(BATCH).collect::<Result<_>>()?;
        let mut trees = trees.peekable();
        if trees.peek().is_none() {
            return Ok(Trees { open, others: None });
        }
        purpose("more mounts than descriptors: they wait in a socket of our own");
        let (entry, exit) = socket::pair("waiting mounts", "waiting mounts")?;
        send(&entry, trees)?;
        Ok(Trees { open, others: Some(exit) })
    }

    /// Takes mounts that another process has sent to this socket with [`send`].
    ///
    /// # Errors
    /// There is no descriptor left.
    pub fn receive(socket: &Fd) -> Result<Trees> {
        Ok(Trees { open: VecDeque::new(), others: Some(socket.duplicate()?) })
    }

    /// The next one.
    ///
    /// # Errors
    /// It was not sent.
    pub fn take_next(&mut self) -> Result<Fd> {
        if self.open.is_empty() {
            let others = self.others.as_ref().context("a source is missing")?;
            self.open = receive_batch(others)?.into();
        }
        self.open.pop_front().context("a source is missing")
    }
}

/// Sends mounts to a socket whose reader takes them later: this never waits for the reader.
///
/// # Errors
/// What the iterator returns; EAGAIN when the socket holds no more.
pub fn send(socket: &Fd, mut trees: impl Iterator<Item = Result<Fd>>) -> Result<()> {
    let first = batch(&mut trees)?;
    if first.len() < BATCH {
        return if first.is_empty() { Ok(()) } else { send_batch(socket, &first) };
    }
    // The kernel counts what an ordinary user has in flight against the sender's soft limit.
    let limit = Limit::of(0, NOFILE)?;
    Limit { soft: limit.hard, ..limit }.set(0, "nofile")?;
    let sent = send_batch(socket, &first).and_then(|()| send_all(socket, trees));
    limit.set(0, "nofile")?; // the container's command inherits it
    sent
}

fn send_all(socket: &Fd, mut trees: impl Iterator<Item = Result<Fd>>) -> Result<()> {
    loop {
        let next = batch(&mut trees)?;
        if next.is_empty() {
            return Ok(());
        }
        send_batch(socket, &next)?;
    }
}

fn batch(trees: &mut impl Iterator<Item = Result<Fd>>) -> Result<Vec<Fd>> {
    trees.take(BATCH).collect()
}

/// Sends at most [`BATCH`] mounts.
///
/// # Errors
/// EAGAIN, ETOOMANYREFS: too many wait already.
pub fn send_batch(socket: &Fd, trees: &[Fd]) -> Result<()> {
    let hint = "an ordinary user can have as many mounts wait as its hard limit of descriptors says: ulimit -Hn";
    Ok(socket::send_fds(socket, b"mounts", trees)
        .hint_on(Errno::ETOOMANYREFS, hint)
        .hint_on(Errno::EAGAIN, "there are too many mounts: a directory above several of them can be mounted as one")?)
}

/// Takes what [`send_batch`] has sent at a time.
///
/// # Errors
/// EMFILE: as many descriptors as were sent are not left.
pub fn receive_batch(socket: &Fd) -> Result<Vec<Fd>, Failure> {
    socket::receive_fds(socket, "mount", BATCH).hint_on(Errno::EMFILE, TOO_FEW)
}

/// What helps where a process has too few descriptors.
pub const TOO_FEW: &str = "there are too few descriptors: ulimit -n";

/// RLIMIT_NOFILE.
const NOFILE: u32 = 7;
