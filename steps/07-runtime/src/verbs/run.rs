//! `run`: create and start in one, and, unless detached, wait for the end and delete.

use std::process::ExitCode;

use anyhow::Result;
use cgroups::{Kept, Limits};

use super::Context;
use crate::launch::{self, Launched, Request};
use crate::spec::Status;
use crate::{foreground, hooks, log, people};

/// Make a container, run its command, and remove it when that has ended
#[derive(clap::Args, Debug)]
#[command(override_usage = "cellblock run [OPTIONS] ID\n       cellblock run --rootfs DIR [OPTIONS] [COMMAND]...")]
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

    #[command(flatten)]
    people: people::PeopleOptions,
}

impl Run {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        super::close_inherited(self.options.preserve_fds)?;
        if self.people.command.has_rootfs() {
            return self.run_wishes(context);
        }
        let id = super::only_word(&self.people.command)?;
        let no_new_keyring = self.people.privileges.keep_keyring();
        let request = Request { no_new_keyring, detached: self.detach, ..self.options.request(&id, context)? };
        self.launch(context, request, None)
    }

    /// From the lessons' options.
    fn run_wishes(&self, context: &Context) -> Result<ExitCode> {
        let mut wishes = self.people.check()?;
        if self.detach {
            wishes.without_terminal();
            wishes.without_us(
                "it must be taken down when the container has ended, and with --detach nobody waits for that",
            )?;
        }
        if self.options.console_socket.is_some() {
            wishes.with_terminal();
        }
        let (id, limits) = (wishes.name.clone(), wishes.limits.clone());
        let no_new_keyring = !wishes.privileges.new_keyring;
        let (bundle, network) = wishes.prepare()?;
        let asked = self.options.request_for(&id, context)?;
        let (own, network) = (Some(bundle), Some(network));
        let code = self.launch(
            context,
            Request { own, network, no_new_keyring, detached: self.detach, ..asked },
            Some(&limits),
        );
        if self.detach && code.is_ok() {
            super::print(&format!("{id}\n"))?;
        }
        code
    }

    fn launch(&self, context: &Context, request: Request, limits: Option<&Limits>) -> Result<ExitCode> {
        let Launched { container, child, terminal, spec, network, .. } = launch::launch(&context.store, request)?;
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
        if let (Some(limits), Some(group)) = (limits, &container.record.group) {
            Kept::used(group).tell_end(limits);
        }
        if !self.keep {
            let _lock = container.lock();
            launch::remove(&container, &spec)?;
        }
        drop(network);
        Ok(ExitCode::from(exit?.code()))
    }
}
