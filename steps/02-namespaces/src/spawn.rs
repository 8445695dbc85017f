//! The child is born: clone3, the gate, and the report.
//!
//! Two pipes join parent and child. Through the *gate* the parent says "go on"; through the *report* the child says
//! what went wrong, whole. Nothing in the report means that exec has closed it: the command runs.

use std::convert::Infallible;
use std::process::ExitCode;

use anyhow::{Context, Result};
use kernel::sys::clone::{self, Clone, CloneFlags, Exit, Foreground, Process};
use kernel::sys::signal::{self, SIGKILL, SIGTERM, Signals};
use kernel::{Errno, Failure, Fd, Remedy, explain, purpose};

use crate::{report, wait};

/// The child, as its parent holds it. Dropped before its end was seen, it is killed and reaped.
#[derive(Debug)]
pub struct Child {
    process: Process,
    gate: Fd,
    report: Fd,
    signals: Signals,
    foreground: Option<Foreground>,
    ended: bool,
}

// ANCHOR: spawn
/// Makes a child in new namespaces. It waits at the gate, then does what `run` says, up to its exec.
///
/// # Errors
/// EPERM: only root, or root of a user namespace, may make namespaces. ENOSPC: a limit in /proc/sys/user is reached.
///
/// # Shell: `unshare --pid --fork --mount --uts --ipc COMMAND`
pub fn spawn(namespaces: CloneFlags, run: impl FnOnce() -> Result<Infallible>) -> Result<Child> {
    spawn_into(namespaces, None, run)
}

/// The same, with the child born into a cgroup (step 5).
pub fn spawn_into(
    namespaces: CloneFlags,
    cgroup: Option<&Fd>,
    run: impl FnOnce() -> Result<Infallible>,
) -> Result<Child> {
    let foreground = Foreground::ours();
    purpose("two pipes to the child: the gate says go on, the report says what failed");
    let (gate_exit, gate) = clone::pipe("gate", "gate")?;
    let (report, report_entry) = clone::pipe("report", "report")?;
    purpose("signals wait until we read them; none may end us and leave the child");
    let signals = Signals::block()?;
    purpose("a child in namespaces of its own: the first process it sees is itself");
    let clone = clone::clone3_into(namespaces, cgroup, "child")
        .hint_on(Errno::EPERM, "only root may: sudo, or cargo run -p ..., which finds a way")
        .hint_on(Errno::ENOSPC, "the kernel allows no more namespaces: sysctl user | grep max_")
        .context("cannot make namespaces")?;
    match clone {
        Clone::Parent(process) => Ok(Child { process, gate, report, signals, foreground, ended: false }),
        Clone::Child => {
            drop((gate, report)); // the parent's ends: held here too, their closing would never be seen
            report::open(report_entry);
            child(&gate_exit, run)
        }
    }
}
// ANCHOR_END: spawn

// ANCHOR: child
/// All of the child's life before the command. It never returns into the parent's code.
fn child(gate: &Fd, run: impl FnOnce() -> Result<Infallible>) -> ! {
    explain::speak_as("child");
    match wait_at(gate).and_then(|()| run()) {
        Ok(never) => match never {},
        Err(error) => report::send_and_exit(&Failure::from_error(&error)),
    }
}

/// Waits until the parent opens the gate, and sees to it that we do not outlive the parent.
pub fn wait_at(gate: &Fd) -> Result<()> {
    purpose("wait at the gate; if it closes instead, the parent is dead: leave");
    if clone::read_some(gate)? == 0 {
        report::send_and_exit(&Failure::new("the parent has gone"));
    }
    die_with_parent()
}

/// Sees to it that this process ends when its parent does. A change of user makes the kernel forget it: ask again then.
pub fn die_with_parent() -> Result<()> {
    purpose("from here on die with the parent; did it die before we asked?");
    clone::die_with_parent()?;
    if report::reader_has_gone()? {
        report::send_and_exit(&Failure::new("the parent has gone"));
    }
    Ok(())
}
// ANCHOR_END: child

impl Child {
    /// Its pid on the host.
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// Lets the child go on. The parent says no more until the report is there.
    pub fn open_gate(&self) -> Result<()> {
        purpose("all is ready for the child: open the gate");
        Ok(clone::write_announced(&self.gate, b"go")?)
    }

    /// Waits until the command runs, or the child has said why it cannot. While the command runs we tell nothing.
    pub fn read_report(&self) -> Result<()> {
        explain::hold();
        purpose("nothing in the report: the command runs");
        let asked_to_end = || signal::asked_to_end().is_some();
        let Some(report) = clone::read_to_end_unless(&self.report, asked_to_end)? else { return Err(gave_up().into()) };
        match Failure::from_bytes(&report) {
            Some(failure) => Err(failure.into()),
            None => self.refuse_if_killed(),
        }
    }

    /// An empty report means that an exec has closed it, or that the child was killed before.
    fn refuse_if_killed(&self) -> Result<()> {
        let Some(exit) = self.process.killed_before_exec()? else { return Ok(()) };
        let hint = "too little memory, or a seccomp filter that kills: dmesg may know";
        Err(Failure::new(format!("the child was {exit} before its command began")).hint(hint).into())
    }

    /// Another process goes on in the child's place, which has ended (step 7).
    ///
    /// # Errors
    /// The child cannot be waited for.
    pub fn become_process(&mut self, process: Process) -> Result<()> {
        self.process.wait()?;
        self.process = process;
        Ok(())
    }

    /// The child waits at another gate (step 7): this is the parent's end.
    pub fn wait_behind(&mut self, gate: Fd) {
        self.gate = gate;
    }

    /// Lets go of a child that lives on without us (step 7).
    pub fn leave(mut self) {
        self.ended = true;
    }

    /// The child and our signals, for a caller that waits in another way (step 7). The child still dies with this.
    pub fn watch(&self) -> (&Process, &Signals) {
        (&self.process, &self.signals)
    }

    /// Its end was seen.
    pub fn has_ended(mut self) {
        self.ended = true;
        explain::release();
    }

    /// Waits for the command's end, forwards signals meanwhile, and returns its exit code.
    pub fn wait(mut self) -> Result<ExitCode> {
        let exit = wait::until_end(&self.process, &self.signals)?;
        self.ended = true;
        explain::release();
        if let Some(foreground) = &self.foreground {
            foreground.take_back()?;
        }
        Ok(ExitCode::from(exit.code()))
    }
}

/// The command has not begun, so that nothing could take the signal but the launcher.
fn gave_up() -> Failure {
    let number = signal::asked_to_end().unwrap_or(SIGTERM);
    Failure::new(format!("{} came before the command began", signal::name(number))).code(Exit::Signal(number).code())
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.ended {
            explain::release();
            purpose("the launch has failed: leave no process");
            let _ = self.process.send_signal(SIGKILL).and_then(|()| self.process.wait());
        }
    }
}
