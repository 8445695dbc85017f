//! A child that goes on as another process: a sibling, made with CLONE_PARENT, that is a child of the runtime as well.
//!
//! A process cannot move into a pid namespace; only what is born afterwards is in there. And a new namespace belongs to the
//! user namespace of its maker: to make it in one that is there already, the maker must have joined that, from where no way
//! leads back. So the child joins, makes the sibling, writes its number to the runtime, and ends.

use std::cell::Cell;
use std::convert::Infallible;

use anyhow::{Context, Result};
use kernel::sys::clone::{self, CloneFlags, Process};
use kernel::{Failure, Fd, purpose};
use namespaces::Child;

use crate::sys::namespace;

/// As [`namespaces::spawn_into`], but the child's maker joins these namespaces first, in their order: a pid namespace that
/// belongs to the user namespace after it.
///
/// # Errors
/// EPERM, EINVAL: a namespace that this process may not join, or is in already.
pub fn spawn_within(
    joined: &[(&Fd, CloneFlags)],
    namespaces: CloneFlags,
    cgroup: Option<&Fd>,
    run: impl FnOnce() -> Result<Infallible>,
) -> Result<Child> {
    let (gate_exit, gate) = clone::pipe("gate", "gate")?;
    let (number, number_entry) = clone::pipe("number", "number")?;
    let (gate, number_entry) = (Cell::new(Some(gate)), Cell::new(Some(number_entry)));
    let mut child = namespaces::spawn_into(CloneFlags::empty(), cgroup, || {
        gate.take(); // the parent's end: held here too, its closing would never be seen
        let number_entry = number_entry.take().expect("the parent has a copy of its own");
        for (namespace, kind) in joined {
            namespace::join(namespace, *kind).context("cannot join a namespace")?;
        }
        go_on(namespaces, &number_entry)?;
        drop(number_entry); // the parent reads to its end
        namespaces::wait_at(&gate_exit)?;
        run()
    })?;
    child.open_gate()?;
    number_entry.take();
    follow(&mut child, &number)?;
    child.wait_behind(gate.take().expect("only the child has taken it"));
    Ok(child)
}

/// In the child: makes the sibling, in new namespaces, and goes on as that. The child writes its number and ends.
///
/// # Errors
/// The kernel makes no process, or no namespaces (man 2 clone).
pub fn go_on(namespaces: CloneFlags, number: &Fd) -> Result<()> {
    purpose("a process cannot move into these namespaces, but is born into them: the one that goes on there");
    let Some(pid) = clone::fork_sibling(namespaces).context("cannot make a process in the namespaces")? else {
        return Ok(());
    };
    let told = clone::write_all(number, pid.to_string().as_bytes());
    clone::exit_now(u8::from(told.is_err()))
}

/// In the child: as [`go_on`], in the pid namespace that was joined for children, for a process whose gate is open already.
///
/// # Errors
/// As [`go_on`]'s.
pub fn be_born(number: &Fd) -> Result<()> {
    go_on(CloneFlags::empty(), number)?;
    namespaces::die_with_parent()
}

/// In the parent: the sibling whose number the child has written takes the child's place.
///
/// # Errors
/// What the child has reported instead; that it was killed.
pub fn follow(child: &mut Child, number: &Fd) -> Result<()> {
    let told = clone::read_to_end(number)?;
    let Some(pid) = String::from_utf8(told).ok().and_then(|text| text.parse().ok()) else {
        child.read_report()?;
        return Err(Failure::new("the child was killed before its command began").into());
    };
    child.become_process(Process::open(pid, "child")?)
}
