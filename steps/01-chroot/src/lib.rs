//! Step 1, a cell: another root directory.
//!
//! A root filesystem is a directory that holds what a distribution puts at `/`: `bin`, `etc`, `lib`, `usr`. The
//! kernel keeps, for every process, which directory its paths begin at; `chroot` changes that. The process sees a
//! machine with another distribution on it, on the same kernel.
//!
//! What order matters:
//!
//! 1. Close what the caller left open, before anything of ours is open ([`close_inherited`]).
//! 2. Look at what was asked for while mistakes can still be told in the host's own terms ([`CommandOptions::check`]).
//! 3. Change the root, then the working directory: without the second, `.` still lies outside ([`enter`]).
//! 4. Carry nothing over: variables and signals survive an exec unless we see to it ([`exec`]).
//!
//! It is a weak wall. Its chapter climbs over it in five lines.

use std::convert::Infallible;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::io::IsTerminal;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kernel::{Errno, Failure, Remedy, purpose, sys};

mod program;

pub use program::interpreter;

/// Which root filesystem, which command, and what it starts with.
#[derive(clap::Args, Debug)]
pub struct CommandOptions {
    /// The root filesystem [default: target/rootfs/busybox of the workspace]
    #[arg(long, value_name = "DIR", env = "CELLBLOCK_ROOTFS", hide_env_values = true)]
    rootfs: Option<PathBuf>,

    /// Set a variable of the command's environment; may be given again
    #[arg(long, short, value_name = "NAME=VALUE")]
    env: Vec<OsString>,

    /// The command's working directory, inside the root filesystem
    #[arg(long, short, value_name = "DIR", default_value = "/")]
    workdir: PathBuf,

    /// The command and its arguments
    #[arg(trailing_var_arg = true, value_name = "COMMAND", default_value = "/bin/sh")]
    command: Vec<OsString>,
}

/// A command that can be run.
#[derive(Debug, Clone, Default)]
pub struct Command {
    /// The root filesystem, as the host sees it.
    pub rootfs: PathBuf,
    /// The directory in which it starts, inside the root filesystem.
    pub workdir: PathBuf,
    /// The program and its arguments.
    pub arguments: Vec<CString>,
    /// Its variables, each as NAME=VALUE.
    pub environment: Vec<CString>,
    /// Its HOME was asked for, and is not to become another user's (step 6).
    pub names_home: bool,
}

/// Where commands are looked for, whatever the host's own PATH says.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl CommandOptions {
    // ANCHOR: check
    /// Refuses what cannot work, before anything is made.
    ///
    /// # Errors
    /// A root filesystem that is not a directory, or a variable without a name.
    pub fn check(&self) -> Result<Command> {
        let rootfs = self.rootfs.clone().unwrap_or_else(default_rootfs);
        if !rootfs.is_dir() {
            let hint = "make one: scripts/rootfs busybox (or name another: --rootfs DIR)";
            return Err(Failure::new(format!("no root filesystem at {}", shown(&rootfs))).hint(hint).into());
        }
        let (environment, names_home) = environment(&self.env)?;
        let arguments = self.command.iter().map(c_string).collect::<Result<_>>()?;
        Ok(Command { rootfs, workdir: self.workdir.clone(), arguments, environment, names_home })
    }
    // ANCHOR_END: check
}

/// The workspace's own busybox, from whichever folder the launcher is started.
pub fn default_rootfs() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    workspace.expect("this crate lies two folders below").join("target/rootfs/busybox")
}

/// A path as short as the reader knows it: relative where it lies below the working directory.
pub fn shown(path: &Path) -> std::path::Display<'_> {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).display()
}

// ANCHOR: environment
/// An environment of its own: nothing of the host's, except the kind of terminal if there is one. And whether it was asked
/// for a home directory.
fn environment(asked: &[OsString]) -> Result<(Vec<CString>, bool)> {
    let mut names_home = false;
    let mut variables = vec![("PATH".into(), PATH.into()), ("HOME".into(), "/root".into())];
    if let (true, Some(terminal)) = (std::io::stdin().is_terminal(), std::env::var_os("TERM")) {
        variables.push(("TERM".into(), terminal));
    }
    for variable in asked {
        let (name, value) = name_and_value(variable)
            .ok_or_else(|| Failure::new(format!("--env {variable:?} has no name")).hint("write --env NAME=VALUE"))?;
        if name == "HOME" {
            names_home = !value.is_empty();
            if !names_home {
                continue; // as good as none
            }
        }
        variables.retain(|(other, _)| *other != name);
        variables.push((name, value));
    }
    let texts = variables.iter().map(|(name, value)| c_string([name.as_os_str(), value].join(OsStr::new("="))));
    Ok((texts.collect::<Result<_>>()?, names_home))
}
// ANCHOR_END: environment

/// A variable's name and value; `None` without a name.
pub fn name_and_value(variable: &OsStr) -> Option<(OsString, OsString)> {
    let bytes = variable.as_bytes();
    let equals = bytes.iter().position(|&byte| byte == b'=').filter(|&at| at > 0)?;
    Some((OsString::from_vec(bytes[..equals].to_vec()), OsString::from_vec(bytes[equals + 1..].to_vec())))
}

// ANCHOR: close_inherited
/// Closes what our caller left open. A descriptor needs no path: one of a directory outside is a door in the wall.
///
/// It comes first of all, while nothing of ours is open: `--workdir /proc/self/fd/7` finds no 7 (CVE-2024-21626).
pub fn close_inherited() -> Result<()> {
    purpose("what our caller left open would lead out: close all but the standard three");
    sys::process::close_from(3)?;
    Ok(sys::process::refuse_directories()?)
}
// ANCHOR_END: close_inherited

// ANCHOR: enter
/// Makes `rootfs` the root directory, and goes there (man 2 chroot).
///
/// # Errors
/// EPERM without CAP_SYS_CHROOT.
///
/// # Shell: `chroot ROOTFS COMMAND`
pub fn enter(rootfs: &Path) -> Result<()> {
    purpose("another root directory; then go there, for . still lies outside");
    sys::process::chroot(rootfs)
        .hint_on(Errno::EPERM, "only root may: sudo, or cargo run -p ..., which finds a way")
        .with_context(|| format!("cannot enter {}", shown(rootfs)))?;
    Ok(sys::process::chdir(Path::new("/"))?)
}
// ANCHOR_END: enter

// ANCHOR: exec
/// Becomes the command, with nothing carried over but the three standard descriptors.
///
/// # Errors
/// Exit code 127 if the command is not in the root filesystem, 126 if it cannot be executed.
pub fn exec(command: &Command) -> Result<Infallible> {
    go_to_workdir(command)?;
    let program = program::find(&command.arguments[0], &command.environment, &command.workdir)?;
    reset_signals()?;
    exec_program(&program, command)
}

/// Becomes the command, whose program was found.
///
/// # Errors
/// As [`exec`]'s.
pub fn exec_program(program: &CStr, command: &Command) -> Result<Infallible> {
    purpose("become the command");
    sys::process::execve(program, &command.arguments, &command.environment)
        .map_err(|refused| program::explain(program, refused))
        .with_context(|| format!("cannot run {}", program.to_string_lossy()))
}
// ANCHOR_END: exec

/// Looks for the command's program in the root that this process has, and whether it can be executed.
///
/// # Errors
/// As [`exec`]'s.
pub fn look_for_program(command: &Command) -> Result<CString> {
    Ok(program::look_for(&command.arguments[0], &command.environment, &command.workdir)?)
}

/// Leaves no signal ignored or blocked: both survive an exec.
pub fn reset_signals() -> Result<(), Failure> {
    purpose("nothing comes along: no signal that is ignored or blocked");
    sys::process::reset_signals()
}

/// Goes to the command's working directory, and makes sure that it lies inside.
///
/// # Errors
/// It is not there, or not below the root directory.
pub fn go_to_workdir(command: &Command) -> Result<()> {
    if command.workdir == Path::new("/") {
        return Ok(()); // [`enter`] went there
    }
    let gone = sys::process::chdir(&command.workdir).hint(WORKDIR_HINT).and_then(|()| is_inside());
    gone.with_context(|| format!("cannot start in {}", command.workdir.display()))
}

/// What a working directory is that cannot be entered.
pub const WORKDIR_HINT: &str = "--workdir is a directory inside the root filesystem";

/// Refuses a working directory that is not below the root directory (man 2 getcwd).
pub fn is_inside() -> Result<(), Failure> {
    sys::process::getcwd().map(drop).hint("it lies outside of the root filesystem")
}

/// A word for the kernel.
///
/// # Errors
/// It has a NUL byte in it.
pub fn c_string(text: impl AsRef<OsStr>) -> Result<CString> {
    let text = text.as_ref();
    CString::new(text.as_bytes()).with_context(|| format!("{text:?} has a NUL byte in it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_replaces_the_default() {
        let (variables, _) = environment(&["PATH=/opt".into(), "A=b=c".into(), "EMPTY=".into()]).unwrap();
        let text: Vec<_> = variables.iter().map(|v| v.to_str().unwrap()).filter(|v| !v.starts_with("TERM")).collect();
        assert_eq!(text, ["HOME=/root", "PATH=/opt", "A=b=c", "EMPTY="]);
    }

    #[test]
    fn a_variable_needs_a_name() {
        for wrong in ["=value", "value", ""] {
            assert!(environment(&[wrong.into()]).is_err(), "{wrong:?}");
        }
    }
}
