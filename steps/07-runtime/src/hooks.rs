//! Programs of the caller's at six moments of a container's life (config.md, POSIX-platform Hooks). Each reads the
//! container's state on its standard input.

use std::ffi::{CString, OsStr};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kernel::sys::clone::Process;
use kernel::sys::signal;
use kernel::{Errno, Failure, purpose};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::log;
use crate::spec::{Hook, State};
use crate::sys::signal::without_sigpipe;

/// Runs the hooks of one moment on the host, one after the other. They start in the bundle; those without variables of their own
/// get the runtime's.
///
/// # Errors
/// One that cannot be started, that fails, or that takes longer than it may.
pub fn run(moment: &str, hooks: &[Hook], state: &State) -> Result<()> {
    let host = Surroundings::on_the_host(state);
    (0..hooks.len()).try_for_each(|index| run_nth(moment, hooks, index, &host, state))
}

/// Runs all hooks of one moment on the host as [`run`] does, also when one fails: that is a warning.
pub fn run_all(moment: &str, hooks: &[Hook], state: &State) {
    let host = Surroundings::on_the_host(state);
    for index in 0..hooks.len() {
        if let Err(error) = run_nth(moment, hooks, index, &host, state) {
            log::warn(&format!("{error:#}"));
        }
    }
}

/// Runs the startContainer hooks. They start where the container's command will; those without variables of their own get the
/// command's, for the runtime's are the host's.
///
/// # Errors
/// As [`run`]'s.
pub fn run_inside(hooks: &[Hook], environment: &[CString], state: &State) -> Result<()> {
    let inside = Surroundings { directory: None, environment: Some(environment) };
    (0..hooks.len()).try_for_each(|index| run_nth("startContainer", hooks, index, &inside, state))
}

/// What hooks find where they run.
struct Surroundings<'a> {
    /// Where they start; none: where this process is.
    directory: Option<&'a Path>,
    /// The variables of those that have none of their own; none: the runtime's.
    environment: Option<&'a [CString]>,
}

impl Surroundings<'_> {
    /// The bundle, unless it has gone, or may not be entered from a user namespace.
    fn on_the_host(state: &State) -> Surroundings<'_> {
        let bundle = Path::new(&state.bundle);
        let can_be_entered = bundle.join(".").is_dir();
        let directory = if can_be_entered { bundle } else { Path::new("/") };
        Surroundings { directory: Some(directory), environment: None }
    }

    fn command(&self, hook: &Hook) -> Command {
        let mut command = Command::new(&hook.path);
        self.directory.map(|directory| command.current_dir(directory));
        if !hook.env.is_empty() {
            command.env_clear().envs(hook.env.iter().filter_map(|variable| variable.split_once('=')));
        } else if let Some(environment) = self.environment {
            let pair = |variable: &CString| chroot::name_and_value(OsStr::from_bytes(variable.to_bytes()));
            command.env_clear().envs(environment.iter().filter_map(pair));
        }
        command
    }
}

fn run_nth(moment: &str, hooks: &[Hook], index: usize, surroundings: &Surroundings, state: &State) -> Result<()> {
    if index == 0 {
        purpose("programs of the caller's, which read the container's state");
    }
    let hook = &hooks[index];
    let command = surroundings.command(hook);
    let state = serde_json::to_vec(state)?;
    without_sigpipe(|| run_one(command, hook, &state, is_before_the_command(moment)))
        .with_context(|| format!("hooks.{moment}[{index}] {}", hook.path))
}

// ANCHOR: run
fn run_one(mut command: Command, hook: &Hook, state: &[u8], gives_up: bool) -> Result<()> {
    if let Some((name, arguments)) = hook.args.split_first() {
        command.arg0(name).args(arguments);
    }
    let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0).spawn()?;
    let seconds = hook.timeout.map(|seconds| u64::try_from(seconds).unwrap_or(0));
    let (status, said) = talk(child, state, seconds, gives_up)?;
    if status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&said).trim().replace('\n', " ");
    Err(Failure::new(format!("it failed ({status}): {said}")).into())
}
// ANCHOR_END: run

/// Feeds a hook and listens to it, without ever waiting for one pipe alone, until it ends or its time is over. What it has
/// started and left behind may keep the pipes: nothing waits for that.
fn talk(mut child: Child, state: &[u8], seconds: Option<u64>, gives_up: bool) -> Result<(ExitStatus, Vec<u8>)> {
    const PAUSE: Duration = Duration::from_millis(100);
    const MOST: usize = 4096; // of its words; the rest is read and thrown away, or it would block
    let process = Process::open(child.id() as i32, "hook")?;
    let deadline = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let (mut input, error) = (child.stdin.take(), child.stderr.take().context("it was piped")?);
    input.as_ref().map_or(Ok(()), dont_block)?;
    dont_block(&error)?;
    let (mut left, mut said, mut error) = (state, Vec::new(), Some(error));
    loop {
        let mut polled = vec![PollFd::new(process.descriptor().as_fd(), PollFlags::POLLIN)];
        polled.extend(error.as_ref().map(|error| PollFd::new(error.as_fd(), PollFlags::POLLIN)));
        polled.extend(input.as_ref().map(|input| PollFd::new(input.as_fd(), PollFlags::POLLOUT)));
        let left_to_it = deadline.map_or(PAUSE, |deadline| deadline.saturating_duration_since(Instant::now()));
        match poll(&mut polled, PollTimeout::try_from(left_to_it.min(PAUSE)).unwrap_or(PollTimeout::MAX)) {
            Err(Errno::EINTR) => continue,
            other => other.map_err(|errno| Failure::call(format_args!("poll(<hook>)"), errno))?,
        };
        let has_ended = polled[0].any().unwrap_or(false);
        if error.as_mut().is_some_and(|error| !listen(error, &mut said, MOST)) {
            error = None;
        }
        if input.as_mut().is_some_and(|input| !feed(input, &mut left)) {
            input = None;
        }
        if has_ended {
            return Ok((child.wait()?, said));
        }
        let asked = signal::asked_to_end().filter(|_| gives_up);
        let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if !is_late && asked.is_none() {
            continue;
        }
        let group = nix::unistd::Pid::from_raw(child.id() as i32);
        let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        child.wait()?;
        let why = match asked {
            Some(number) => format!("{} came", signal::name(number)),
            None => format!("it took longer than {} s", seconds.unwrap_or_default()),
        };
        return Err(Failure::new(format!("it was killed, because {why}")).into());
    }
}

/// Then a signal that asks the runtime to end has nothing else to end yet. Later hooks are for cleaning up: they run.
fn is_before_the_command(moment: &str) -> bool {
    !matches!(moment, "poststart" | "poststop")
}

fn dont_block(pipe: &impl AsFd) -> Result<(), Failure> {
    let set = nix::fcntl::fcntl(pipe.as_fd(), nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK));
    set.map(drop).map_err(|errno| Failure::call(format_args!("fcntl(<pipe>, NONBLOCK)"), errno))
}

/// Takes what has come; false at the end.
fn listen(from: &mut ChildStderr, said: &mut Vec<u8>, most: usize) -> bool {
    const READS: usize = 64; // a child that writes without end must not keep us from looking at the clock
    let mut bytes = [0; 4096];
    for _ in 0..READS {
        match from.read(&mut bytes) {
            Ok(0) => return false,
            Ok(count) => said.extend_from_slice(&bytes[..count.min(most.saturating_sub(said.len()))]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
    true
}

/// Gives what fits; false when all is given, or nothing reads any more.
fn feed(to: &mut ChildStdin, left: &mut &[u8]) -> bool {
    while !left.is_empty() {
        match to.write(left) {
            Ok(count) => *left = &left[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
    false
}
