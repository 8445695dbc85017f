//! `prune`: what nobody needs any more, and what killed commands have left.

use std::process::ExitCode;

use anyhow::Result;
use kernel::sys::privilege;

use super::Context;
use crate::removal;
use crate::spec::Status;

/// Remove all containers that have stopped, and what killed commands have left
#[derive(clap::Args, Debug)]
pub struct Prune {}

impl Prune {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        let mut failed = Ok(());
        for id in context.store.ids()? {
            let removed = remove(context, &id);
            match removed {
                Ok(true) => super::print(&format!("removed the container {id}\n"))?,
                Ok(false) => {}
                Err(error) => failed = failed.and(Err(error)), // the others can go all the same
            }
        }
        if privilege::user() == 0 {
            for line in network::prune()? {
                super::print(&format!("{line}\n"))?;
            }
        }
        failed.map(|()| ExitCode::SUCCESS)
    }
}

/// Whether it was there to be removed. One that somebody is busy with is left alone.
fn remove(context: &Context, id: &str) -> Result<bool> {
    let container = match context.store.open(id) {
        Err(error) => return remove_unknown(context, id, error),
        Ok(container) => container,
    };
    if container.status() != Status::Stopped {
        return Ok(false);
    }
    let _lock = container.lock()?;
    // Somebody may have removed it while we waited, and another taken its name.
    match context.store.open(id) {
        Ok(container) if container.status() == Status::Stopped => {
            removal::remove(&container, Some(&container.spec()?)).map(|()| true)
        }
        _ => Ok(false),
    }
}

/// What has no record that can be read: a launch that was killed early goes. Where a container may run, nothing is removed.
fn remove_unknown(context: &Context, id: &str, why: anyhow::Error) -> Result<bool> {
    let Some(damaged) = context.store.damaged(id)? else { return context.store.remove_nameless(id) };
    let in_use = removal::group_of_damaged(id, &damaged)?.is_some_and(|group| !group.processes().is_empty());
    if in_use || !damaged.has_no_record() {
        return Err(why);
    }
    removal::remove_damaged(id, damaged).map(|()| true)
}
