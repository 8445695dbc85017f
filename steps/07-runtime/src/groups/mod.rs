//! The container's control group. It outlives its maker: one command of the runtime makes it and ends, and the next one
//! finds it by what was written down. The caller says where it lies (`cgroupsPath` of a configuration).
//!
//! As in step 5, it lies in v2's tree; or in v1's trees, and beside them in v2's if there is one, where it can be killed,
//! frozen and watched.
//!
//! - `making`: the directories, found or made in each tree, and taken back after a failure.
//! - `identity`: whose group it is, and whether it is still the one that was made.
//! - [`memory_events`]: that it runs out of memory, for `events`.
//! - [`members`]: its processes: listed, frozen, signalled, killed and waited for.
//! - [`resources`]: the limits of a configuration as v1's and v2's files take them.
//! - [`device_rules`]: which devices may be used.
//! - `statistics`: what it has used, for `events`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};
use cgroups::hierarchies::{Hierarchies, has};
use kernel::sys::{cgroup, group_owner};
use kernel::{Errno, Failure, Fd, purpose};
use serde::{Deserialize, Serialize};

use cgroups::{PARENT, Used, delegated, stats};

pub mod device_rules;
mod identity;
mod making;
pub mod members;
pub mod memory_events;
pub mod resources;
mod statistics;

use making::Making;

/// A group that stays until [`Kept::remove`]. It can be written to a file and read again: it is a list of directories.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// In each tree of v1; none on v2.
    pub legacy: Vec<PathBuf>,
    /// In the tree of v2, if there is one, even without controllers.
    pub unified: Option<PathBuf>,
    /// Groups above it that nobody but us has asked for: they go with the last group in them.
    pub parents: Vec<PathBuf>,
    /// Those of its directories that were there before it was made, an administrator's with limits, say. They stay.
    #[serde(default)]
    pub found: Vec<PathBuf>,
    /// Which directories they are: the inode of each.
    #[serde(default)]
    pub inodes: BTreeMap<PathBuf, u64>,
    /// Whose it is: the token that is noted on it, too.
    #[serde(default)]
    pub owner: Option<String>,
}

impl Kept {
    /// Makes the group. An absolute path begins at the mount point of each tree, another below /cellblock, or below the
    /// part of the tree that was delegated to this user. `needed` are the controllers that must be there, by the names
    /// that v2 has for them ([`crate::spec::Resources::controllers`]); the usual ones are taken if they are.
    ///
    /// A group that is there already is taken if no process is in it: its limits hold on, and it stays. If anything fails,
    /// what was made is removed.
    ///
    /// # Errors
    /// A path that leads out of its tree; a group with processes in it, or a frozen one; a missing controller; a tree
    /// that is not ours to write.
    pub fn make(path: &str, needed: &[&str]) -> Result<Kept> {
        Kept::make_for(path, needed, None)
    }

    /// As [`Kept::make`], with its owner's token noted on it from the start ([`Kept::sign`]).
    ///
    /// # Errors
    /// As [`Kept::make`]'s.
    pub fn make_for(path: &str, needed: &[&str], owner: Option<&str>) -> Result<Kept> {
        let path = Wanted::parse(path)?;
        // The last group takes /cellblock with it. If that happens at this very moment, we begin again.
        let is_gone = |error: &anyhow::Error| {
            error.downcast_ref::<Failure>().and_then(Failure::errno).is_some_and(|errno| errno == Errno::ENOENT)
        };
        let mut tries = 1..20;
        loop {
            match Making::new(owner).make(&path, needed) {
                Err(error) if is_gone(&error) && tries.next().is_some() => {}
                made => return made.with_context(|| format!("cannot make the group {}", path.text)),
            }
        }
    }

    /// A group that is there already, by the same path as in [`Kept::make`], with whatever processes are in it. None if it
    /// is in no tree.
    ///
    /// # Errors
    /// A path that leads out of its tree; there is no /proc.
    pub fn find(path: &str) -> Result<Option<Kept>> {
        Ok(Some(Kept::at(path)?).filter(Kept::exists))
    }

    /// The directories of a group by the same path as in [`Kept::make`], those that are there; and the groups above it that are
    /// ours to remove, if they are empty.
    ///
    /// # Errors
    /// A path that leads out of its tree; there is no /proc.
    pub fn at(path: &str) -> Result<Kept> {
        let path = Wanted::parse(path)?;
        let hierarchies = Hierarchies::read()?;
        let below = |top: &PathBuf| top.join(path.parent().trim_start_matches('/')).join(&path.name);
        let unified = hierarchies.unified.as_ref().map(|tree| match !path.absolute && delegated::is_delegated(tree) {
            true => delegated::base(&hierarchies, tree),
            false => PathBuf::from(&tree.point),
        });
        let legacy: Vec<PathBuf> = hierarchies.legacy.iter().map(|tree| PathBuf::from(&tree.point)).collect();
        let tops: Vec<&PathBuf> = unified.iter().chain(&legacy).collect();
        let parents = making::own_parents(&path, &tops);
        let unified = unified.as_ref().map(below).filter(|group| group.is_dir());
        let legacy = legacy.iter().map(below).filter(|group| group.is_dir()).collect();
        Ok(Kept { legacy, unified, parents, ..Kept::default() })
    }

    /// Whether the controllers are in the tree of v2.
    pub fn is_v2(&self) -> bool {
        self.legacy.is_empty()
    }

    /// Whether it is still there, in any tree.
    pub fn exists(&self) -> bool {
        self.all().any(|directory| directory.is_dir())
    }

    /// Its directories: v2's first, for who is in it is best asked there.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Path> {
        self.unified.iter().chain(&self.legacy).map(PathBuf::as_path)
    }

    /// Those with controllers.
    pub(crate) fn limiting(&self) -> impl Iterator<Item = &Path> {
        self.unified.iter().filter(|_| self.is_v2()).chain(&self.legacy).map(PathBuf::as_path)
    }

    /// Where a process is born into it: a descriptor for clone3. None on a machine without any v2 tree, and none for a
    /// group that was there before: if processes of it were ever killed all at once, kernels since 6.15 kill what is born
    /// into it.
    ///
    /// # Errors
    /// The group is gone.
    pub fn entrance(&self) -> Result<Option<Fd>, Failure> {
        let unified = self.unified.as_ref().filter(|unified| !self.is_only_moved_into(unified));
        unified.map(|unified| cgroup::open_group(unified, "group")).transpose()
    }

    /// Whether no process can be born into it: it was there before, or it takes no processes but those that are moved.
    fn is_only_moved_into(&self, unified: &Path) -> bool {
        self.found.iter().any(|found| found == unified)
            || self.is_v2() && cgroup::read(unified, "pids.max").trim() == "0"
    }

    /// The files by which a process enters the trees that it is not born into: v1's, and a group of v2's that was there before.
    fn entrances(&self) -> impl Iterator<Item = (&Path, &'static str)> {
        let unified = self.unified.iter().filter(|unified| self.is_only_moved_into(unified));
        let legacy = self.legacy.iter().map(|directory| (directory.as_path(), "tasks"));
        unified.map(|directory| (directory.as_path(), "cgroup.procs")).chain(legacy)
    }

    /// In the child, which has one thread: enters the trees that it was not born into.
    pub fn join(&self) -> Result<(), Failure> {
        let entrances: Vec<(&Path, &str)> = self.entrances().collect();
        if !entrances.is_empty() {
            purpose("into the group, in each tree that one is not born into");
        }
        entrances.into_iter().try_for_each(|(directory, file)| cgroup::write(directory, file, "0"))
    }

    /// The same in two halves, for who loses sight of the trees in between: the files to write to,
    ///
    /// # Errors
    /// The group is gone.
    pub fn doors(&self) -> Result<Vec<Fd>, Failure> {
        self.entrances().map(|(directory, file)| cgroup::open_to_enter(directory, file)).collect()
    }

    /// and the writing.
    ///
    /// # Errors
    /// The group is gone, or takes nobody in.
    pub fn join_by(doors: &[Fd]) -> Result<(), Failure> {
        if !doors.is_empty() {
            purpose("into the group, in each tree of v1");
        }
        doors.iter().try_for_each(|door| kernel::sys::clone::write_all(door, b"0"))
    }

    /// A group inside this one, which a process in the container has made: `exec --cgroup`.
    ///
    /// # Errors
    /// A path that leads out of it; a group that is not there.
    pub fn inside(&self, path: &str) -> Result<Kept> {
        let below = normal(path).with_context(|| format!("no group inside the container's: {path:?}"))?;
        let join = |directory: &PathBuf| directory.join(&below);
        let inside = Kept {
            legacy: self.legacy.iter().map(join).collect(),
            unified: self.unified.as_ref().map(join),
            ..Kept::default()
        };
        if let Some(missing) = inside.all().find(|directory| !directory.is_dir()) {
            return Err(Failure::new(format!("there is no group {}", missing.display())).into());
        }
        Ok(inside)
    }

    /// The directory that has a file of this name, if there is one.
    pub(crate) fn place_of(&self, file: &str) -> Option<&Path> {
        let controller = controller_of(file);
        // Most machines mount each tree of v1 in a directory named after its controllers: look there first.
        let names =
            |directory: &&Path| directory.iter().any(|part| part.to_str().is_some_and(|part| has(part, controller)));
        let (likely, others): (Vec<&Path>, Vec<&Path>) = self.limiting().partition(names);
        likely.into_iter().chain(others).find(|directory| directory.join(file).exists())
    }

    /// The same, where it must be.
    pub(crate) fn directory_with(&self, file: &str) -> Result<&Path, Failure> {
        self.place_of(file).ok_or_else(|| {
            let controller = controller_of(file);
            let missing = match self.limiting().any(|directory| controller_is_in(directory, controller)) {
                true => format!("this kernel has no {file}"),
                false => format!("there is no controller {controller} for this group, and so no {file}"),
            };
            Failure::new(missing).hint("cat /proc/cgroups; cat /sys/fs/cgroup/cgroup.controllers")
        })
    }

    /// What the group has used until now.
    pub fn used(&self) -> Used {
        match &self.unified {
            Some(unified) if self.is_v2() => stats::read_v2(unified),
            _ => stats::read_v1(&self.limiting().collect::<Vec<_>>()),
        }
    }

    /// Removes the group, and the groups inside it. What was there before it was made stays, without processes. That it is
    /// gone already, in part or as a whole, is no error.
    ///
    /// # Errors
    /// EBUSY: processes are in it, and stay.
    pub fn remove(&self) -> Result<()> {
        purpose("the group goes");
        // One that cannot be removed keeps none of the others, and is tried a second time: nobody else would.
        let remove = |directory: &Path| match self.found.iter().any(|found| found == directory) {
            true => members::empty_group(directory).inspect(|()| group_owner::clear(directory)),
            false => members::remove_group(directory),
        };
        let failed: Vec<&Path> = self.all().filter(|directory| remove(directory).is_err()).collect();
        let again = failed.into_iter().map(remove).collect::<Vec<Result<()>>>();
        for parent in &self.parents {
            cgroup::remove_if_ours(parent);
        }
        again.into_iter().collect()
    }
}

/// `memory`, of `memory.max`.
fn controller_of(file: &str) -> &str {
    file.split('.').next().unwrap_or(file)
}

/// Whether a directory's tree has the controller: v1 keeps each in trees of their own.
fn controller_is_in(directory: &Path, controller: &str) -> bool {
    let prefix = format!("{controller}.");
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
}

/// Where a group is wanted.
pub(crate) struct Wanted {
    pub(crate) text: String,
    /// Below the mount points; else below our default.
    pub(crate) absolute: bool,
    /// The groups above it.
    above: String,
    pub(crate) name: String,
}

impl Wanted {
    pub(crate) fn parse(text: &str) -> Result<Wanted> {
        let below = normal(text).with_context(|| format!("not a path for a group: {text:?}"))?;
        let above = below.parent().map(|above| above.to_string_lossy().into_owned()).unwrap_or_default();
        let name = below.file_name().expect("it is not empty").to_string_lossy().into_owned();
        Ok(Wanted { text: text.to_owned(), absolute: text.starts_with('/'), above, name })
    }

    /// The groups above, as a path from the mount point.
    pub(crate) fn parent(&self) -> String {
        if self.absolute { format!("/{}", self.above) } else { format!("{PARENT}/{}", self.above) }
    }
}

/// A path without a root, dots and doubled slashes.
///
/// # Errors
/// One that climbs, that is empty, or that no directory can be named like.
fn normal(path: &str) -> Result<PathBuf, Failure> {
    let refuse = |why: &str| Err(Failure::new(why).hint("such as /workshop/cell1"));
    let mut below = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => below.push(name),
            Component::ParentDir => return refuse("it has .. in it"),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    match below.as_os_str().is_empty() {
        true => refuse("it names no group"),
        false if path.contains(['\n', '\0']) => refuse("no group can have that name"),
        false => Ok(below),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_in_their_tree() {
        let place = |path: &str| Wanted::parse(path).map(|wanted| format!("{} {}", wanted.parent(), wanted.name)).ok();
        assert_eq!(place("/docker/c0ffee").as_deref(), Some("/docker c0ffee"));
        assert_eq!(place("//docker/./c0ffee/").as_deref(), Some("/docker c0ffee"));
        assert_eq!(place("/alone").as_deref(), Some("/ alone"));
        assert_eq!(place("name").as_deref(), Some("/cellblock/ name"));
        for wrong in ["", "/", ".", "..", "/../x", "/a/../../b", "a/..", "/a\nb", "/a\0b"] {
            assert_eq!(place(wrong), None, "{wrong:?}");
        }
    }
}
