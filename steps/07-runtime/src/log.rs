//! What callers read of a failure: a line on standard error for people, and, where `--log` names a file, one for programs.
//! containerd's shim takes the last of them that is an error for the reason.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use kernel::failure::printable;
use kernel::{Errno, Failure};

use crate::clock;

/// Where warnings go, too: set once, at the start.
static CURRENT: OnceLock<Log> = OnceLock::new();

/// Tells what does not keep us from going on, but somebody should know: in the log if there is one, else on standard error.
pub fn warn(message: &str) {
    match CURRENT.get() {
        Some(log @ Log { file: Some(file), .. }) => log.append(file, "warning", message),
        _ => eprintln!("cellblock: warning: {}", printable(message)),
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

    /// A log that cannot be written is no reason to fail otherwise than we do.
    fn append(&self, file: &Path, level: &str, message: &str) {
        let time = clock::now();
        let line = match self.json {
            true => serde_json::json!({"level": level, "msg": message, "time": time}).to_string(),
            false => format!("time={time:?} level={level} msg={message:?}"),
        };
        let opened = OpenOptions::new().append(true).create(true).open(file);
        let _ = opened.and_then(|mut opened| writeln!(opened, "{line}"));
    }
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
