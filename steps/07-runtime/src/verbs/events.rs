//! `events`: what a container uses, as JSON, once or again and again; the shape is runc's, which others read.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use kernel::Failure;
use serde_json::{Value, json};

use super::Context;
use crate::spec::Status;
use crate::store::Container;

/// Print what a container uses
#[derive(clap::Args, Debug)]
pub struct Events {
    /// Once, and no more
    #[arg(long)]
    stats: bool,

    /// Print again after this many seconds
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = clap::value_parser!(u16).range(1..=60))]
    interval: u16,

    /// The container's name
    id: String,
}

impl Events {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        let container = context.store.open(&self.id)?;
        if matches!(container.status(), Status::Stopped | Status::Unknown) {
            drop(container.process()?); // says why
        }
        super::print(&format!("{}\n", event(&container)?))?;
        if self.stats {
            return Ok(ExitCode::SUCCESS);
        }
        let process = container.process()?;
        let milliseconds = Duration::from_secs(self.interval.into()).as_millis() as u16;
        while !process.wait_for_end(milliseconds)? {
            super::print(&format!("{}\n", event(&container)?))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn event(container: &Container) -> Result<Value> {
    let no_group = || Failure::new(format!("container {:?}: it has no group", container.record.id));
    let group = container.group()?.ok_or_else(no_group)?;
    Ok(json!({"type": "stats", "id": container.record.id, "data": group.statistics()}))
}
