//! Files that a caller names: configurations, profiles. They may be anything, so they are read in one way only: regular files,
//! bounded, and without ever waiting for a writer. Only what the caller has open itself may be another kind: a pipe, for
//! `--process <(...)` of a shell is /dev/fd/63.

use std::fs::{File, Metadata};
use std::io::{Error, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// Larger than any configuration; what is larger is not read into memory.
const MOST: u64 = 16 << 20;

/// The content of a file.
///
/// # Errors
/// Why not, in the kernel's words, in lower case; not a regular file, and no descriptor of the caller's; more than 16 MiB.
pub fn contents(file: &Path) -> Result<Vec<u8>, String> {
    if is_handed_in(file) {
        return bounded(open_handed_in(file).map_err(reason)?);
    }
    // A FIFO or a terminal could make us wait for ever, and to open a device has effects: so the kind is looked at first, and
    // again once the file is open, for it may be another by then.
    let is_regular =
        |about: &Metadata| if about.is_file() { Ok(()) } else { Err("it is not a regular file".to_owned()) };
    is_regular(&file.metadata().map_err(reason)?)?;
    let options = OFlag::O_NONBLOCK.bits() | OFlag::O_NOCTTY.bits();
    let opened = File::options().read(true).custom_flags(options).open(file).map_err(reason)?;
    is_regular(&opened.metadata().map_err(reason)?)?;
    bounded(opened)
}

/// Whether the path leads to a descriptor that the caller has opened and left to us (man 5 proc_pid_fd).
fn is_handed_in(file: &Path) -> bool {
    file == "/dev/stdin" || file.parent().is_some_and(|parent| parent == "/dev/fd" || parent == "/proc/self/fd")
}

/// Opened anew, without waiting: a FIFO that no process writes to is at its end. A pipe with a writer is read in the writer's
/// own time.
fn open_handed_in(file: &Path) -> Result<File, Error> {
    let opened =
        File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits() | OFlag::O_NOCTTY.bits()).open(file)?;
    fcntl(&opened, FcntlArg::F_SETFL(OFlag::empty()))?;
    Ok(opened)
}

/// All that comes from a pipe or a file that is open already.
///
/// # Errors
/// As [`contents`]'s.
pub fn bounded(source: impl Read) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    source.take(MOST + 1).read_to_end(&mut text).map_err(reason)?;
    if text.len() as u64 > MOST { Err("it is larger than 16 MiB".to_owned()) } else { Ok(text) }
}

/// The kernel's reason in lower case, as callers look for it in our messages, and without Rust's "(os error 2)".
pub fn reason(error: Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}
