//! A command that another user runs: what step 1's exec does at once is done here in parts, each by the user that has the right to it.

use std::convert::Infallible;
use std::ffi::CString;
use std::path::Path;

use anyhow::{Context, Result};
use chroot::Command;
use kernel::{Errno, Remedy, sys};

/// A command, and how far it is prepared.
#[derive(Debug, Clone)]
pub struct UserCommand {
    command: Command,
    /// The process is in its working directory.
    arrived: bool,
    /// Where its program was found.
    program: Option<CString>,
    /// No signal is ignored or blocked any more.
    signals_reset: bool,
}

impl UserCommand {
    /// The command with its user's home directory, or `/` for a user without one. A HOME that was asked for stays.
    ///
    /// # Errors
    /// A NUL byte in the directory's name.
    pub fn new(command: &Command, home: Option<&str>) -> Result<UserCommand> {
        let command = at_home(command, home)?;
        Ok(UserCommand { command, arrived: false, program: None, signals_reset: false })
    }

    /// Goes to its working directory before the process becomes another user, which may have no right to enter it. Where root
    /// has none (in a user namespace, or on a network's file system) the user may: the second try is
    /// [`UserCommand::look_for_program`]'s.
    ///
    /// # Errors
    /// The directory lies outside of the root filesystem, or is not there.
    pub fn go_early(&mut self) -> Result<()> {
        let workdir = &self.command.workdir;
        if workdir == Path::new("/") {
            return Ok(());
        }
        match sys::process::chdir(workdir) {
            Err(refused) if refused.errno() == Some(Errno::EACCES) => return Ok(()),
            gone => gone.hint(chroot::WORKDIR_HINT),
        }
        .and_then(|()| chroot::is_inside())
        .with_context(|| format!("cannot start in {}", workdir.display()))?;
        self.arrived = true;
        Ok(())
    }

    /// Looks for the program, as the user that runs it, and whether it can be executed: before the exec, which says less and
    /// says it late, and before a filter, which need not allow to look.
    ///
    /// # Errors
    /// As [`chroot::exec`]'s.
    pub fn look_for_program(&mut self) -> Result<()> {
        if !self.arrived {
            chroot::go_to_workdir(&self.command)?;
            self.arrived = true;
        }
        self.program = Some(chroot::look_for_program(&self.command)?);
        Ok(())
    }

    /// Resets the signals before a filter that need not allow it: [`UserCommand::exec`] then makes no call but the exec.
    ///
    /// # Errors
    /// An earlier filter that does not allow it.
    pub fn reset_signals(&mut self) -> Result<()> {
        if !self.signals_reset {
            chroot::reset_signals()?;
            self.signals_reset = true;
        }
        Ok(())
    }

    /// Sets a variable of its environment, in place of one with that name.
    ///
    /// # Errors
    /// A NUL byte in the value.
    pub fn set_variable(&mut self, name: &str, value: &str) -> Result<()> {
        set_variable(&mut self.command.environment, name, value)
    }

    /// Its variables, each as NAME=VALUE.
    pub fn environment(&self) -> &[CString] {
        &self.command.environment
    }

    /// Becomes the command: what was not prepared is done now, as in step 1.
    ///
    /// # Errors
    /// As [`chroot::exec`]'s.
    pub fn exec(&mut self) -> Result<Infallible> {
        if self.program.is_none() {
            self.look_for_program()?;
        }
        self.reset_signals()?;
        chroot::exec_program(self.program.as_ref().expect("it was found above"), &self.command)
    }
}

/// The command with its user's home directory, or `/` for a user without one. A HOME that was asked for stays.
///
/// # Errors
/// A NUL byte in the directory's name.
pub fn at_home(command: &Command, home: Option<&str>) -> Result<Command> {
    let mut command = command.clone();
    if !command.names_home {
        set_variable(&mut command.environment, "HOME", home.unwrap_or("/"))?;
    }
    Ok(command)
}

fn set_variable(environment: &mut Vec<CString>, name: &str, value: &str) -> Result<()> {
    let variable = chroot::c_string(format!("{name}={value}"))?;
    let start = &variable.to_bytes()[..=name.len()];
    match environment.iter_mut().find(|each| each.to_bytes().starts_with(start)) {
        Some(there) => *there = variable,
        None => environment.push(variable),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_that_was_asked_for_stays() {
        for (names_home, given, home, expected) in [
            (true, "HOME=/a", Some("/bob"), "HOME=/a"),
            (false, "HOME=", Some("/bob"), "HOME=/bob"),
            (false, "A=1", Some("/bob"), "A=1 HOME=/bob"),
            (false, "HOME=/root", None, "HOME=/"),
        ] {
            let environment = vec![chroot::c_string(given).unwrap()];
            let command = Command { names_home, environment, ..Command::default() };
            let text: Vec<_> = at_home(&command, home).unwrap().environment;
            assert_eq!(text.iter().map(|variable| variable.to_str().unwrap()).collect::<Vec<_>>().join(" "), expected);
        }
    }
}
