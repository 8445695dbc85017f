//! `run`: create and start in one, and, unless detached, wait for the end and delete.

use std::os::fd::AsFd;
use std::process::ExitCode;

use anyhow::Result;
use cgroups::Limits;

use super::Context;
use super::create::{OfBundle, Options};
use crate::cli::{self, RootfsOptions};
use crate::foreground;
use crate::handed_on::HandedOn;
use crate::launch::{self, Launched, Request};
use crate::removal::{self, Strangers};
use crate::spec::Spec;
use crate::store::{Container, is_missing};

/// Both usages.
const USAGE: &str = "cellblock run [OPTIONS] ID
       cellblock run --rootfs DIR [OPTIONS] [COMMAND]...";

/// Make a container, run its command, and remove it when that has ended
#[derive(clap::Args, Debug)]
#[command(override_usage = USAGE, after_help = cli::MORE_WITH_ROOTFS)]
pub struct Run {
    #[command(flatten)]
    bundle: OfBundle,
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    while_it_runs: WhileItRuns,
}

/// Make a container of the lessons' options, run its command, and remove it when that has ended
#[derive(clap::Args, Debug)]
#[command(override_usage = USAGE)]
pub struct RunRootfs {
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    while_it_runs: WhileItRuns,
    #[command(flatten)]
    rootfs: RootfsOptions,
}

/// What becomes of the caller, and of the container when it has ended.
#[derive(clap::Args, Debug)]
struct WhileItRuns {
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
        let request = Request { detached: self.while_it_runs.detach, ..self.bundle.request(&self.options, context)? };
        self.while_it_runs.launch(context, request, None)
    }
}

impl RunRootfs {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        let handed_on = HandedOn::take(self.options.preserve_fds)?;
        let mut checked = self.rootfs.check()?;
        let detached = self.while_it_runs.detach;
        checked.decide_terminal(self.options.console_socket.is_some(), detached);
        let (id, limits, no_new_keyring) =
            (checked.name.clone(), checked.limits.clone(), !checked.privileges.new_keyring);
        let (bundle, network) = checked.prepare()?;
        let (own, network) = (Some(bundle), Some(network));
        let request =
            Request { own, network, no_new_keyring, detached, handed_on, ..self.options.request(&id, context)? };
        let code = self.while_it_runs.launch(context, request, Some(&limits))?;
        if detached {
            super::print(&format!("{id}\n"))?;
        }
        Ok(code)
    }
}

impl WhileItRuns {
    fn launch(&self, context: &Context, request: Request, limits: Option<&Limits>) -> Result<ExitCode> {
        let Launched { container, child, terminal, spec, network, notify } = launch::launch(&context.store, request)?;
        let container = container.unlock(); // a hook may call this runtime
        if let Err(error) = removal::poststart(&container, &spec) {
            if let Ok(locked) = container.lock() {
                removal::after_failed_poststart(&locked, &spec);
            }
            return Err(error);
        }
        if let Some(notify) = notify.filter(|_| terminal.is_none()) {
            let (process, signals) = child.watch();
            notify.pass_on(child.pid(), &[process.descriptor().as_fd(), signals.as_fd()])?;
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
        if let (Some(limits), Ok(Some(group))) = (limits, container.group()) {
            group.directories.used().tell_end(limits);
        }
        if !self.keep {
            remove(container, &spec)?;
        }
        drop(network); // until now its ports were ours
        Ok(ExitCode::from(exit?.code()))
    }
}

/// Another command may have removed it while we did not look, and its name may be a successor's.
fn remove(container: Container, spec: &Spec) -> Result<()> {
    let id = container.record.id.clone();
    match container.lock() {
        Err(error) if is_missing(&error, &id) => Ok(()),
        locked => removal::remove(&locked?, Some(spec), Strangers::Leave),
    }
}
