//! `kill`: a signal for a container.

use std::process::ExitCode;

use anyhow::Result;
use kernel::sys::signal::SIGKILL;
use kernel::{Errno, Failure};

use super::Context;
use crate::groups::Cgroup;
use crate::removal;
use crate::spec::{NamespaceKind, Status};
use crate::store::Container;

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
            return self.signal_all(&container, number);
        }
        if number == SIGKILL
            && let Some(group) = shared_group(&container)?
        {
            if container.status() == Status::Stopped {
                removal::refuse_strangers(&container.record, container.spec().ok().as_ref())?;
            }
            group.kill_all()?;
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
        let frozen = container.group()?.filter(|group| group.is_frozen());
        if let (Some(group), true) = (frozen, number == SIGKILL) {
            group.freeze(false)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn signal_all(&self, container: &Container, number: i32) -> Result<ExitCode> {
        let Some(group) = container.group()? else {
            container.process()?.signal(number)?;
            return Ok(ExitCode::SUCCESS);
        };
        if container.status() == Status::Stopped {
            removal::refuse_strangers(&container.record, container.spec().ok().as_ref())?;
        }
        group.signal_all(number)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The group of a container with processes in it that the death of its first one does not end: only in a pid namespace of its
/// own is that one PID 1, with which the kernel kills all others (man 7 pid_namespaces).
fn shared_group(container: &Container) -> Result<Option<&Cgroup>> {
    let Some(group) = container.group()?.filter(|group| !group.processes().is_empty()) else {
        return Ok(None);
    };
    let spec = container.spec()?;
    let own = spec.linux.as_ref().and_then(|linux| linux.namespace(NamespaceKind::Pid));
    Ok(Some(group).filter(|_| own.is_none_or(|namespace| namespace.path.is_some())))
}

/// `SIGTERM`, `TERM`, `term` or `15`; real-time signals as `kill -l` prints them, RTMIN+3 or RTMAX-1 (man 7 signal). 0 is no
/// signal: it asks whether the process is there (man 2 kill).
fn number(text: &str) -> Result<i32, Failure> {
    let refuse =
        || Failure::new(format!("there is no signal {text:?}")).hint("such as TERM, or 15: kill -l lists them");
    if let Ok(number) = text.parse::<i32>() {
        return Some(number).filter(|number| (0..=LAST_REAL_TIME).contains(number)).ok_or_else(refuse);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    real_time(name).or_else(|| by_name(name)).ok_or_else(refuse)
}

/// The first two real-time signals are the C library's own.
const FIRST_REAL_TIME: i32 = 34;
const LAST_REAL_TIME: i32 = 64;

fn real_time(name: &str) -> Option<i32> {
    let (start, sign, rest) = match name.strip_prefix("RTMIN") {
        Some(rest) => (FIRST_REAL_TIME, '+', rest),
        None => (LAST_REAL_TIME, '-', name.strip_prefix("RTMAX")?),
    };
    let offset: u8 = match rest {
        "" => 0,
        rest => rest.strip_prefix(sign)?.parse().ok()?,
    };
    let number = if sign == '+' { start + i32::from(offset) } else { start - i32::from(offset) };
    (FIRST_REAL_TIME..=LAST_REAL_TIME).contains(&number).then_some(number)
}

fn by_name(name: &str) -> Option<i32> {
    let name = match name {
        "POLL" => "IO",
        "CLD" => "CHLD",
        "IOT" => "ABRT",
        name => name,
    };
    format!("SIG{name}").parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_as_people_write_them() {
        for text in ["SIGTERM", "TERM", "term", "15"] {
            assert_eq!(number(text), Ok(15), "{text}");
        }
        let listed =
            [("RTMIN", 34), ("SIGRTMIN+3", 37), ("rtmax-1", 63), ("RTMAX", 64), ("POLL", 29), ("CLD", 17), ("0", 0)];
        for (text, expected) in listed {
            assert_eq!(number(text), Ok(expected), "{text}");
        }
        for wrong in ["", "-1", "65", "NOSUCH", "SIG", "RTMIN+31", "RTMAX-31", "RTMIN-1", "RTMIN+", "RTMAX+1", "RTMIN3"]
        {
            assert!(number(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(number("64"), Ok(64));
    }
}
