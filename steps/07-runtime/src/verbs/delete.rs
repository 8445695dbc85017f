//! `delete`: what is left of a container goes.

use std::process::ExitCode;

use anyhow::Result;
use kernel::Failure;
use kernel::sys::signal::SIGKILL;

use super::Context;
use crate::groups::Cgroup;
use crate::removal::Strangers;
use crate::spec::Status;
use crate::store::{Container, is_missing};
use crate::{log, removal};

/// Remove a container that has stopped
#[derive(clap::Args, Debug)]
pub struct Delete {
    /// Kill it, if it has not; and do not fail if it does not exist
    #[arg(long, short)]
    force: bool,

    /// The container's name
    id: String,
}

impl Delete {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        let container = match context.store.open(&self.id) {
            Err(_) if self.force => return self.remove_unknown(context),
            found => found?,
        };
        // Another command may hold the lock and wait for this very process: so it is killed first.
        let was_killed =
            self.force && container.process().and_then(|process| Ok(process.send_signal(SIGKILL)?)).is_ok();
        let container = match container.lock() {
            Err(error) if self.force && is_missing(&error, &self.id) => return Ok(ExitCode::SUCCESS),
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
        removal::remove(&container, spec.as_ref(), strangers)?;
        Ok(ExitCode::SUCCESS)
    }

    /// There is no record, or none that can be read.
    fn remove_unknown(&self, context: &Context) -> Result<ExitCode> {
        match context.store.damaged(&self.id) {
            Err(error) if is_missing(&error, &self.id) => {}
            damaged => match damaged? {
                Some(damaged) => removal::remove_damaged(&self.id, damaged)?,
                None => drop(context.store.remove_new(&self.id)?),
            },
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Its first process cannot be seen from here, but its group is certainly its own: all processes in it are ended there.
    fn end_unseen(&self, container: &Container) -> Result<Strangers> {
        let group = container.record.group.as_ref().map(Cgroup::noted_as_ours).filter(Cgroup::exists);
        match (group, self.force) {
            (Some(group), true) => group.kill_all().and_then(|()| group.wait_until_empty())?,
            (None, true) => {
                log::warn(&format!("{:#}: it is forgotten, and may live on", container.process().unwrap_err()))
            }
            (_, false) => drop(container.process()?), // says why
        }
        Ok(Strangers::None)
    }
}
