//! A child in namespaces of another user namespace's, beside the lesson: for the runtime (step 7).
//!
//! A new namespace belongs to the user namespace of whoever makes it. So that it belongs to one that is there already, its
//! maker must have joined that, and from there is no way back: an envoy goes, who is our child, makes the real one, who is our
//! child as well (CLONE_PARENT), tells us its number, and ends.

use std::convert::Infallible;

use anyhow::{Context, Result};
use kernel::sys::clone::{self, Clone, CloneFlags, Foreground, Process};
use kernel::sys::namespace;
use kernel::sys::signal::Signals;
use kernel::{Failure, Fd, explain, purpose};

use crate::report;
use crate::spawn::{Child, child};

/// As [`crate::spawn_into`], but the envoy joins these namespaces first, in their order: a pid namespace that belongs to
/// the user namespace after it.
///
/// # Errors
/// EPERM, EINVAL: a namespace that is not ours to join, or is ours already.
pub fn spawn_within(
    joined: &[(&Fd, CloneFlags)],
    namespaces: CloneFlags,
    cgroup: Option<&Fd>,
    run: impl FnOnce() -> Result<Infallible>,
) -> Result<Child> {
    let foreground = Foreground::ours();
    purpose("two pipes to the child: the gate says go on, the report says what failed");
    let (gate_exit, gate) = clone::pipe("gate", "gate")?;
    let (report, report_entry) = clone::pipe("report", "report")?;
    let (number, number_entry) = clone::pipe("number", "number")?;
    purpose("signals wait until we read them; none may end us and leave the child");
    let signals = Signals::block()?;
    purpose("an envoy joins the user namespace, and makes the child from there");
    match clone::clone3_into(CloneFlags::empty(), cgroup, "envoy").context("cannot make a process")? {
        Clone::Parent(envoy) => {
            drop((report_entry, number_entry));
            let told = clone::read_to_end(&number)?;
            envoy.wait()?;
            let told = String::from_utf8(told).ok().and_then(|text| text.parse().ok());
            let Some(pid) = told else { return Err(why_none(&report)?.into()) };
            let process = Process::adopt(pid, "child")?;
            Ok(Child { process, gate, report, signals, foreground, ended: false })
        }
        Clone::Child => {
            explain::speak_as("envoy");
            drop(number);
            report::open(report_entry);
            match go(joined, namespaces) {
                Ok(Clone::Parent(sibling)) => {
                    let told = clone::write_all(&number_entry, sibling.pid().to_string().as_bytes());
                    clone::exit_now(u8::from(told.is_err()))
                }
                Ok(Clone::Child) => {
                    drop((gate, report, number_entry));
                    child(&gate_exit, run)
                }
                Err(error) => report::send_and_exit(&Failure::from_error(&error)),
            }
        }
    }
}

/// All of the envoy's life.
fn go(joined: &[(&Fd, CloneFlags)], namespaces: CloneFlags) -> Result<Clone> {
    for (namespace, kind) in joined {
        namespace::join(namespace, *kind).context("cannot join a namespace")?;
    }
    clone::clone3_sibling(namespaces, "child").context("cannot make namespaces")
}

/// What the envoy has reported.
fn why_none(report: &Fd) -> Result<Failure, Failure> {
    let said = Failure::from_bytes(&clone::read_to_end(report)?);
    Ok(said.unwrap_or_else(|| Failure::new("the envoy into the user namespace was killed")))
}

/// In the child: a process is made that goes on in its place, as a child of our parent, and in the pid namespace that was
/// joined for children. Its number is written to the parent, and this process ends.
///
/// # Errors
/// The kernel makes no process (man 2 clone).
pub fn go_on_as_sibling(number: &Fd) -> Result<()> {
    purpose("a process cannot move into a pid namespace, but is born into it: the one that goes on there");
    let Some(pid) = clone::fork_sibling().context("cannot make a process in the pid namespace")? else {
        return Ok(());
    };
    let told = clone::write_all(number, pid.to_string().as_bytes());
    clone::exit_now(u8::from(told.is_err()))
}

impl Child {
    /// In the parent: the child has ended, and the process whose number it has written takes its place.
    ///
    /// # Errors
    /// What the child has reported instead; that it was killed.
    pub fn follow(&mut self, number: &Fd) -> Result<()> {
        let told = clone::read_to_end(number)?;
        let Some(pid) = String::from_utf8(told).ok().and_then(|text| text.parse().ok()) else {
            self.read_report()?;
            return Err(Failure::new("the child was killed before its command began").into());
        };
        self.process.wait()?;
        self.process = Process::adopt(pid, "child")?;
        Ok(())
    }
}
