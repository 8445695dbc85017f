//! `delete`: what is left of a container goes.

use std::process::ExitCode;

use anyhow::Result;
use kernel::Failure;
use kernel::sys::signal::SIGKILL;

use super::Context;
use crate::spec::Status;
use crate::{log, removal};

/// Remove a container that has stopped
#[derive(clap::Args, Debug)]
pub struct Delete {
    /// Kill it, if it has not; and do not fail if there is none
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
        if self.force {
            // Another command may hold the lock and wait for this very process: so it is killed first.
            let _ = container.process().map(|process| process.send_signal(SIGKILL));
        }
        let _lock = if self.force { container.lock_in_time() } else { container.lock() }?;
        // Somebody may have removed it while we waited for the lock.
        let container = match context.store.open(&self.id) {
            Err(_) if self.force => return Ok(ExitCode::SUCCESS),
            found => found?,
        };
        match container.status() {
            Status::Stopped => {}
            Status::Created | Status::Creating => removal::end(&container)?,
            _ if self.force => removal::end(&container)?,
            status => {
                let text = format!("cannot delete container {} that is not stopped: {}", self.id, status.name());
                return Err(Failure::new(text).hint("cellblock kill ends it; --force does both").into());
            }
        }
        let spec = match container.spec() {
            Err(error) if self.force => {
                log::warn(&format!("{error:#}; no poststop hook is run"));
                None
            }
            spec => Some(spec?),
        };
        removal::remove(&container, spec.as_ref())?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Delete {
    /// There is no record, or none that can be read.
    fn remove_unknown(&self, context: &Context) -> Result<ExitCode> {
        match context.store.damaged(&self.id)? {
            Some(damaged) => removal::remove_damaged(&self.id, damaged)?,
            None => drop(context.store.remove_nameless(&self.id)?),
        }
        Ok(ExitCode::SUCCESS)
    }
}
