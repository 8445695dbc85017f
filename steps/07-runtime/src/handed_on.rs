//! Descriptors of the caller that go on to the command, from 3 on: first the sockets of a service manager that starts the
//! runtime when the first client comes (man 3 sd_listen_fds), then those of `--preserve-fds`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use anyhow::Result;
use kernel::sys::process;
use kernel::{Failure, purpose};
use privileges::UserCommand;

use crate::sys::descriptor;

/// The number of the first one.
const FIRST: u32 = 3;

/// How many sockets there are; for which process; what they are called.
const SOCKETS: &str = "LISTEN_FDS";
const RECIPIENT: &str = "LISTEN_PID";
const NAMES: &str = "LISTEN_FDNAMES";

/// The descriptors that the command gets beside the standard three.
#[derive(Debug, Clone, Default)]
pub struct HandedOn {
    sockets: u32,
    names: Option<String>,
    others: u32,
    /// Those by which an option names a file. They do not go on, and are held by the runtime alone.
    named: Vec<u32>,
}

impl HandedOn {
    // ANCHOR: take
    /// Takes what the caller hands on: the sockets, if they are meant for this process, and `others` after them. What else the
    /// caller has left open is closed, but those by which a word of the command line names a file (bash's `<(...)` is /dev/fd/63):
    /// it may be opened later. It comes before the runtime opens anything that stays open: none of its own descriptors,
    /// which lead to the host, can have a number among those. Programs that the runtime starts, such as hooks, get none.
    ///
    /// # Errors
    /// One of the numbers is closed; LISTEN_FDS is not a number; standard input, output or error is a directory.
    pub fn take(others: u32) -> Result<HandedOn> {
        let sockets = sockets(variable(SOCKETS).as_deref(), variable(RECIPIENT).as_deref(), std::process::id())?;
        let names = if sockets > 0 { variable(NAMES) } else { None };
        let named = named_in(std::env::args_os()).filter(|number| descriptor::is_open(*number)).collect();
        let handed_on = HandedOn { sockets, names, others, named };
        handed_on.refuse_closed()?;
        handed_on.close_others()?;
        process::refuse_directories()?;
        handed_on
            .numbers()
            .chain(handed_on.held())
            .try_for_each(|number| descriptor::set_close_on_exec(number, true))?;
        Ok(handed_on)
    }
    // ANCHOR_END: take

    /// In the process that becomes the command: from here on an exec leaves them open.
    ///
    /// # Errors
    /// A filter that is in force already refuses the call.
    pub fn leave_open(&self) -> Result<()> {
        if self.end() > FIRST {
            purpose("what the caller hands on stays open");
        }
        Ok(self.numbers().try_for_each(|number| descriptor::set_close_on_exec(number, false))?)
    }

    /// Closes all that is neither handed on nor named.
    fn close_others(&self) -> Result<(), Failure> {
        let mut held: Vec<u32> = self.held().collect();
        held.sort_unstable();
        let mut next = self.end();
        for number in held {
            if number > next {
                descriptor::close(next, number - 1)?;
            }
            next = number + 1;
        }
        process::close_from(next)
    }

    /// The named ones that do not go on.
    fn held(&self) -> impl Iterator<Item = u32> {
        self.named.iter().copied().filter(|number| *number >= self.end())
    }

    /// Whether the caller has opened it: a standard one, one that is handed on, or one by which a word names a file.
    pub fn is_callers(&self, number: u32) -> bool {
        number < self.end() || self.named.contains(&number)
    }

    /// Closes the descriptor that a path names, after the file has served: a process that reads from it waits for that.
    pub fn let_go(&self, path: &Path) -> Result<(), Failure> {
        let Some((number, _)) = descriptor::named_by(path) else { return Ok(()) };
        if self.held().filter(|held| *held == number).count() == 1 { descriptor::close(number, number) } else { Ok(()) }
    }

    fn numbers(&self) -> std::ops::Range<u32> {
        FIRST..self.end()
    }

    /// The number of the first descriptor that does not go on.
    pub fn end(&self) -> u32 {
        FIRST.saturating_add(self.sockets).saturating_add(self.others)
    }

    fn refuse_closed(&self) -> Result<(), Failure> {
        let first_other = FIRST.saturating_add(self.sockets);
        let Some(closed) = (FIRST..self.end()).find(|number| !descriptor::is_open(*number)) else { return Ok(()) };
        let (asked, how_many) =
            if closed < first_other { (SOCKETS, self.sockets) } else { ("--preserve-fds", self.others) };
        let first = if closed < first_other { FIRST } else { first_other };
        let text = format!("{asked} {how_many}: the descriptor {closed} is not open");
        Err(Failure::new(text).hint(format!("{how_many} descriptors from {first} on are handed on: {first}<FILE")))
    }

    /// Says in the command's environment what the sockets are. To be called by the process that becomes the command: their
    /// recipient is its own number, as the container's processes see it.
    pub fn announce_to(&self, command: &mut UserCommand) -> Result<()> {
        if self.sockets == 0 {
            return Ok(());
        }
        command.set_variable(SOCKETS, &self.sockets.to_string())?;
        command.set_variable(RECIPIENT, &std::process::id().to_string())?;
        self.names.as_deref().map_or(Ok(()), |names| command.set_variable(NAMES, names))
    }
}

/// The descriptors by which words name files: as a word, as the value in `--log=/dev/fd/5`, and before the colon of a volume.
/// Words of the container's command count, too: what they name stays open in the runtime and nowhere else.
fn named_in(words: impl Iterator<Item = OsString>) -> impl Iterator<Item = u32> {
    let named = |word: &[u8]| {
        let source = word.split(|byte| *byte == b':').next()?;
        descriptor::named_by(Path::new(OsStr::from_bytes(source))).map(|(number, _)| number)
    };
    words.filter_map(move |word| {
        let word = word.as_bytes();
        named(word).or_else(|| named(&word[word.iter().position(|byte| *byte == b'=')? + 1..]))
    })
}

/// A variable of the runtime's own. Bytes that are not UTF-8 belong to no number, and a socket's name has none.
fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(OsString::into_vec).map(|value| String::from_utf8_lossy(&value).into_owned())
}

/// How many sockets are meant for the process `own`: with another recipient, or none, they are meant for another process, whose
/// environment was inherited.
fn sockets(number: Option<&str>, recipient: Option<&str>, own: u32) -> Result<u32, Failure> {
    let is_ours = recipient.is_some_and(|recipient| recipient.parse() == Ok(own));
    match number.filter(|number| is_ours && !number.is_empty()) {
        None => Ok(0),
        Some(number) => number.parse().map_err(|_| {
            Failure::new(format!("{SOCKETS}={number:?} is not a number of descriptors"))
                .hint("it says how many sockets are open from descriptor 3 on (man 3 sd_listen_fds)")
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_by_descriptor() {
        let words = [
            "run",
            "--log=/dev/fd/5",
            "--pid-file",
            "/proc/self/fd/6",
            "-v",
            "/dev/fd/7/data:/data:ro",
            "a=b",
            "=",
            "/dev/null",
        ];
        let named: Vec<u32> = named_in(words.into_iter().map(OsString::from)).collect();
        assert_eq!(named, [5, 6, 7]);
    }

    #[test]
    fn sockets_are_for_one_process() {
        assert_eq!(sockets(Some("2"), Some("77"), 77), Ok(2));
        for (number, recipient) in
            [(None, Some("77")), (Some("2"), None), (Some("2"), Some("1")), (Some(""), Some("77"))]
        {
            assert_eq!(sockets(number, recipient, 77), Ok(0), "{number:?} {recipient:?}");
        }
        for wrong in ["-1", "two", "4294967296"] {
            assert!(sockets(Some(wrong), Some("77"), 77).is_err(), "{wrong:?}");
        }
    }
}
