//! What callers read of a failure: a line on standard error for readers, and, where `--log` names a file, one for programs.
//! containerd's shim takes the last of them that is an error for the reason.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use kernel::failure::printable;
use kernel::{Errno, Failure, outside};
use nix::fcntl::OFlag;

use crate::clock;

/// Where warnings go, too: set once, at the start.
static CURRENT: OnceLock<Log> = OnceLock::new();

/// Tells what does not keep us from going on, but should be known: in the log if there is one, else on standard error.
pub fn warn(message: &str) {
    match CURRENT.get() {
        Some(log @ Log { file: Some(file), .. }) => log.append(file, "warning", message),
        _ => eprintln!("cellblock: warning: {}", printable(message)),
    }
}

/// Tells what every other runtime does silently: a warning in the log if there is one. Without a log nothing is printed.
pub fn note(message: &str) {
    if let Some(log @ Log { file: Some(file), .. }) = CURRENT.get() {
        log.append(file, "warning", message);
    }
}

/// Where and how failures are told.
#[derive(Debug, Clone, Default)]
pub struct Log {
    /// The file; none: standard error only.
    pub file: Option<PathBuf>,
    /// One JSON object a line, instead of `time=... level=... msg=...`.
    pub json: bool,
}

impl Log {
    /// From now on warnings go there.
    pub fn begin(&self) {
        let _ = CURRENT.set(self.clone());
    }

    /// Whether the file can be written.
    ///
    /// # Errors
    /// It cannot be opened; a FIFO that no process reads (ENXIO).
    pub fn check(&self) -> Result<(), Failure> {
        let Some(file) = &self.file else { return Ok(()) };
        open(file).map(drop).map_err(|error| {
            let text = format!("--log {}: {}", file.display(), outside::reason(error));
            Failure::new(text).hint("it must be a file that can be written, in a directory that is there")
        })
    }

    /// Tells a failure, in both places.
    pub fn tell(&self, failure: &Failure) {
        let message = message(failure);
        let lines = failure.lines("cellblock");
        let hint = lines.split_once('\n').map_or("", |(_, hint)| hint);
        eprint!("cellblock: {}\n{hint}", printable(&message));
        if let Some(file) = &self.file {
            self.append(file, "error", &message);
        }
    }

    /// A log that cannot be written is no reason to fail otherwise than we do. The message is escaped before it is quoted: an
    /// engine takes the quotes away again, and prints it.
    fn append(&self, file: &Path, level: &str, message: &str) {
        let (time, message) = (clock::now(), printable(message));
        let line = match self.json {
            true => serde_json::json!({"level": level, "msg": message, "time": time}).to_string(),
            false => format!("time={time:?} level={level} msg={message:?}"),
        };
        let _ = open(file).and_then(|mut opened| writeln!(opened, "{line}"));
    }
}

/// Without waiting: a FIFO may have no reader.
fn open(file: &Path) -> std::io::Result<std::fs::File> {
    OpenOptions::new().append(true).create(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(file)
}

/// The failure in one line, with the kernel's reason in the words that callers look for: docker ends with 127 if it reads
/// "no such file or directory", and with 126 if it reads "permission denied".
fn message(failure: &Failure) -> String {
    let text = failure.to_string().replace('\n', " ");
    match text.rsplit_once("=> ").and_then(|(_, name)| errno_named(name)) {
        Some(errno) => format!("{text}: {}", errno.desc().to_lowercase()),
        None => text,
    }
}

/// The reason by its name: all that is left of it when a failure has come over a pipe.
fn errno_named(name: &str) -> Option<Errno> {
    const LAST: i32 = 133;
    (1..=LAST).map(Errno::from_raw).find(|errno| format!("{errno:?}") == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_in_words() {
        let failure = Failure::call(format_args!("execve(\"/bin/x\")"), Errno::ENOENT);
        assert_eq!(message(&failure), "execve(\"/bin/x\") => ENOENT: no such file or directory");
        assert_eq!(message(&Failure::new("container does not exist")), "container does not exist");
    }
}
