//! `start`: the command of a created container begins.

use std::os::fd::AsFd;
use std::process::ExitCode;

use anyhow::Result;
use kernel::Failure;

use super::Context;
use crate::spec::Status;
use crate::{notify, removal, waiting};

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
        let (status, process) = container.status_and_process();
        match status {
            Status::Created | Status::Creating | Status::Unknown => {}
            Status::Stopped => return Err(refuse("cannot start a container that has stopped").into()),
            Status::Running | Status::Paused => return Err(refuse("cannot start an already running container").into()),
        }
        let process = process?; // says why it is unknown
        let notify = notify::listen(container.place())?;
        let answer = waiting::say_start(container.directory())
            .map_err(|_| refuse("cannot start a container that has stopped"))?;
        namespaces::read_signed(&answer)?;
        container.refuse_if_killed(&process)?;
        container.has_started();
        let spec = container.spec()?;
        removal::poststart(&container, &spec).inspect_err(|_| removal::after_failed_poststart(&container, &spec))?;
        let container = container.unlock(); // others may have to stop it, if it is never ready
        if let Some(notify) = notify {
            notify.pass_on(container.record.pid.unwrap_or_default(), &[process.descriptor().as_fd()])?;
        }
        Ok(ExitCode::SUCCESS)
    }
    // ANCHOR_END: start
}
