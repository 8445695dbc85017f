//! `events`: what a container uses, as JSON, once or again and again, and that it has run out of memory; the shape is runc's,
//! which others read.

use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use kernel::Failure;
use kernel::sys::clone::Process;
use serde_json::{Value, json};

use super::Context;
use crate::groups::memory_events::MemoryWatch;
use crate::store::Container;
use crate::sys::poll::{self, PollTimeout, ready_within};
use crate::{clock, log};

/// Print what a container uses, and that it runs out of memory
#[derive(clap::Args, Debug)]
pub struct Events {
    /// Once, and no more
    #[arg(long)]
    stats: bool,

    /// Print again after this time, such as 5, 1s, 100ms or 1m30s
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = clock::duration)]
    interval: Duration,

    /// The container's name
    id: String,
}

impl Events {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        let container = context.store.open(&self.id)?;
        let process = container.process()?; // says why it has stopped, or is unknown
        if self.stats {
            print(&statistics(&container)?)?;
            return Ok(ExitCode::SUCCESS);
        }
        let watch = match container.group()?.map(crate::groups::Cgroup::watch_memory).transpose() {
            Err(error) => {
                log::warn(&format!("there will be no oom events: {error:#}"));
                None
            }
            watch => watch?.flatten(),
        };
        self.follow(&container, &process, watch)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Prints until the container ends.
    fn follow(&self, container: &Container, process: &Process, mut watch: Option<MemoryWatch>) -> Result<()> {
        let mut next = Instant::now();
        loop {
            let now = Instant::now();
            let ended = wait(process, watch.as_ref(), next.saturating_duration_since(now))?;
            match watch.as_mut().map(MemoryWatch::has_run_out) {
                Some(Some(true)) => print(&json!({"type": "oom", "id": container.record.id}))?,
                Some(None) => watch = None,
                _ => {}
            }
            if ended {
                return Ok(());
            }
            if Instant::now() >= next {
                print(&statistics(container)?)?;
                next = Instant::now() + self.interval;
            }
        }
    }
}

/// Waits for whatever comes first: the time is up, the group runs out of memory, or the process has ended. Whether it has.
fn wait(process: &Process, watch: Option<&MemoryWatch>, time: Duration) -> Result<bool, Failure> {
    let first = process.descriptor().as_fd();
    let memory = watch.map_or((first, poll::Events::empty()), MemoryWatch::awaited);
    let milliseconds = Duration::from_millis(time.as_nanos().div_ceil(1_000_000).try_into().unwrap_or(u64::MAX));
    let time = PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX);
    let [has_ended, _] = ready_within(time, [(first, poll::Events::POLLIN), memory])?;
    Ok(has_ended)
}

fn print(event: &Value) -> Result<()> {
    super::print(&format!("{event}\n"))
}

fn statistics(container: &Container) -> Result<Value> {
    let no_group = || Failure::new(format!("container {:?}: it has no group", container.record.id));
    let group = container.group()?.ok_or_else(no_group)?;
    Ok(json!({"type": "stats", "id": container.record.id, "data": group.statistics()}))
}
