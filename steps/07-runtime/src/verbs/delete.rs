//! `delete`: what is left of a container goes.

use std::process::ExitCode;

use anyhow::Result;
use kernel::sys::signal::SIGKILL;
use kernel::{Failure, purpose};

use super::Context;
use crate::spec::Status;
use crate::store::Container;
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
            Status::Created | Status::Creating => end(&container)?,
            _ if self.force => end(&container)?,
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

/// Kills its first process, and waits until it is gone. The group sees to the others.
fn end(container: &Container) -> Result<()> {
    const PATIENCE: u16 = 10_000; // milliseconds
    purpose("end it, and wait until it has");
    let Ok(process) = container.process() else { return Ok(()) };
    if let Some(group) = &container.record.group {
        group.kill_all()?;
    }
    let _ = process.send_signal(SIGKILL);
    if process.wait_for_end(PATIENCE)? {
        return Ok(());
    }
    let text = format!("container {:?}: its first process does not end", container.record.id);
    Err(Failure::new(text).hint("the kernel waits for a disk, or a network drive: ps -o stat,wchan").into())
}
