//! The child's half of `exec`: from the host into a container that runs, until it becomes the command. The parent's half is the
//! verb's own.

use std::cell::RefCell;
use std::convert::Infallible;

use anyhow::{Context, Result};
use kernel::sys::clone::CloneFlags;
use kernel::sys::{mount, privilege};
use kernel::{Fd, purpose};

use crate::groups::Cgroup;
use crate::handed_on::HandedOn;
use crate::plan::{Affinity, Task};
use crate::sys::{namespace, schedule};
use crate::terminal::MasterSocket;
use crate::{init, label, listener, sibling};

/// All that the child needs.
pub struct Visit<'a> {
    /// What it becomes.
    pub task: &'a Task,
    /// On which CPUs it may run.
    pub affinity: &'a Affinity,
    /// What it enters the container's group by.
    pub group_entrances: Vec<Fd>,
    /// The container's first process: its namespaces are joined.
    pub init: &'a Fd,
    /// Those of its namespaces that are the container's own.
    pub namespaces: CloneFlags,
    /// Processes in there may trace the child.
    pub traced: bool,
    /// Where its terminal goes, if it has one.
    pub master_socket: Option<MasterSocket>,
    /// It lives on when its maker ends.
    pub detached: bool,
    /// Descriptors of the caller that go on to the command.
    pub handed_on: &'a HandedOn,
    /// The way of the filter's listener to the parent.
    pub listener: Option<listener::Relay>,
    /// Where the number of the process that goes on is told. The parent reads to its end.
    pub number: RefCell<Option<Fd>>,
}

// ANCHOR: shut
/// What is written by the host's /proc is written before the child joins anything.
pub fn shut(task: &Task, affinity: &Affinity) -> Result<()> {
    init::write_oom_score(task)?;
    set_affinity(affinity.initial.as_deref())?;
    purpose("nothing in there may look into the child before it is the command (CVE-2016-9962)");
    Ok(privilege::not_dumpable()?)
}
// ANCHOR_END: shut

// ANCHOR: enter
/// The child's list of calls. Until `be_born` it is in no pid namespace of the container's, so that no process in there sees
/// it. What is born there holds nothing of the host's.
pub fn enter(visit: &Visit) -> Result<Infallible> {
    let task = visit.task;
    Cgroup::join_by(&visit.group_entrances)?;
    schedule::reset_processors();
    set_affinity(visit.affinity.last.as_deref())?;
    label::confine_before_joining(task.apparmor.as_deref())?;
    purpose("into the container's namespaces, all at once");
    namespace::join(visit.init, visit.namespaces).context("cannot join the container's namespaces")?;
    if visit.namespaces.contains(CloneFlags::CLONE_NEWUSER) {
        task.take_on_root()?;
    }
    let terminal = open_terminal(visit)?;
    task.schedule()?;
    close_descriptors(visit, terminal.as_ref())?;
    // Where processes may trace the host's, they may attach to any other: what is born there has no capability that the command
    // will not have; without noNewPrivileges the filter must allow its birth. Elsewhere it drops them in there, and the filter
    // need not allow its birth.
    if !visit.traced {
        be_born(visit, terminal.as_ref())?;
    }
    let mut command = init::at_home(task)?;
    command.go_early()?;
    let confinement = task.confinement();
    confinement.drop_privileges()?;
    command.look_for_program()?;
    command.reset_signals()?;
    let mut early = None;
    if visit.traced {
        early = confinement.filter_early()?;
        be_born(visit, terminal.as_ref())?;
    }
    visit.handed_on.announce_to(&mut command)?;
    if visit.detached {
        namespace::outlive_parent()?;
    }
    visit.handed_on.leave_open()?;
    let listener = match visit.traced {
        true => early,
        false => confinement.filter_early()?,
    };
    listener::Relay::hand_over(visit.listener.as_ref(), confinement.apply_filter()?.or(listener))?;
    command.exec()
}
// ANCHOR_END: enter

fn set_affinity(processors: Option<&[usize]>) -> Result<()> {
    processors.map_or(Ok(()), schedule::set_processors).context("process.execCPUAffinity")
}

fn open_terminal(visit: &Visit) -> Result<Option<Fd>> {
    let (Some(size), Some(master_socket)) = (visit.task.terminal, &visit.master_socket) else { return Ok(None) };
    let root = mount::open_path(std::path::Path::new("/"), "root")?;
    crate::terminal::open(&root, master_socket, size, None).map(Some)
}

fn close_descriptors(visit: &Visit, terminal: Option<&Fd>) -> Result<()> {
    let listener = visit.listener.as_ref().map(listener::Relay::inside);
    let number = visit.number.borrow();
    let needed: Vec<&Fd> = listener.into_iter().chain(terminal).chain(number.iter()).collect();
    namespaces::close_all_but(&needed, visit.handed_on.end())
}

/// Goes on in the container's pid namespace, if it has one of its own, in a session of its own.
fn be_born(visit: &Visit, terminal: Option<&Fd>) -> Result<()> {
    let number = visit.number.take().filter(|_| visit.namespaces.contains(CloneFlags::CLONE_NEWPID));
    number.map_or(Ok(()), |number| sibling::be_born(&number))?;
    crate::terminal::begin_session(terminal)
}
