//! A small init: the first process of the cell, on whom its life depends.
//!
//! When it ends, the kernel kills all others of its pid namespace. Orphans become its children, and stay zombies
//! until it reaps them. And the kernel drops every signal that it has no handler for, so that no signal ends the machine
//! by mistake (man 7 pid_namespaces). Few programs know these duties; this one has no others.

use std::convert::Infallible;

use anyhow::{Context, Result};
use kernel::sys::clone::{self, Clone, Exit, Process};
use kernel::sys::process;
use kernel::sys::signal::{Arrived, SIGCHLD, Signals};
use kernel::{Failure, explain, purpose};

use crate::report;

// ANCHOR: run
/// Starts the command as a child, and stays its init. Ends as the command ends.
pub fn run(exec: impl FnOnce() -> Result<Infallible>) -> Result<Infallible> {
    explain::speak_as("init");
    purpose("stay PID 1; the command becomes our child");
    let signals = Signals::block()?;
    // This process never execs: the launcher's words and variables go by hand, before there is a command that could read them.
    process::wipe_arguments()?;
    match clone::fork("command").context("cannot start the command")? {
        Clone::Parent(command) => {
            report::close(); // ours; the command's entry is the one that its exec closes
            let exit = reap_until_end(&command, &signals)?;
            clone::exit_now(exit.code())
        }
        Clone::Child => {
            explain::speak_as("child");
            match exec() {
                Ok(never) => match never {},
                Err(error) => report::send_and_exit(&Failure::from_error(&error)),
            }
        }
    }
}

/// Reaps every child that ends, orphans too, until the command has; what is sent to us meanwhile is meant for it.
fn reap_until_end(command: &Process, signals: &Signals) -> Result<Exit> {
    loop {
        while let Some((pid, exit)) = clone::reap_any()? {
            if pid == command.pid() {
                return Ok(exit);
            }
        }
        match signals.next()? {
            Arrived { number, by_kernel: false } if number != SIGCHLD => command.send_signal(number)?,
            _ => {}
        }
    }
}
// ANCHOR_END: run
