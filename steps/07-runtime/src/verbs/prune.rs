//! `prune`: what nobody needs any more, and what killed commands have left.

use std::process::ExitCode;

use anyhow::Result;
use kernel::sys::privilege;

use super::Context;
use crate::removal::{self, Strangers};
use crate::spec::Status;
use crate::store::is_missing;

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

/// Whether it was there to be removed. One that another command is busy with is left alone, and so is one that cannot be seen
/// from here.
fn remove(context: &Context, id: &str) -> Result<bool> {
    let container = match context.store.open(id) {
        Err(error) => return remove_unknown(context, id, error),
        Ok(container) => container,
    };
    if container.status() != Status::Stopped {
        return Ok(false);
    }
    match container.lock() {
        Err(error) if is_missing(&error, id) => Ok(false),
        Ok(container) if container.status() != Status::Stopped => Ok(false),
        locked => {
            let container = locked?;
            removal::remove(&container, Some(&container.spec()?), Strangers::Refuse).map(|()| true)
        }
    }
}

/// What has no record that can be read: a launch that was killed early goes. Where a container may run, nothing is removed.
fn remove_unknown(context: &Context, id: &str, why: anyhow::Error) -> Result<bool> {
    let damaged = match context.store.damaged(id) {
        Err(error) if is_missing(&error, id) => return Ok(false),
        damaged => damaged?,
    };
    let Some(damaged) = damaged else { return context.store.remove_new(id) };
    let in_use = removal::group_of_damaged(id, &damaged)?.is_some_and(|group| !group.processes().is_empty());
    if in_use || !damaged.has_no_record() {
        return Err(why);
    }
    removal::remove_damaged(id, damaged).map(|()| true)
}
