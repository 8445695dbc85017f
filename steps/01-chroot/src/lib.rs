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
use std::ffi::{CString, OsStr, OsString};
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

/// A command that is ready to be run.
#[derive(Debug, Clone)]
pub struct Command {
    /// The root filesystem, as the host sees it.
    pub rootfs: PathBuf,
    workdir: PathBuf,
    /// The process is in its working directory already.
    arrived: bool,
    /// Where its program was found.
    program: Option<CString>,
    /// No signal is ignored or blocked any more.
    ready: bool,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    names_home: bool,
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
        Ok(Command {
            rootfs,
            workdir: self.workdir.clone(),
            arrived: false,
            program: None,
            ready: false,
            arguments,
            environment,
            names_home,
        })
    }
    // ANCHOR_END: check
}

impl Command {
    /// A command that is not an option's: step 7 reads it from a file.
    ///
    /// # Errors
    /// No program, or a NUL byte in a word.
    pub fn new(arguments: &[String], environment: &[String], workdir: &str) -> Result<Command> {
        if arguments.is_empty() {
            return Err(Failure::new("there is no program to run").into());
        }
        let environment = last_of_each(environment);
        let names_home = environment.iter().any(|variable| variable.starts_with("HOME=") && *variable != "HOME=");
        Ok(Command {
            rootfs: PathBuf::from("/"),
            workdir: PathBuf::from(workdir),
            arrived: false,
            program: None,
            ready: false,
            arguments: arguments.iter().map(c_string).collect::<Result<_>>()?,
            environment: environment.into_iter().map(c_string).collect::<Result<_>>()?,
            names_home,
        })
    }

    /// Looks for the program in the root that is now ours, and whether it can be executed: before the exec, which says
    /// less, and says it late; and before a filter, which need not allow to look (step 6).
    ///
    /// # Errors
    /// As [`exec`]'s.
    pub fn look_for_program(&mut self) -> Result<()> {
        self.go_late()?;
        self.program = Some(program::look_for(&self.arguments[0], &self.environment, &self.workdir)?);
        Ok(())
    }

    /// Carries no signal over that is ignored or blocked: [`exec`] makes no call but the exec then.
    ///
    /// # Errors
    /// A filter that does not allow it.
    pub fn reset_signals(&mut self) -> Result<()> {
        if !self.ready {
            reset_signals()?;
            self.ready = true;
        }
        Ok(())
    }

    /// Goes to the working directory, as the user that the process is now, unless it is there.
    fn go_late(&mut self) -> Result<()> {
        if self.workdir != Path::new("/") && !self.arrived {
            go_to(&self.workdir).with_context(|| format!("cannot start in {}", self.workdir.display()))?;
            self.arrived = true;
        }
        Ok(())
    }

    /// Goes to its working directory before the process becomes another user, which may have no right to enter it. Where root
    /// has none (it may lack in a user namespace, or on a network's file system) the user may: [`exec`] tries again.
    ///
    /// # Errors
    /// The directory lies outside of the root filesystem.
    pub fn go_early(&mut self) -> Result<()> {
        if self.workdir == Path::new("/") {
            return Ok(());
        }
        match sys::process::chdir(&self.workdir) {
            Err(refused) if refused.errno() == Some(Errno::EACCES) => return Ok(()),
            gone => gone.hint(WORKDIR_HINT),
        }
        .and_then(|()| is_inside())
        .with_context(|| format!("cannot start in {}", self.workdir.display()))?;
        self.arrived = true;
        Ok(())
    }

    /// Where it starts.
    pub fn workdir(&self) -> &Path {
        &self.workdir
    }

    /// The program and its arguments.
    pub fn arguments(&self) -> &[CString] {
        &self.arguments
    }

    /// Its variables, each as NAME=VALUE.
    pub fn environment(&self) -> &[CString] {
        &self.environment
    }

    /// Sets a variable, in the place of one of that name.
    ///
    /// # Errors
    /// A NUL byte in the value.
    pub fn set_variable(&mut self, name: &str, value: &str) -> Result<()> {
        let variable = c_string(format!("{name}={value}"))?;
        let start = &variable.to_bytes()[..=name.len()];
        match self.environment.iter_mut().find(|each| each.to_bytes().starts_with(start)) {
            Some(there) => *there = variable,
            None => self.environment.push(variable),
        }
        Ok(())
    }

    /// The same command with a variable, unless there is one of that name.
    pub fn with_variable(mut self, name: &str, value: &str) -> Result<Command> {
        let start = format!("{name}=");
        if !self.environment.iter().any(|each| each.to_bytes().starts_with(start.as_bytes())) {
            self.environment.push(c_string(format!("{start}{value}"))?);
        }
        Ok(self)
    }

    /// The same command with its user's home directory (step 6), or `/` for a user without one. A home that was asked for
    /// stays; an empty one counts as not asked for.
    pub fn at_home(&self, home: Option<&str>) -> Result<Command> {
        let mut command = self.clone();
        if !self.names_home {
            command.set_variable("HOME", home.unwrap_or("/"))?;
        }
        Ok(command)
    }
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

/// Of variables with the same name the last one, as `env` and shells have it.
fn last_of_each(variables: &[String]) -> Vec<&String> {
    let mut seen = std::collections::BTreeSet::new();
    let mut kept: Vec<&String> = variables.iter().rev().collect();
    kept.retain(|variable| seen.insert(variable.split('=').next()));
    kept.reverse();
    kept
}

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
    if command.workdir != Path::new("/") && !command.arrived {
        go_to(&command.workdir).with_context(|| format!("cannot start in {}", command.workdir.display()))?;
    }
    let find = || program::find(&command.arguments[0], &command.environment, &command.workdir);
    let program = command.program.clone().map_or_else(find, Ok)?;
    if !command.ready {
        reset_signals()?;
    }
    purpose("become the command");
    sys::process::execve(&program, &command.arguments, &command.environment)
        .map_err(|refused| program::explain(&program, refused))
        .with_context(|| format!("cannot run {}", program.to_string_lossy()))
}
// ANCHOR_END: exec

fn reset_signals() -> Result<(), Failure> {
    purpose("nothing comes along: no signal that is ignored or blocked");
    sys::process::reset_signals()
}

/// Goes to the command's working directory, and makes sure that it lies inside.
fn go_to(workdir: &Path) -> Result<(), Failure> {
    sys::process::chdir(workdir).hint(WORKDIR_HINT)?;
    is_inside()
}

const WORKDIR_HINT: &str = "--workdir is a directory inside the root filesystem";

fn is_inside() -> Result<(), Failure> {
    sys::process::getcwd().map(drop).hint("it lies outside of the root filesystem")
}

fn c_string(text: impl AsRef<OsStr>) -> Result<CString> {
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
    fn the_last_of_a_name_counts() {
        let command = |variables: &[&str]| {
            let variables: Vec<String> = variables.iter().map(|text| (*text).to_owned()).collect();
            Command::new(&["true".to_owned()], &variables, "/").unwrap()
        };
        let text = |command: &Command| -> Vec<String> {
            command.environment().iter().map(|variable| variable.to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(text(&command(&["A=1", "B=2", "A=3", "AB=4"])), ["B=2", "A=3", "AB=4"]);
        let homes = [("HOME=/a", "HOME=/a"), ("HOME=", "HOME=/bob"), ("A=1", "A=1 HOME=/bob")];
        for (given, expected) in homes {
            assert_eq!(text(&command(&[given]).at_home(Some("/bob")).unwrap()).join(" "), expected);
        }
        assert_eq!(text(&command(&["HOME="]).at_home(None).unwrap()), ["HOME=/"]);
    }

    #[test]
    fn a_variable_needs_a_name() {
        for wrong in ["=value", "value", ""] {
            assert!(environment(&[wrong.into()]).is_err(), "{wrong:?}");
        }
    }
}
