//! The cell's group: made with its limits before the child is born, removed when it has ended.
//!
//! The maker of a group holds a lock on a file in it. So a group whose lock is free was left by a launcher that was killed,
//! and the next launch removes it.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use kernel::sys::cgroup;
use kernel::sys::lock::Lock;
use kernel::{Errno, Failure, Fd, purpose};
use pivot_root::FileSystem;

use crate::delegated::{self, InLeaf};
use crate::directories::{self, Directories, Parent, is_not_ours, is_v2};
use crate::hierarchies::Hierarchies;
use crate::limits::Limits;
use crate::stats::Used;
use crate::{Setting, devices, v1, v2, view};

/// A group of processes, in one tree (v2) or in several (v1). Dropped, it is removed, and processes that are left in it are killed.
#[derive(Debug)]
pub struct Group {
    limits: Limits,
    hierarchies: Hierarchies,
    directories: Directories,
    entrance: Option<Fd>,
    lock: Option<Lock>,
    /// Dropped after the group has been removed.
    _aside: Option<InLeaf>,
}

impl Group {
    /// Makes the group and writes its limits.
    ///
    /// # Errors
    /// A controller that is missing; a group that is not ours to make; a value that the kernel refuses.
    pub fn make(limits: &Limits) -> Result<Group> {
        // The last cell removes the parent with its group; and a launcher that looks between our mkdir and our lock takes
        // the group for abandoned. If that happens at this very moment, we begin again.
        let is_gone =
            |error: &anyhow::Error| matches!(Failure::errno_in(error), Some(Errno::ENOENT | Errno::EWOULDBLOCK));
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
        let (parent, aside) = Directories::make_parent(&hierarchies, &parent_of(limits), &needed(limits))?;
        remove_abandoned(&parent)?;
        purpose("a group for this cell, with its limits");
        let name = format!("cell-{:08x}", kernel::sys::process::random()?);
        let mut group = Group::none_yet(limits, hierarchies, aside);
        if let Some(parent) = &parent.unified {
            group.directories.unified = Some(group.make_locked(parent.join(&name))?);
        }
        for parent in &parent.legacy {
            let directory = group.make_locked(parent.join(&name))?;
            if directory.join("cpuset.cpus").exists() {
                v1::inherit_cpuset(parent, &directory)?;
            }
            group.directories.legacy.push(directory);
        }
        group.write_limits()?;
        if let Some(unified) = &group.directories.unified {
            group.entrance = Some(cgroup::open_group(unified, "group")?);
        }
        group.guard_devices()?;
        Ok(group)
    }
    // ANCHOR_END: make

    /// Makes the group, or, where no limit was asked for and no group may be made, stays in the present one (step 6: an ordinary user).
    pub fn make_or_stay(limits: &Limits) -> Result<Group> {
        match Group::make(limits) {
            Err(error) if !limits.any() && is_not_ours(&error) => {
                Ok(Group::none_yet(limits, Hierarchies::read()?, None))
            }
            made => made,
        }
    }

    fn none_yet(limits: &Limits, hierarchies: Hierarchies, aside: Option<InLeaf>) -> Group {
        let (limits, directories) = (limits.clone(), Directories::default());
        Group { limits, hierarchies, directories, entrance: None, lock: None, _aside: aside }
    }

    /// Makes a directory; the first is locked for as long as we live.
    fn make_locked(&mut self, directory: PathBuf) -> Result<PathBuf> {
        cgroup::make(&directory).map_err(if is_v2(&self.hierarchies) {
            delegated::not_ours
        } else {
            delegated::not_ours_v1
        })?;
        if self.lock.is_none() {
            self.lock = Some(lock(&directory)?);
        }
        Ok(directory)
    }

    fn write_limits(&self) -> Result<()> {
        let settings = if self.directories.is_v2() { v2::settings(&self.limits) } else { v1::settings(&self.limits) };
        for Setting { file, value } in settings {
            match self.directories.with_file(&file) {
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
        let is_v2 = self.directories.is_v2();
        if is_v2 && self.hierarchies.unified.as_ref().is_some_and(delegated::is_delegated) {
            return Ok(());
        }
        match (&self.entrance, self.directories.with_file("devices.deny")) {
            (Some(entrance), _) if is_v2 => devices::attach_program(entrance),
            (_, Some(directory)) => devices::write_lists(directory),
            _ => Ok(()),
        }
    }

    /// Where the child is born: a descriptor for clone3. None on a machine without any v2 tree.
    pub fn entrance(&self) -> Option<&Fd> {
        self.entrance.as_ref()
    }

    // ANCHOR: join
    /// In the child: enters the trees of v1, which know no being born into. It writes itself, as 0, into `tasks`: moving a
    /// thread costs the kernel less than moving a process, and ours has one.
    pub fn join(&self) -> Result<()> {
        if !self.directories.legacy.is_empty() {
            purpose("into the group, in each tree of v1");
        }
        for directory in &self.directories.legacy {
            cgroup::write(directory, "tasks", "0")?;
        }
        if let Some(value) = self.limits.oom_score_adj {
            purpose("how early the kernel kills this process when the whole machine is out of memory");
            kernel::sys::clone::write_file("/proc/self/oom_score_adj", &value.to_string())
                .map_err(|failure| failure.hint("only root may lower it below what it was"))?;
        }
        purpose("a view in which this group is the topmost");
        Ok(kernel::sys::clone::unshare_cgroup()?)
    }
    // ANCHOR_END: join

    /// What the cell sees in /sys/fs/cgroup: its own part of each tree that it is in, to be read only.
    pub fn file_systems(&self) -> Vec<FileSystem> {
        view::of(view::PLACE, &self.hierarchies, &self.directories).into_iter().map(|(part, _)| part).collect()
    }

    /// What the group has used until now.
    pub fn used(&self) -> Used {
        self.directories.used()
    }

    /// Says what the command should know of its end: a limit that killed it, and, if asked, what it has used.
    pub fn tell_end(&self) {
        self.used().tell_end(&self.limits);
    }

    // ANCHOR: remove
    /// Kills the processes that are left in the group, waits until they have ended, and removes it.
    fn remove(&mut self) -> Result<()> {
        purpose("no process stays: kill those that are left, and remove the group");
        kill_all(&self.directories)?;
        // The first has the lock, and goes last: as long as it is there, the others are found, should we be killed here.
        for directory in self.directories.all().rev() {
            directories::remove(directory)?;
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

/// The group below which the cell's own is made.
fn parent_of(limits: &Limits) -> Parent {
    limits.parent.as_deref().map_or_else(|| Parent::default_with(""), Parent::named)
}

/// The controllers without which a limit that was asked for cannot be set.
fn needed(limits: &Limits) -> Vec<&'static str> {
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
/// Kills all processes in a group, in v2's tree, and waits until they have ended. No pid is looked up, so none can escape.
fn kill_all(group: &Directories) -> Result<()> {
    let Some(unified) = &group.unified else { return wait_until_empty(group) };
    if cgroup::read(unified, "cgroup.events").contains("populated 1") {
        cgroup::write(unified, "cgroup.kill", "1")?;
        cgroup::wait_until_empty(unified)?;
    }
    Ok(())
}
// ANCHOR_END: kill_all

/// v1 alone: the kernel has killed the cell's processes with their PID 1, and wakes no process when the last one has ended. A few
/// tries.
fn wait_until_empty(group: &Directories) -> Result<()> {
    for _ in 0..50 {
        if group.all().all(|directory| directories::processes(directory).is_empty()) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

// ANCHOR: abandoned
/// Removes the groups whose launcher was killed: their lock is free. Returns their names.
fn remove_abandoned(parent: &Directories) -> Result<Vec<String>> {
    let Some(first) = parent.all().next() else { return Ok(Vec::new()) };
    let mut removed = Vec::new();
    for entry in fs::read_dir(first).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let cell = (is_drawn(&name) && cgroup::is_ours(&entry.path())).then(|| entry.path());
        let Some(file) = cell.and_then(|cell| lock_file(&cell).ok()) else { continue };
        let Ok(_lock) = Lock::without_waiting(file, &name) else { continue };
        purpose("a group whose launcher was killed");
        let group = parent.inside(&name);
        let gone = kill_all(&group).and_then(|()| group.all().rev().try_for_each(directories::remove));
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
    let parent = Directories::of_parent(&Hierarchies::read()?, &parent_of(limits)).only(Path::is_dir);
    let removed = remove_abandoned(&parent)?;
    let Some(first) = parent.all().next() else { return Ok(removed) };
    let removed = removed.iter().map(|name| first.join(name).display().to_string()).collect();
    parent.all().for_each(cgroup::remove_if_ours);
    Ok(removed)
}
