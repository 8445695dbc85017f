//! `start`: the command of a created container begins.

use std::os::fd::AsFd;
use std::process::ExitCode;

use anyhow::Result;
use kernel::sys::{clone, socket};
use kernel::{Failure, purpose};

use super::Context;
use crate::spec::Status;
use crate::store::START;
use crate::{hooks, log, notify};

/// Let a created container's command begin
#[derive(clap::Args, Debug)]
pub struct Start {
    /// The container's name
    id: String,
}

impl Start {
    // ANCHOR: start
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        let container = context.store.open(&self.id)?.lock()?;
        let refuse = |why: &str| Failure::new(format!("container {:?}: {why}", self.id));
        match container.status() {
            Status::Created | Status::Creating => {}
            Status::Stopped => return Err(refuse("cannot start a container that has stopped").into()),
            Status::Unknown => drop(container.process()?), // says why
            _ => return Err(refuse("cannot start an already running container").into()),
        }
        let notify = notify::listen(container.place())?;
        purpose("say start, and hear what comes of it; a sign and no failure means that the command runs");
        let caller = socket::connect(container.directory(), START)
            .map_err(|_| refuse("cannot start a container that has stopped"))?;
        let process = container.process()?;
        clone::write_all(&caller, b"start")?;
        namespaces::read_signed(&clone::read_to_end(&caller)?)?;
        container.refuse_if_killed(&process)?;
        container.has_started();
        if let Some(asked) = container.spec()?.hooks {
            // What fails now cannot be undone: the command runs (runtime.md, Lifecycle).
            if let Err(error) = hooks::run("poststart", &asked.poststart, &container.state(Status::Running)) {
                log::warn(&format!("{error:#}"));
            }
        }
        let container = container.unlock(); // others may have to stop it, if it is never ready
        if let Some(notify) = notify {
            notify.pass_on(container.record.pid.unwrap_or_default(), &[container.process()?.descriptor().as_fd()])?;
        }
        Ok(ExitCode::SUCCESS)
    }
    // ANCHOR_END: start
}
