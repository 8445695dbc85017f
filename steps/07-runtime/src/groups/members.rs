//! The processes of a group: listed, frozen, signalled, killed and waited for, by another process than the one that made the
//! group. In v2's tree the kernel does most of this itself. Where v2 is missing, v1's freezer stops all processes meanwhile,
//! so that none is missed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kernel::sys::clone::Process;
use kernel::sys::signal::SIGKILL;
use kernel::sys::{cgroup, group_tree};
use kernel::{Errno, Failure, purpose};

use super::Cgroup;
use cgroups::{Directories, directories};

/// How long a freeze may take: who sleeps in the kernel, on a dead network file system say, is not frozen until it wakes.
const PATIENCE: Duration = Duration::from_secs(10);

impl Cgroup {
    /// The processes in the group and in the groups inside it, as this process's pid namespace numbers them.
    pub fn processes(&self) -> Vec<i32> {
        self.directories.all().find(|directory| directory.is_dir()).map(processes).unwrap_or_default()
    }

    /// Where a process of the container's can be put beside `pid`. On v2 a group that hands controllers on holds no processes
    /// itself: if a process in there has done that, it is the group inside it that `pid` has moved to.
    pub fn group_of(&self, pid: i32) -> Cgroup {
        let here = self.clone();
        let Some(unified) = self.directories.unified.as_deref().filter(|_| self.directories.is_v2()) else {
            return here;
        };
        if cgroup::read(unified, "cgroup.subtree_control").trim().is_empty() {
            return here;
        }
        let unified = group_with(unified, pid).or_else(|| Some(unified.to_owned()));
        self.with(Directories { unified, legacy: Vec::new() })
    }

    /// Whether it is frozen.
    pub fn is_frozen(&self) -> bool {
        self.freezer().is_some_and(is_frozen)
    }

    /// Stops everybody in it until it is thawed, and waits until they have stopped; or lets them go on.
    ///
    /// # Errors
    /// No way to freeze on this machine; ETIMEDOUT when a process cannot be stopped: then all go on.
    pub fn freeze(&self, freeze: bool) -> Result<()> {
        purpose(if freeze { "freeze all processes in the group" } else { "thaw all processes in the group" });
        match self.freezer() {
            None => Err(Failure::new("nothing can freeze a group here")
                .hint("mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified, or v1's controller freezer")
                .into()),
            Some(group) => set_frozen(group, freeze).inspect_err(|_| drop(set_frozen(group, false))),
        }
    }

    fn freezer(&self) -> Option<&Path> {
        self.directories
            .all()
            .find(|directory| directory.join("cgroup.freeze").exists() || directory.join("freezer.state").exists())
    }

    /// Kills everybody in it, the frozen too, and does not wait for their end ([`Cgroup::wait_until_empty`]). Nobody in it
    /// is no error, nor is a group that goes at this moment, as systemd's do when they are empty.
    pub fn kill_all(&self) -> Result<()> {
        purpose("kill all processes in the group");
        let killed = match &self.directories.unified {
            // A process that is forked at this moment is killed as well.
            Some(unified) if unified.join("cgroup.kill").exists() => {
                cgroup::write(unified, "cgroup.kill", "1").map_err(anyhow::Error::from)
            }
            Some(unified) if !unified.is_dir() => Ok(()),
            _ => self.signal_held(SIGKILL),
        };
        unless_gone(killed)
    }

    /// Sends a signal to everybody in it.
    pub fn signal_all(&self, number: i32) -> Result<()> {
        if number == SIGKILL { self.kill_all() } else { unless_gone(self.signal_held(number)) }
    }

    /// Held still, nobody forks away from the list that we go through, and no pid is given to another.
    fn signal_held(&self, number: i32) -> Result<()> {
        if self.processes().is_empty() {
            return Ok(()); // where nobody is, nobody is forked
        }
        let was_frozen = self.is_frozen();
        let holds = !was_frozen && self.freezer().is_some();
        if holds {
            self.freeze(true)?;
        }
        purpose("a signal to each");
        let sent = self.processes().into_iter().try_for_each(|pid| send(pid, number));
        // v1's frozen do not even hear of their death.
        if holds || (number == SIGKILL && self.freezer().is_some_and(is_v1_freezer)) {
            self.freeze(false)?;
        }
        Ok(sent?)
    }

    /// Waits until nobody is left in it, 10 seconds at most.
    ///
    /// # Errors
    /// ETIMEDOUT: a process does not end; it waits in the kernel for a disk, say.
    pub fn wait_until_empty(&self) -> Result<()> {
        self.is_empty_within(PATIENCE)?.then_some(()).ok_or_else(|| {
            let left: Vec<i32> = self.processes();
            let text = format!("processes of the group do not end: {left:?}");
            Failure::new(text).hint("the kernel waits for a disk, or a network drive: ps -o stat,wchan").into()
        })
    }

    /// Whether nobody is left in it, or it is gone, before the time is up.
    pub fn is_empty_within(&self, patience: Duration) -> Result<bool> {
        match &self.directories.unified {
            Some(unified) if unified.is_dir() => Ok(cgroup::is_empty_within(unified, patience)?),
            _ => self.directories.legacy.first().map_or(Ok(true), |group| each_ends_within(group, patience)),
        }
    }
}

/// A group that has gone has no processes in it.
fn unless_gone(done: Result<()>) -> Result<()> {
    match done {
        Err(error) if error.downcast_ref::<Failure>().is_some_and(cgroup::is_gone) => Ok(()),
        done => done,
    }
}

fn send(pid: i32, number: i32) -> Result<(), Failure> {
    match kernel::sys::signal::kill(pid, number) {
        Err(failure) if failure.errno() == Some(Errno::ESRCH) => Ok(()),
        sent => sent,
    }
}

/// The processes in a group and in the groups inside it that have a number here.
fn processes(group: &Path) -> Vec<i32> {
    let mut numbers = directories::processes(group);
    numbers.retain(|number| *number > 0); // a signal to 0 would be one to ourselves
    numbers
}

/// The group with this process, at or below another.
fn group_with(group: &Path, pid: i32) -> Option<PathBuf> {
    let is_here = cgroup::read(group, "cgroup.procs").lines().any(|line| line.parse() == Ok(pid));
    if is_here { Some(group.to_owned()) } else { groups_in(group).iter().find_map(|group| group_with(group, pid)) }
}

/// The groups in a group, those of one level.
pub(super) fn groups_in(group: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(group).into_iter().flatten().flatten();
    let groups = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    groups.map(|entry| entry.path()).collect()
}

fn is_v1_freezer(group: &Path) -> bool {
    group.join("freezer.state").exists()
}

pub(crate) fn is_frozen(group: &Path) -> bool {
    cgroup::read(group, "cgroup.freeze").trim() == "1" || cgroup::read(group, "freezer.state").trim() == "FROZEN"
}

fn set_frozen(group: &Path, freeze: bool) -> Result<()> {
    if is_v1_freezer(group) {
        return set_frozen_v1(group, freeze);
    }
    cgroup::write(group, "cgroup.freeze", if freeze { "1" } else { "0" })?;
    let wanted = if freeze { "frozen 1" } else { "frozen 0" };
    cgroup::wait_for(group, wanted, Some(PATIENCE)).context("a process in the group does not freeze")
}

/// v1 wakes nobody when all have stopped, and has to be asked again for those that were just being forked: a few tries.
fn set_frozen_v1(group: &Path, freeze: bool) -> Result<()> {
    let wanted = if freeze { "FROZEN" } else { "THAWED" };
    for _ in 0..PATIENCE.as_millis() {
        cgroup::write(group, "freezer.state", wanted)?;
        if cgroup::read(group, "freezer.state").trim() == wanted {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(Failure::call(format_args!("write({group:?}/freezer.state, {wanted})"), Errno::ETIMEDOUT).into())
}

/// v1 does not say when a group is empty, but each process says when it ends, if it has a number here.
fn each_ends_within(group: &Path, patience: Duration) -> Result<bool> {
    let end = Instant::now() + patience;
    loop {
        let (there, left) = (directories::processes(group), end.saturating_duration_since(Instant::now()));
        match there.iter().find(|pid| **pid > 0) {
            _ if there.is_empty() => return Ok(true),
            _ if left.is_zero() => return Ok(false),
            Some(pid) => wait_for_end(*pid, left)?,
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// Waits until a process has ended, or the time is up. One that is gone has ended.
fn wait_for_end(pid: i32, patience: Duration) -> Result<(), Failure> {
    match Process::open(pid, "process") {
        Err(gone) if gone.errno() == Some(Errno::ESRCH) => Ok(()),
        process => process?.wait_for_end(patience.as_millis().min(1000) as u16).map(drop),
    }
}

/// Removes the groups inside a group that stays itself.
///
/// # Errors
/// Processes are in it.
pub(crate) fn empty_group(group: &Path) -> Result<()> {
    group_tree::remove_inside(group)?;
    match directories::processes(group) {
        left if left.is_empty() => Ok(()),
        left => Err(Failure::new(format!("in {} are {left:?}", group.display())).into()),
    }
}
