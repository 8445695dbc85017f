//! Programs of the caller's at six moments of a container's life (config.md, POSIX-platform Hooks). Each reads the
//! container's state on its standard input.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use kernel::sys::namespace;
use kernel::{Failure, purpose};

use crate::spec::{Hook, State};

/// Runs the hooks of one moment, one after the other.
///
/// # Errors
/// One that cannot be started, that fails, or that takes longer than it may.
pub fn run(moment: &str, hooks: &[Hook], state: &State) -> Result<()> {
    if hooks.is_empty() {
        return Ok(());
    }
    purpose("programs of the caller's, which read the container's state");
    let state = serde_json::to_vec(state)?;
    for (index, hook) in hooks.iter().enumerate() {
        run_one(hook, &state).with_context(|| format!("hooks.{moment}[{index}] {}", hook.path))?;
    }
    Ok(())
}

// ANCHOR: run
fn run_one(hook: &Hook, state: &[u8]) -> Result<()> {
    let mut command = Command::new(&hook.path);
    command.env_clear().envs(hook.env.iter().filter_map(|variable| variable.split_once('=')));
    if let Some((name, arguments)) = hook.args.split_first() {
        command.arg0(name).args(arguments);
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut input) = child.stdin.take() {
        let _ = input.write_all(state); // whoever does not read it does not need it
    }
    if let Some(seconds) = hook.timeout {
        end_in_time(&mut child, seconds)?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ");
    Err(Failure::new(format!("it failed ({}): {said}", output.status)).into())
}
// ANCHOR_END: run

fn end_in_time(child: &mut Child, seconds: i64) -> Result<()> {
    let process = namespace::open_process(child.id() as i32)?;
    let milliseconds = u16::try_from(seconds.saturating_mul(1000)).unwrap_or(u16::MAX);
    let mut left = seconds.saturating_mul(1000);
    while left > 0 {
        if namespace::wait_for_end(&process, milliseconds.min(left.min(i64::from(u16::MAX)) as u16))? {
            return Ok(());
        }
        left -= i64::from(milliseconds);
    }
    child.kill().and_then(|()| child.wait())?;
    Err(Failure::new(format!("it was killed, for it took longer than {seconds} s")).into())
}
