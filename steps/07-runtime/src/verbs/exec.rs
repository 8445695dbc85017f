//! `exec`: one process more in a container that runs.

use std::cell::RefCell;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::groups::Cgroup;
use crate::handed_on::HandedOn;
use crate::sibling;
use anyhow::{Context as _, Result};
use kernel::Failure;
use kernel::sys::clone::{self, CloneFlags};
use privileges::User;

use super::Context;
use crate::plan::{self, Affinity, Task};
use crate::spec::{self, Process, Spec, Status};
use crate::store::Container;
use crate::terminal::{MasterSocket, PendingRelay};
use crate::visit::{self, Visit};
use crate::{caller, foreground, launch, listener};

/// Run one command more in a container
#[derive(clap::Args, Debug)]
pub struct Exec {
    /// A socket that takes the master of the command's terminal
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,

    /// The command's working directory [default: the container's]
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,

    /// Set a variable; may be given again
    #[arg(long, short, value_name = "NAME=VALUE")]
    env: Vec<String>,

    /// Give it a terminal
    #[arg(long, short)]
    tty: bool,

    /// Its user and group, by number [default: the container's]; without a group, those of the container's /etc/passwd and /etc/group
    #[arg(long, short, value_name = "UID[:GID]")]
    user: Option<String>,

    /// Another group; may be given again
    #[arg(long, short = 'g', value_name = "GID")]
    additional_gids: Vec<u32>,

    /// All of this from a file, as in config.json
    #[arg(long, short, value_name = "FILE")]
    process: Option<PathBuf>,

    /// Return as soon as the command runs
    #[arg(long, short)]
    detach: bool,

    /// Unix socket that receives a pidfd of the command (man 2 pidfd_open)
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,

    /// Write its number to this file
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,

    /// No program that it starts gets more rights (man 2 prctl, PR_SET_NO_NEW_PRIVS)
    #[arg(long)]
    no_new_privs: bool,

    /// One capability more; may be given again
    #[arg(long, short, value_name = "CAPABILITY")]
    cap: Vec<String>,

    /// The AppArmor profile that confines it [default: the container's]
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,

    /// A group inside the container's, which a process in there has made; with controllers, one in their trees of cgroup v1,
    /// and may be given again
    #[arg(long, value_name = "[CONTROLLER,...:]PATH")]
    cgroup: Vec<String>,

    /// Pass N more descriptors, starting at 3
    #[arg(long, value_name = "N", default_value = "0")]
    preserve_fds: u32,

    /// Even if the container is paused; it then waits
    #[arg(long)]
    ignore_paused: bool,

    /// The container's name
    id: String,

    /// The command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl Exec {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        let given = self.process.as_deref().map(spec::read).transpose()?; // it may be one of those that are closed now
        let handed_on = HandedOn::take(self.preserve_fds)?;
        let container = context.store.open(&self.id)?;
        self.refuse_if_not_running(&container)?;
        let spec = container.spec()?;
        let process = self.process(given, &spec, &container)?;
        spec::check_process(&process, "process.", &launch::known())?;
        let task = Task::new("process", &process, &spec)?;
        let affinity = Affinity::new(&process)?;
        crate::terminal::check(task.terminal.is_some(), self.console_socket.as_deref(), self.detach)?;
        self.visit(&container, &spec, &task, &affinity, &handed_on)
    }

    fn refuse_if_not_running(&self, container: &Container) -> Result<()> {
        let refuse = |why: &str| Err(Failure::new(format!("container {:?}: {why}", self.id)).into());
        match container.status() {
            Status::Running | Status::Created => Ok(()),
            Status::Paused if self.ignore_paused => Ok(()),
            Status::Paused => refuse("cannot exec in a paused container (use --ignore-paused to override)"),
            Status::Creating => refuse("it is still being made"),
            Status::Unknown => container.process().map(drop), // says why
            Status::Stopped => refuse("cannot exec in a stopped container: container not running"),
        }
    }

    /// The one that was given, or the container's own with another command.
    fn process(&self, given: Option<Process>, spec: &Spec, container: &Container) -> Result<Process> {
        let mut process = spec.process.clone().context("config.json: process: missing")?;
        if let Some(given) = given {
            return Ok(given.completed_by(process));
        }
        if self.command.is_empty() {
            return Err(Failure::new("no command was given")
                .hint("cellblock exec ID COMMAND, or --process FILE")
                .into());
        }
        process.args = self.command.clone();
        process.terminal = self.tty;
        process.console_size = None;
        process.env.extend(self.env.iter().cloned());
        process.cwd = self.cwd.clone().unwrap_or(process.cwd);
        process.no_new_privileges |= self.no_new_privs;
        process.apparmor_profile = self.apparmor.clone().or(process.apparmor_profile);
        let mut user = process.user.clone().unwrap_or_default();
        if let Some(text) = &self.user {
            let found = find_user(text, container)?;
            (user.uid, user.gid, user.additional_gids) = (found.uid, found.gid, found.groups);
        }
        user.additional_gids.extend(&self.additional_gids);
        process.user = Some(user);
        if !self.cap.is_empty() {
            let mut held = process.capabilities.clone().unwrap_or_default();
            for set in [&mut held.bounding, &mut held.effective, &mut held.permitted] {
                set.extend(self.cap.iter().cloned());
            }
            process.capabilities = Some(held);
        }
        Ok(process)
    }

    /// Which group it is born into: the one that was asked for, or where the container's first process is now.
    fn group(&self, group: &Cgroup, container: &Container) -> Result<Cgroup> {
        match self.cgroup.is_empty() {
            false => group.inside(&self.cgroup).with_context(|| format!("--cgroup {}", self.cgroup.join(" --cgroup "))),
            true => Ok(group.group_of(container.record.pid.unwrap_or_default())),
        }
    }

    /// The parent's list of calls.
    fn visit(
        &self,
        container: &Container,
        spec: &Spec,
        task: &Task,
        affinity: &Affinity,
        handed_on: &HandedOn,
    ) -> Result<ExitCode> {
        let init = container.process()?;
        let group = container.group()?.map(|group| self.group(group, container)).transpose()?;
        let group = group.as_ref();
        let pidfd_socket = self.pidfd_socket.as_deref().map(caller::connect_pidfd_socket).transpose()?;
        let master_socket = self.console_socket.as_deref().map(MasterSocket::connect).transpose()?;
        let (relay, master_socket) = crate::terminal::prepare(task, master_socket)?;
        let asked = spec.linux.iter().flat_map(|linux| &linux.namespaces);
        let namespaces = asked.fold(CloneFlags::empty(), |all, namespace| all | plan::flag(namespace.kind));
        let (number, number_entry) = clone::pipe("number", "number")?;
        visit::shut(task, affinity)?;
        let listener = listener::Relay::connect(task)?;
        let group_entrances = group.map(Cgroup::open_entrances).transpose()?.unwrap_or_default();
        // Not from a user namespace of the container's: the child is not dumpable, and belongs to the host's (man 2 ptrace).
        let may_trace = spec.process.as_ref().is_some_and(Process::may_trace);
        let traced = may_trace && !namespaces.contains(CloneFlags::CLONE_NEWUSER);
        let visited = Visit {
            task,
            affinity,
            group_entrances,
            init: init.descriptor(),
            namespaces,
            traced,
            master_socket,
            detached: self.detach,
            handed_on,
            listener,
            number: RefCell::new(Some(number_entry)),
        };
        let closed = container.record.scope.as_ref().filter(|scope| scope.is_closed());
        let entrance = group.filter(|_| closed.is_none()).map(Cgroup::entrance).transpose()?.flatten();
        let mut child = namespaces::spawn_into(CloneFlags::empty(), entrance.as_ref(), || visit::enter(&visited))?;
        if let (Some(scope), Some(whole), Some(group)) = (closed, &container.record.group, group) {
            scope.attach(child.pid(), whole, group)?;
        }
        task.give_standard(init.pid());
        task.raise_limits(child.pid())?;
        child.open_gate()?;
        if namespaces.contains(CloneFlags::CLONE_NEWPID) {
            visited.number.take(); // held here too, its closing in the child would never be seen
            sibling::follow(&mut child, &number)?;
        }
        if let Some(listener) = visited.listener {
            listener.pass_on(child.watch().0, container.state(Status::Running))?;
        }
        child.read_report()?;
        caller::write_pid_file(self.pid_file.as_deref(), child.pid(), handed_on)?;
        pidfd_socket.map_or(Ok(()), |socket| caller::send_pidfd(&socket, &child))?;
        let terminal = relay.map(PendingRelay::start).transpose()?;
        if self.detach {
            child.leave();
            return Ok(ExitCode::SUCCESS);
        }
        let (process, signals) = child.watch();
        let exit = foreground::until_end(process, signals, terminal)?;
        child.has_ended();
        Ok(ExitCode::from(exit.code()))
    }
}

/// A user alone has the groups that the container's own files say (man 5 passwd, man 5 group), and group 0 without an entry;
/// a user with a group has that alone.
fn find_user(text: &str, container: &Container) -> Result<User> {
    let (uid, gid) = user_and_group(text)?;
    if let Some(gid) = gid {
        return Ok(User { uid, gid, ..User::default() });
    }
    let root = format!("/proc/{}/root", container.process()?.pid());
    User::numbered_below(uid, std::path::Path::new(&root)).context("--user")
}

/// `1000` or `1000:100`, and nothing else: "-u 1" once ran as another user (CVE-2026-30892).
fn user_and_group(text: &str) -> Result<(u32, Option<u32>), Failure> {
    let number = |part: &str| {
        let plain = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        part.parse().ok().filter(|id| plain && *id != u32::MAX)
    };
    let ids = match text.split_once(':') {
        Some((user, group)) => number(user).zip(number(group).map(Some)),
        None => number(text).map(|user| (user, None)),
    };
    ids.ok_or_else(|| {
        Failure::new(format!("--user {text:?}: that is no number of a user")).hint("such as 1000 or 1000:100")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_numbers() {
        assert_eq!(user_and_group("1"), Ok((1, None)));
        assert_eq!(user_and_group("1:2"), Ok((1, Some(2))));
        for wrong in ["", ":", "1:", ":1", " 1", "-1", "+1", "0x1", "4294967295", "4294967296", "1:2:3", "root"] {
            assert!(user_and_group(wrong).is_err(), "{wrong:?}");
        }
    }
}
