//! `run`: create and start in one, and, unless detached, wait for the end and delete.

use std::process::ExitCode;

use anyhow::Result;

use super::Context;
use crate::launch::{self, Launched, Request};
use crate::spec::Status;
use crate::{foreground, hooks, log};

/// Make a container, run its command, and remove it when that has ended
#[derive(clap::Args, Debug)]
pub struct Run {
    #[command(flatten)]
    options: super::create::Options,

    /// Go on without it, as soon as its command runs
    #[arg(long, short)]
    detach: bool,

    /// Do not remove it when it has ended
    #[arg(long)]
    keep: bool,

    /// For callers of runc: orphans are the container's own first process's to reap
    #[arg(long, hide = true)]
    no_subreaper: bool,
}

impl Run {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        super::close_inherited(self.options.preserve_fds)?;
        let request = Request { detached: self.detach, ..self.options.request(context)? };
        let Launched { container, child, terminal, spec, .. } = launch::launch(&context.store, &request)?;
        if let Some(asked) = &spec.hooks {
            hooks::run("poststart", &asked.poststart, &container.state(Status::Running)).or_else(|error| {
                log::warn(&format!("{error:#}"));
                anyhow::Ok(())
            })?;
        }
        if self.detach {
            child.leave();
            return Ok(ExitCode::SUCCESS);
        }
        let (process, signals) = child.watch();
        let exit = foreground::until_end(process, signals, terminal);
        match exit {
            Ok(_) => child.has_ended(),
            Err(_) => drop(child), // kills it
        }
        if !self.keep {
            let _lock = container.lock();
            launch::remove(&container, &spec)?;
        }
        Ok(ExitCode::from(exit?.code()))
    }
}
