//! A created container waits for `start`, by which it is told to go on, and to which it tells what comes of that.
//!
//! In its directory there are a socket for datagrams and a FIFO. The word comes by the socket. The answer goes back by the FIFO:
//! its end closes with the exec. Neither needs a connection to be accepted: while the container waits its filter is in force,
//! and of that it needs no more calls than `read` and `write`, which every allow-list for the peers has.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use kernel::sys::{clone, socket};
use kernel::{Failure, Fd, purpose};
use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// The socket by which the word comes.
pub const START: &str = "start";
/// The FIFO by which the answer goes back.
pub const ANSWER: &str = "answer";

/// The container's side.
#[derive(Debug)]
pub struct Waiting {
    word: Fd,
    answer: Fd,
}

impl Waiting {
    /// Makes both, in the container's directory.
    ///
    /// # Errors
    /// A full disk.
    pub fn make(directory: &Fd) -> Result<Waiting> {
        purpose("what it will wait at for start: the word comes by a socket, the answer goes by a FIFO");
        let word = socket::bind_for_datagrams(directory, START, 0o600, "start")?;
        let path = answer_in(directory);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR)
            .context("cannot make the FIFO for the answer to start")?;
        // For reading, too: then it is open at once, and a `start` that was killed is no SIGPIPE.
        let answer = OpenOptions::new().read(true).write(true).open(&path);
        let answer = answer.context("cannot open the FIFO for the answer to start")?;
        Ok(Waiting { word, answer: Fd::new(answer.into(), "answer") })
    }

    /// What must stay open.
    pub fn descriptors(&self) -> [&Fd; 2] {
        [&self.word, &self.answer]
    }

    // ANCHOR: wait
    /// Tells the parent that all is made, and waits for the word. From then on `start` is told what fails.
    ///
    /// # Errors
    /// The word cannot be read.
    pub fn wait(self) -> Result<()> {
        purpose("wait for start");
        namespaces::finish_report();
        while clone::read_some(&self.word)? == 0 {}
        namespaces::report_to(self.answer);
        Ok(())
    }
    // ANCHOR_END: wait
}

/// Whether the container with this directory waits. A `start` that was killed may have left the socket's file.
pub fn is_waited_at(directory: &Fd) -> bool {
    socket::connect_for_datagrams(directory, START).is_ok()
}

/// By the descriptor of its directory: another may have its path by now.
fn answer_in(directory: &Fd) -> PathBuf {
    format!("/proc/self/fd/{}/{ANSWER}", directory.raw()).into()
}

/// Says start, and hears what comes of it: see [`namespaces::read_signed`].
///
/// # Errors
/// Nothing waits there.
pub fn say_start(directory: &Fd) -> Result<Vec<u8>> {
    purpose("say start, and hear what comes of it; a sign and no failure means that the command runs");
    let word = socket::connect_for_datagrams(directory, START)?;
    let answer = open_answer(&answer_in(directory))?;
    socket::say(&word, b"start")?;
    Ok(clone::read_to_end(&answer)?)
}

/// A FIFO that no process writes to would not open: so it opens without waiting, and is read with.
fn open_answer(path: &PathBuf) -> Result<Fd> {
    let open = |path| -> std::io::Result<File> {
        let opened = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
        fcntl(&opened, FcntlArg::F_SETFL(OFlag::empty()))?;
        Ok(opened)
    };
    let opened = open(path).map_err(|error| Failure::new(format!("{ANSWER}: {error}")))?;
    Ok(Fd::new(opened.into(), "answer"))
}
