//! `pause` and `resume`: all processes of a container stand still, and go on.

use std::process::ExitCode;

use anyhow::Result;
use kernel::Failure;

use super::Context;
use crate::spec::Status;

/// Stop all processes of a container where they are
#[derive(clap::Args, Debug)]
pub struct Pause {
    /// The container's name
    id: String,
}

/// Let them go on
#[derive(clap::Args, Debug)]
pub struct Resume {
    /// The container's name
    id: String,
}

impl Pause {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        freeze(context, &self.id, true)
    }
}

impl Resume {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        freeze(context, &self.id, false)
    }
}

fn freeze(context: &Context, id: &str, frozen: bool) -> Result<ExitCode> {
    let container = context.store.open(id)?.lock()?;
    let refuse = |why: &str| Failure::new(format!("container {id:?}: {why}"));
    match (container.status(), frozen) {
        (Status::Running | Status::Created, true) | (Status::Paused, false) => {}
        (Status::Paused, true) => return Err(refuse("container is already paused").into()),
        (Status::Unknown, _) => drop(container.process()?), // says why
        (Status::Stopped, _) => return Err(refuse("container not running").into()),
        (_, false) => return Err(refuse("container not paused").into()),
        (Status::Creating, true) => return Err(refuse("container is being made").into()),
    }
    let no_group = || refuse("it has no group that could be frozen").hint("an ordinary user's group must be delegated");
    container.group()?.ok_or_else(no_group)?.freeze(frozen)?;
    Ok(ExitCode::SUCCESS)
}
