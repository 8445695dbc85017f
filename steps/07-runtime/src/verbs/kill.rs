//! `kill`: a signal for a container.

use std::process::ExitCode;

use anyhow::Result;
use kernel::{Errno, Failure};

use super::Context;
use crate::spec::Status;

/// Send a signal to a container's first process
#[derive(clap::Args, Debug)]
pub struct Kill {
    /// To all its processes
    #[arg(long, short)]
    all: bool,

    /// The container's name
    id: String,

    /// By name or number
    #[arg(default_value = "TERM")]
    signal: String,
}

impl Kill {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        let number = number(&self.signal)?;
        let container = context.store.open(&self.id)?;
        if self.all {
            match &container.record.group {
                Some(group) => group.signal_all(number)?,
                None => container.process()?.signal(number)?,
            }
            return Ok(ExitCode::SUCCESS);
        }
        let not_running = || Failure::new(format!("container {:?}: container not running", self.id));
        if container.status() == Status::Stopped {
            return Err(not_running().into());
        }
        match container.process()?.signal(number) {
            Err(refused) if refused.errno() == Some(Errno::ESRCH) => return Err(not_running().into()),
            sent => sent?,
        }
        // Who is frozen on v1 does not even die before he is thawed.
        let frozen = container.record.group.as_ref().filter(|group| group.is_frozen());
        if let (Some(group), true) = (frozen, number == kernel::sys::signal::SIGKILL) {
            group.freeze(false)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// `SIGTERM`, `TERM`, `term` or `15`.
fn number(text: &str) -> Result<i32, Failure> {
    const MOST: i32 = 64;
    let refuse =
        || Failure::new(format!("there is no signal {text:?}")).hint("such as TERM, or 15: kill -l lists them");
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=MOST).contains(&number) { Ok(number) } else { Err(refuse()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    name.parse::<nix::sys::signal::Signal>().map(|signal| signal as i32).map_err(|_| refuse())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_as_people_write_them() {
        for text in ["SIGTERM", "TERM", "term", "15"] {
            assert_eq!(number(text), Ok(15), "{text}");
        }
        for wrong in ["", "0", "-1", "65", "NOSUCH", "SIG"] {
            assert!(number(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(number("64"), Ok(64));
    }
}
