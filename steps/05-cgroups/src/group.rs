//! The cell's group: made with its limits before the child is born, removed when it has ended.
//!
//! The maker of a group holds a lock on a file in it. So a group whose lock is free was left by a launcher that was killed,
//! and the next launch removes it.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::hierarchies::{Hierarchies, Hierarchy, has};
use anyhow::{Context, Result};
use kernel::sys::lock::Lock;
use kernel::sys::{cgroup, group_tree};
use kernel::{Errno, Failure, Fd, purpose};
use pivot_root::FileSystem;

use crate::delegated::{self, Aside};
use crate::limits::Limits;
use crate::stats::{self, Used};
use crate::{Setting, devices, v1, v2, view};

/// What v1's trees are there for; v2 has no group for devices, and counts CPU time without being asked.
pub const V2_CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "memory", "pids", "io"];
/// Each of these is a tree of v1, or shares one.
pub const V1_CONTROLLERS: [&str; 6] = ["cpu", "cpuacct", "memory", "pids", "blkio", "devices"];
/// Where the cells' groups lie, unless something else is said.
pub const PARENT: &str = "/cellblock";

/// A group of processes, in one tree (v2) or in several (v1). Dropped, it is removed, and processes that are left in it are killed.
#[derive(Debug)]
pub struct Group {
    limits: Limits,
    hierarchies: Hierarchies,
    /// The group's directory in each tree of v1; none on v2.
    legacy: Vec<PathBuf>,
    /// In the tree of v2, if there is one, even without controllers: there a group can be killed and watched.
    unified: Option<PathBuf>,
    /// The tree with limits is v2's.
    is_v2: bool,
    entrance: Option<Fd>,
    lock: Option<Lock>,
    /// Dropped after the group has been removed.
    _aside: Option<Aside>,
}

impl Group {
    /// Makes the group and writes its limits.
    ///
    /// # Errors
    /// A controller that is missing; a group that is not ours to make; a value that the kernel refuses.
    pub fn make(limits: &Limits) -> Result<Group> {
        // The last cell removes the parent with its group; and a launcher that looks between our mkdir and our lock takes
        // the group for abandoned. If that happens at this very moment, we begin again.
        let is_gone = |error: &anyhow::Error| {
            let errno = error.downcast_ref::<Failure>().and_then(Failure::errno);
            matches!(errno, Some(Errno::ENOENT | Errno::EWOULDBLOCK))
        };
        let mut tries = 1..20;
        loop {
            match Group::try_to_make(limits) {
                Err(error) if is_gone(&error) && tries.next().is_some() => {}
                made => return made,
            }
        }
    }

    // ANCHOR: make
    fn try_to_make(limits: &Limits) -> Result<Group> {
        let hierarchies = Hierarchies::read()?;
        let is_v2 = is_v2(&hierarchies);
        let parents = if is_v2 { v2_parents(&hierarchies, limits)? } else { v1_parents(&hierarchies, limits)? };
        remove_abandoned(parents.unified.iter().chain(&parents.legacy))?;
        purpose("a group for this cell, with its limits");
        let name = format!("cell-{:08x}", kernel::sys::process::random()?);
        let mut group = Group::none_yet(limits, hierarchies, is_v2, parents.aside);
        if let Some(parent) = parents.unified {
            group.unified = Some(group.make_locked(parent.join(&name))?);
        }
        for parent in parents.legacy {
            let directory = group.make_locked(parent.join(&name))?;
            if directory.join("cpuset.cpus").exists() {
                v1::inherit_cpuset(&parent, &directory)?;
            }
            group.legacy.push(directory);
        }
        group.write_limits()?;
        if let Some(unified) = &group.unified {
            group.entrance = Some(cgroup::open_group(unified, "group")?);
        }
        group.guard_devices()?;
        Ok(group)
    }
    // ANCHOR_END: make

    /// Makes the group, or, where no limit was asked for and no group may be made, stays in the present one (step 6: an ordinary user).
    pub fn make_or_stay(limits: &Limits) -> Result<Group> {
        let not_ours = |error: &anyhow::Error| {
            let errno = error.downcast_ref::<Failure>().and_then(Failure::errno);
            matches!(errno, Some(Errno::EACCES | Errno::EPERM | Errno::EROFS))
        };
        match Group::make(limits) {
            Err(error) if !limits.any() && not_ours(&error) => {
                Ok(Group::none_yet(limits, Hierarchies::read()?, false, None))
            }
            made => made,
        }
    }

    fn none_yet(limits: &Limits, hierarchies: Hierarchies, is_v2: bool, aside: Option<Aside>) -> Group {
        let (limits, legacy) = (limits.clone(), Vec::new());
        Group { limits, hierarchies, legacy, unified: None, is_v2, entrance: None, lock: None, _aside: aside }
    }

    /// Makes a directory; the first is locked for as long as we live.
    fn make_locked(&mut self, directory: PathBuf) -> Result<PathBuf> {
        cgroup::make(&directory).map_err(if self.is_v2 { delegated::not_ours } else { delegated::not_ours_v1 })?;
        if self.lock.is_none() {
            self.lock = Some(lock(&directory)?);
        }
        Ok(directory)
    }

    fn write_limits(&self) -> Result<()> {
        let settings = if self.is_v2 { v2::settings(&self.limits) } else { v1::settings(&self.limits) };
        for Setting { file, value } in settings {
            let found = self.directories().find(|directory| directory.join(&file).exists());
            match found {
                Some(directory) => cgroup::write(directory, &file, &value)
                    .map_err(|failure| failure.hint(format!("the kernel does not take {value:?} for {file}")))?,
                None if file.contains("swap") || file.contains("memsw") => {} // a kernel that does not count swap
                None => return Err(Failure::new(format!("this kernel has no {file}")).into()),
            }
        }
        Ok(())
    }

    /// An ordinary user may load no program, and needs none: in a user namespace no device node can be made, and none
    /// can be opened but those that were bound.
    fn guard_devices(&self) -> Result<()> {
        if self.is_v2 && self.hierarchies.unified.as_ref().is_some_and(delegated::is_delegated) {
            return Ok(());
        }
        match (&self.entrance, self.is_v2) {
            (Some(entrance), true) => devices::attach_program(entrance),
            _ => match self.directories().find(|directory| directory.join("devices.deny").exists()) {
                Some(directory) => devices::write_lists(directory),
                None => Ok(()),
            },
        }
    }

    fn directories(&self) -> impl Iterator<Item = &PathBuf> {
        self.unified.iter().filter(|_| self.is_v2).chain(&self.legacy)
    }

    /// Where the child is born: a descriptor for clone3. None on a machine without any v2 tree.
    pub fn entrance(&self) -> Option<&Fd> {
        self.entrance.as_ref()
    }

    // ANCHOR: join
    /// In the child: enters the trees of v1, which know no being born into. It writes itself, as 0, into `tasks`: moving a
    /// thread costs the kernel less than moving a process, and ours has one.
    pub fn join(&self) -> Result<()> {
        if !self.legacy.is_empty() {
            purpose("into the group, in each tree of v1");
        }
        for directory in &self.legacy {
            cgroup::write(directory, "tasks", "0")?;
        }
        if let Some(value) = self.limits.oom_score_adj {
            purpose("whom the kernel kills first when the whole machine is out of memory");
            kernel::sys::clone::write_file("/proc/self/oom_score_adj", &value.to_string())
                .map_err(|failure| failure.hint("only root may lower it below what it was"))?;
        }
        purpose("a view in which this group is the topmost");
        Ok(kernel::sys::clone::unshare_cgroup()?)
    }
    // ANCHOR_END: join

    /// What the cell sees in /sys/fs/cgroup: its own part of each tree that it is in, to be read only.
    pub fn file_systems(&self) -> Vec<FileSystem> {
        if self.is_v2 {
            return view::v2(view::PLACE);
        }
        let is_in = |tree: &&Hierarchy| self.legacy.iter().any(|directory| directory.starts_with(&tree.point));
        let trees: Vec<_> = self.hierarchies.legacy.iter().filter(is_in).collect();
        view::v1(view::PLACE, &trees, self.unified.is_some())
    }

    /// What the group has used until now.
    pub fn used(&self) -> Used {
        let directories: Vec<&Path> = self.directories().map(PathBuf::as_path).collect();
        if self.is_v2 { stats::read_v2(directories[0]) } else { stats::read_v1(&directories) }
    }

    /// Says what the command should know of its end: a limit that killed it, and, if asked, what it has used.
    pub fn tell_end(&self) {
        self.used().tell_end(&self.limits);
    }

    // ANCHOR: remove
    /// Kills the processes that are left in the group, waits until they have ended, and removes it.
    fn remove(&mut self) -> Result<()> {
        purpose("no process stays: kill those that are left, and remove the group");
        if let Some(unified) = &self.unified {
            kill_all(unified)?;
        }
        // The first has the lock, and goes last: as long as it is there, the others are found, should we be killed here.
        let made: Vec<&PathBuf> = self.unified.iter().chain(&self.legacy).collect();
        for directory in made.into_iter().rev() {
            remove_tree(directory)?;
            let parent = directory.parent().expect("it lies below a mount point");
            cgroup::remove_if_ours(parent);
        }
        Ok(())
    }
    // ANCHOR_END: remove
}

impl Drop for Group {
    fn drop(&mut self) {
        self.entrance = None;
        if let Err(error) = self.remove() {
            eprint!("{}", Failure::from_error(&error).hint("the next launch removes what is left").lines("cgroups"));
        }
    }
}

/// The file of a group that its maker locks. Any process may open the directory, and a stranger's lock on that would keep others
/// waiting, or a dead launcher's group alive: so it is a file that only the owner can open.
fn lock_file(directory: &Path) -> std::io::Result<File> {
    let owners_own = directory.join("cgroup.kill"); // v2: mode 0200 from its birth
    let file = if owners_own.exists() { owners_own } else { directory.join("notify_on_release") };
    let opened = File::options().write(true).open(&file)?;
    opened.set_permissions(fs::Permissions::from_mode(0o600))?;
    Ok(opened)
}

/// Locks a group.
///
/// # Errors
/// EWOULDBLOCK: another process holds it. ENOENT: another process held it, and has removed the group.
fn lock(directory: &Path) -> Result<Lock, Failure> {
    let failed = |errno| Failure::call(format_args!("flock({directory:?})"), errno);
    let file = lock_file(directory).map_err(|_| failed(Errno::ENOENT))?;
    let lock = Lock::without_waiting(file, &format!("{directory:?}"))?;
    if directory.is_dir() { Ok(lock) } else { Err(failed(Errno::ENOENT)) }
}

/// Whether the controllers are in the tree of v2.
pub fn is_v2(hierarchies: &Hierarchies) -> bool {
    !["cpu", "memory", "pids"].iter().any(|name| hierarchies.legacy_with(name).is_some())
}

/// The groups below which ours is made, in v1's trees and in v2's.
struct Parents {
    legacy: Vec<PathBuf>,
    unified: Option<PathBuf>,
    aside: Option<Aside>,
}

fn v2_parents(hierarchies: &Hierarchies, limits: &Limits) -> Result<Parents> {
    let tree = hierarchies.unified.as_ref();
    let tree = tree.context("this machine has no cgroups: mount -t cgroup2 cgroup2 /sys/fs/cgroup")?;
    let (start, below) = v2_place(hierarchies, tree, limits);
    let (there, wanted) = (cgroup::read(&start, "cgroup.controllers"), wanted(limits));
    let offered = |name: &&&str| has(&there, name) || wanted.contains(*name);
    let controllers: Vec<&str> = V2_CONTROLLERS.iter().filter(offered).copied().collect();
    let ours = PathBuf::from(hierarchies.our_directory(tree, ""));
    let (parent, aside) = v2::make_parent(&start, below, &ours, &controllers)?;
    Ok(Parents { legacy: Vec::new(), unified: Some(parent), aside })
}

/// Where the parent lies in the tree of v2: below which group, and its path from there. A user who may not write at the top has
/// to stay where he is.
fn v2_place<'a>(hierarchies: &Hierarchies, tree: &Hierarchy, limits: &'a Limits) -> (PathBuf, &'a str) {
    match &limits.parent {
        Some(path) => (tree.point.clone().into(), path),
        None if delegated::is_delegated(tree) => (delegated::base(hierarchies, tree), PARENT),
        None => (tree.point.clone().into(), PARENT),
    }
}

fn v1_parents(hierarchies: &Hierarchies, limits: &Limits) -> Result<Parents> {
    let parent = limits.parent.as_deref().unwrap_or(PARENT);
    let mut controllers = V1_CONTROLLERS.to_vec();
    controllers.retain(|name| hierarchies.legacy_with(name).is_some());
    for name in wanted(limits).iter().map(|name| if *name == "io" { "blkio" } else { *name }) {
        if !controllers.contains(&name) {
            controllers.push(name);
        }
    }
    let legacy = v1::make_parents(hierarchies, parent, &controllers)?;
    let unified = hierarchies.unified.as_ref().filter(|unified| !unified.read_only);
    let unified = unified.map(|tree| v1::make_in(Path::new(&tree.point), parent, false)).transpose()?;
    Ok(Parents { legacy, unified, aside: None })
}

/// The controllers without which a limit that was asked for cannot be set.
fn wanted(limits: &Limits) -> Vec<&'static str> {
    let asked = [
        ("cpu", limits.quota.is_some() || limits.weight.is_some()),
        ("cpuset", limits.cpuset.is_some()),
        ("memory", limits.memory.is_some() || limits.memory_low.is_some()),
        ("pids", limits.pids.is_some()),
        ("io", !limits.io.is_empty()),
    ];
    asked.iter().filter(|(_, asked)| *asked).map(|(name, _)| *name).collect()
}

// ANCHOR: kill_all
/// Kills all processes in a group of v2's tree, and waits until they have ended. No pid is looked up, so none can escape.
fn kill_all(group: &Path) -> Result<()> {
    if cgroup::read(group, "cgroup.events").contains("populated 1") {
        cgroup::write(group, "cgroup.kill", "1")?;
        cgroup::wait_until_empty(group)?;
    }
    Ok(())
}
// ANCHOR_END: kill_all

/// Removes a group, and the groups that were made in it, from the bottom up.
fn remove_tree(group: &Path) -> Result<()> {
    group_tree::remove_inside(group)?;
    // v1 wakes no process when the last one has ended: a few tries.
    for _ in 0..50 {
        match cgroup::remove(group) {
            Err(failure) if failure.errno() == Some(Errno::EBUSY) => std::thread::sleep(Duration::from_millis(10)),
            Err(failure) if failure.errno() == Some(Errno::ENOENT) => return Ok(()),
            other => return Ok(other?),
        }
    }
    Ok(cgroup::remove(group)?)
}

// ANCHOR: abandoned
/// Removes the groups whose launcher was killed: their lock is free. Returns their names.
pub fn remove_abandoned<'a>(parents: impl Iterator<Item = &'a PathBuf>) -> Result<Vec<String>> {
    let parents: Vec<&PathBuf> = parents.collect();
    let Some(first) = parents.first() else { return Ok(Vec::new()) };
    let mut removed = Vec::new();
    for entry in fs::read_dir(first).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let cell = (is_drawn(&name) && cgroup::is_ours(&entry.path())).then(|| entry.path());
        let Some(file) = cell.and_then(|cell| lock_file(&cell).ok()) else { continue };
        let Ok(_lock) = Lock::without_waiting(file, &name) else { continue };
        purpose("a group whose launcher was killed");
        let groups: Vec<PathBuf> = parents.iter().map(|parent| parent.join(&name)).collect();
        let gone = kill_all(&groups[0]).and_then(|()| groups.iter().rev().try_for_each(|group| remove_tree(group)));
        // It may be another user's: that is no reason not to start.
        removed.extend(gone.is_ok().then_some(name));
    }
    Ok(removed)
}
// ANCHOR_END: abandoned

/// Whether a launcher has drawn this name by lot. Other groups are step 7's: they outlive their maker, and are not locked.
fn is_drawn(name: &str) -> bool {
    let number = name.strip_prefix("cell-");
    number.is_some_and(|number| number.len() == 8 && number.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Removes what killed launchers have left below a parent, and the parent if it holds no other group.
pub fn prune(limits: &Limits) -> Result<Vec<String>> {
    let hierarchies = Hierarchies::read()?;
    let there: Vec<PathBuf> = places(&hierarchies, limits).into_iter().filter(|parent| parent.is_dir()).collect();
    let removed = remove_abandoned(there.iter())?;
    let Some(first) = there.first() else { return Ok(removed) };
    let removed = removed.iter().map(|name| first.join(name).display().to_string()).collect();
    for parent in &there {
        cgroup::remove_if_ours(parent);
    }
    Ok(removed)
}

/// The parent in every tree, whether it is there or not.
fn places(hierarchies: &Hierarchies, limits: &Limits) -> Vec<PathBuf> {
    if let Some(tree) = hierarchies.unified.as_ref().filter(|_| is_v2(hierarchies)) {
        let (start, below) = v2_place(hierarchies, tree, limits);
        return vec![start.join(below.trim_start_matches('/'))];
    }
    let parent = limits.parent.as_deref().unwrap_or(PARENT);
    let trees = hierarchies.unified.iter().chain(&hierarchies.legacy);
    trees.map(|tree| PathBuf::from(format!("{}{parent}", tree.point))).collect()
}
