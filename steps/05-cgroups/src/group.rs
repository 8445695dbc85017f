//! The cell's group: made with its limits before the child is born, removed when it has ended.
//!
//! Who made a group holds a lock on its directory. So a group whose lock nobody holds was left by a launcher that was
//! killed, and whoever comes next removes it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use kernel::hierarchies::Hierarchies;
use kernel::sys::cgroup;
use kernel::{Errno, Failure, Fd, purpose};
use nix::fcntl::{Flock, FlockArg};
use pivot_root::FileSystem;

use crate::limits::Limits;
use crate::stats::{self, Used};
use crate::{Setting, devices, v1, v2};

/// What v1's trees are there for; v2 has no group for devices, and counts CPU time without being asked.
const V2_CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "memory", "pids", "io"];

/// A group of processes, in one tree (v2) or in several (v1). Dropped, it is removed, and who is left in it is killed.
#[derive(Debug)]
pub struct Group {
    limits: Limits,
    /// The group's directory in each tree of v1; none on v2.
    legacy: Vec<PathBuf>,
    /// In the tree of v2, if there is one, even without controllers: there a group can be killed and watched.
    unified: Option<PathBuf>,
    /// The tree with limits is v2's.
    is_v2: bool,
    entrance: Option<Fd>,
    lock: Option<Flock<File>>,
}

impl Group {
    // ANCHOR: make
    /// Makes the group and writes its limits.
    ///
    /// # Errors
    /// A controller that is missing; a group that is not ours to make; a value that the kernel refuses.
    pub fn make(limits: &Limits) -> Result<Group> {
        let hierarchies = Hierarchies::read().context("cannot read which cgroups there are: is /proc mounted?")?;
        let is_v2 = !["cpu", "memory", "pids"].iter().any(|name| hierarchies.legacy_with(name).is_some());
        let (parents, unified_parent) = parents(&hierarchies, limits, is_v2)?;
        remove_abandoned(unified_parent.iter().chain(&parents))?;
        purpose("a group for this cell, with its limits");
        let name = format!("cell-{:08x}", kernel::sys::process::random()?);
        let mut group =
            Group { limits: limits.clone(), legacy: Vec::new(), unified: None, is_v2, entrance: None, lock: None };
        if let Some(parent) = unified_parent {
            group.unified = Some(group.make_locked(parent.join(&name))?);
        }
        for parent in parents {
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

    /// The same; but who asked for no limit, and may make no group, stays in the one that he is in (step 6: an ordinary user).
    pub fn make_or_stay(limits: &Limits) -> Result<Group> {
        let not_ours = |error: &anyhow::Error| {
            let errno = error.downcast_ref::<Failure>().and_then(Failure::errno);
            matches!(errno, Some(Errno::EACCES | Errno::EPERM | Errno::EROFS))
        };
        match Group::make(limits) {
            Err(error) if !limits.any() && not_ours(&error) => Ok(Group {
                limits: limits.clone(),
                legacy: Vec::new(),
                unified: None,
                is_v2: false,
                entrance: None,
                lock: None,
            }),
            made => made,
        }
    }

    /// Makes a directory; the first is locked for as long as we live.
    fn make_locked(&mut self, directory: PathBuf) -> Result<PathBuf> {
        cgroup::make(&directory).map_err(v2::not_ours)?;
        if self.lock.is_none() {
            let file = File::open(&directory).with_context(|| format!("cannot open {}", directory.display()))?;
            let locked = Flock::lock(file, FlockArg::LockExclusiveNonblock);
            self.lock = Some(locked.map_err(|(_, errno)| Failure::call(format_args!("flock({directory:?})"), errno))?);
        }
        Ok(directory)
    }

    fn write_limits(&self) -> Result<()> {
        let settings = if self.is_v2 { v2::settings(&self.limits) } else { v1::settings(&self.limits) };
        for Setting { file, value } in settings {
            let found = self.directories().find(|directory| directory.join(file).exists());
            match found {
                Some(directory) => cgroup::write(directory, file, &value)
                    .map_err(|failure| failure.hint(format!("the kernel does not take {value:?} for {file}")))?,
                None if file.contains("swap") || file.contains("memsw") => {} // a kernel that does not count swap
                None => return Err(Failure::new(format!("this kernel has no {file}")).into()),
            }
        }
        Ok(())
    }

    fn guard_devices(&self) -> Result<()> {
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

    /// What the cell sees in /sys/fs/cgroup: its own part of the tree of v2, to be read only. On v1 it sees nothing.
    pub fn file_systems(&self) -> Vec<FileSystem> {
        let v2 = FileSystem { kind: c"cgroup2", place: "sys/fs/cgroup" };
        self.is_v2.then_some(v2).into_iter().collect()
    }

    /// What the group has used until now.
    pub fn used(&self) -> Used {
        let directories: Vec<&Path> = self.directories().map(PathBuf::as_path).collect();
        if self.is_v2 { stats::read_v2(directories[0]) } else { stats::read_v1(&directories) }
    }

    /// Says what the command should know of its end: a limit that killed it, and, if asked, what it has used.
    pub fn tell_end(&self) {
        let used = self.used();
        if let (Some(limit), true) = (self.limits.memory, used.oom_kills > 0) {
            let (count, limit) = (used.oom_kills, limit as f64 / f64::from(1 << 20));
            eprintln!(
                "cgroups: the kernel killed {count} of the cell's processes: they wanted more than {limit} MiB (--memory)"
            );
        }
        if self.limits.stats {
            eprint!("{used}");
        }
    }

    // ANCHOR: remove
    /// Kills who is left in the group, waits until they are gone, and removes it.
    fn remove(&mut self) -> Result<()> {
        purpose("nobody stays: kill who is left, and remove the group");
        if let Some(unified) = &self.unified {
            kill_all(unified)?;
        }
        for directory in self.unified.iter().chain(&self.legacy) {
            remove_tree(directory)?;
            let parent = directory.parent().expect("it lies below a mount point");
            let _ = fs::remove_dir(parent); // unless another cell's group is in it
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

/// The groups below which ours is made, in v1's trees and in v2's.
fn parents(hierarchies: &Hierarchies, limits: &Limits, is_v2: bool) -> Result<(Vec<PathBuf>, Option<PathBuf>)> {
    if is_v2 {
        let there =
            hierarchies.unified.as_ref().map(|unified| cgroup::read(Path::new(&unified.point), "cgroup.controllers"));
        let there = there.context("this machine has no cgroups: mount -t cgroup2 cgroup2 /sys/fs/cgroup")?;
        let wanted = wanted(limits);
        let offered = |name: &&&str| kernel::hierarchies::has(&there, name) || wanted.contains(*name);
        let controllers: Vec<&str> = V2_CONTROLLERS.iter().filter(offered).copied().collect();
        return Ok((Vec::new(), Some(v2::make_parent(hierarchies, &limits.parent, &controllers)?)));
    }
    let mut controllers = vec!["cpu", "cpuacct", "memory", "pids", "blkio", "devices"];
    controllers.retain(|name| hierarchies.legacy_with(name).is_some());
    for name in wanted(limits).iter().map(|name| if *name == "io" { "blkio" } else { *name }) {
        if !controllers.contains(&name) {
            controllers.push(name);
        }
    }
    let parents = v1::make_parents(hierarchies, &limits.parent, &controllers)?;
    let unified = hierarchies.unified.as_ref().filter(|unified| !unified.read_only);
    let unified = unified.map(|tree| v1::make_in(Path::new(&tree.point), &limits.parent, false)).transpose()?;
    Ok((parents, unified))
}

/// The controllers without which a limit that was asked for cannot be set.
fn wanted(limits: &Limits) -> Vec<&'static str> {
    let asked = [
        ("cpu", limits.quota.is_some() || limits.weight.is_some()),
        ("cpuset", limits.cpuset.is_some()),
        ("memory", limits.memory.is_some()),
        ("pids", limits.pids.is_some()),
        ("io", !limits.io.is_empty()),
    ];
    asked.iter().filter(|(_, asked)| *asked).map(|(name, _)| *name).collect()
}

// ANCHOR: kill_all
/// Kills everybody in a group of v2's tree, and waits until they have gone. No pid is looked up, so none can escape.
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
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    // v1 wakes nobody when the last process has gone: a few tries.
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
/// Removes the groups whose launcher was killed: nobody holds their lock. Returns their names.
pub fn remove_abandoned<'a>(parents: impl Iterator<Item = &'a PathBuf>) -> Result<Vec<String>> {
    let parents: Vec<&PathBuf> = parents.collect();
    let Some(first) = parents.first() else { return Ok(Vec::new()) };
    let mut removed = Vec::new();
    for entry in fs::read_dir(first).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(file) = File::open(entry.path()).ok().filter(|_| name.starts_with("cell-")) else { continue };
        let Ok(_lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else { continue };
        purpose("a group whose launcher was killed");
        let groups = parents.iter().map(|parent| parent.join(&name)).filter(|group| group.is_dir());
        let gone = groups.map(|group| kill_all(&group).and_then(|()| remove_tree(&group))).collect::<Result<Vec<()>>>();
        // It may be another user's: that is no reason not to start.
        removed.extend(gone.is_ok().then_some(name));
    }
    Ok(removed)
}
// ANCHOR_END: abandoned

/// Removes what killed launchers have left below a parent, and the parent if nobody else is in it.
pub fn prune(limits: &Limits) -> Result<Vec<String>> {
    let hierarchies = Hierarchies::read().context("cannot read which cgroups there are")?;
    let points = hierarchies.unified.iter().chain(&hierarchies.legacy).map(|tree| tree.point.clone());
    let parents: Vec<PathBuf> = points.map(|point| PathBuf::from(format!("{point}{}", limits.parent))).collect();
    let there: Vec<&PathBuf> = parents.iter().filter(|parent| parent.is_dir()).collect();
    let removed = remove_abandoned(there.iter().copied())?;
    for parent in there {
        let _ = fs::remove_dir(parent);
    }
    Ok(removed)
}
