//! `delete`: what is left of a container goes, or of all whose names fit a pattern.

use std::process::ExitCode;

use anyhow::Result;
use kernel::Failure;
use kernel::sys::signal::SIGKILL;

use super::Context;
use crate::groups::Cgroup;
use crate::removal::Strangers;
use crate::spec::Status;
use crate::store::{Container, is_missing};
use crate::sys::pattern::Pattern;
use crate::{log, removal};

/// Remove a container that has stopped
#[derive(clap::Args, Debug)]
pub struct Delete {
    /// Kill it first if it still runs; succeed if it does not exist
    #[arg(long, short)]
    force: bool,

    /// The name is a regular expression (man 7 regex, "extended"): remove all containers whose names it fits, in any part
    #[arg(long, short)]
    regex: bool,

    /// The container's name
    id: String,
}

impl Delete {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        if self.regex {
            self.remove_all(context)?
        } else {
            self.remove(context)?
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Removes each whose name fits. One that cannot be removed keeps none of the others.
    fn remove_all(&self, context: &Context) -> Result<()> {
        let pattern = Pattern::new(&self.id).map_err(|why| {
            let text = format!("--regex {:?}: it is not a regular expression: {why}", self.id);
            Failure::new(text).hint("such as '^web-[0-9]+$': man 7 regex")
        })?;
        let ids = context.store.ids()?.into_iter().filter(|id| pattern.fits(id));
        let mut failed = Vec::new();
        for id in ids {
            let one = Delete { id, ..*self };
            match one.remove(context) {
                Err(error) if !is_missing(&error, &one.id) => failed.push(error),
                _ => {} // removed, by another command perhaps, or not ours
            }
        }
        let Some(last) = failed.pop() else { return Ok(()) };
        failed.iter().for_each(|error| log::warn(&format!("{error:#}")));
        Err(last)
    }

    fn remove(&self, context: &Context) -> Result<()> {
        let container = match context.store.open(&self.id) {
            Err(_) if self.force => return self.remove_unknown(context),
            found => found?,
        };
        // Another command may hold the lock while it waits for the first process to end: so that is killed before locking.
        let was_killed =
            self.force && container.process().and_then(|process| Ok(process.send_signal(SIGKILL)?)).is_ok();
        let container = match container.lock() {
            Err(error) if self.force && is_missing(&error, &self.id) => return Ok(()),
            locked => locked?,
        };
        let strangers = match container.status() {
            Status::Stopped if was_killed => Strangers::None,
            Status::Stopped if self.force => Strangers::Leave,
            Status::Stopped => Strangers::Refuse,
            Status::Created | Status::Creating => removal::end(&container)?,
            Status::Unknown => self.end_unseen(&container)?,
            _ if self.force => removal::end(&container)?,
            status => {
                let text = format!("cannot delete container {} that is not stopped: {}", self.id, status.name());
                return Err(Failure::new(text).hint("cellblock kill ends it; --force does both").into());
            }
        };
        let spec = match container.spec() {
            Err(error) if self.force => {
                log::warn(&format!("{error:#}; no poststop hook is run"));
                None
            }
            spec => Some(spec?),
        };
        removal::remove(&container, spec.as_ref(), strangers)
    }

    /// There is no record, or none that can be read.
    fn remove_unknown(&self, context: &Context) -> Result<()> {
        match context.store.damaged(&self.id) {
            Err(error) if is_missing(&error, &self.id) => {}
            damaged => match damaged? {
                Some(damaged) => removal::remove_damaged(&self.id, damaged)?,
                None => drop(context.store.remove_new(&self.id)?),
            },
        }
        Ok(())
    }

    /// Its first process cannot be seen from here, but its group is certainly its own: all processes in it are ended there.
    fn end_unseen(&self, container: &Container) -> Result<Strangers> {
        let group = container.record.group.as_ref().map(Cgroup::noted_as_ours).filter(Cgroup::exists);
        match (group, self.force) {
            (Some(group), true) => group.kill_all().and_then(|()| group.wait_until_empty())?,
            (None, true) => log::warn(&format!(
                "{:#}: its record is removed; its processes may still run",
                container.process().unwrap_err()
            )),
            (_, false) => drop(container.process()?), // says why
        }
        Ok(Strangers::None)
    }
}
