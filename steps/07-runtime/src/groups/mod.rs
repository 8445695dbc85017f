//! The container's control group. It outlives its maker: one command of the runtime makes it and ends, and the next one
//! finds it by what was written down. The caller says where it lies (`cgroupsPath` of a configuration).
//!
//! As in step 5, it lies in v2's tree; or in v1's trees, and beside them in v2's if there is one, where it can be killed,
//! frozen and watched.
//!
//! - `making`: the directories, found or made in each tree, and taken back after a failure.
//! - `identity`: whose group it is, and whether it is still the one that was made.
//! - `inside`: the groups that its processes have made in it.
//! - [`memory_events`]: that it runs out of memory, for `events`.
//! - [`members`]: its processes: listed, frozen, signalled, killed and waited for.
//! - [`resources`]: the limits of a configuration as v1's and v2's files take them.
//! - [`device_rules`]: which devices may be used.
//! - `real_time`: budgets for real-time processes, which v1 gives to a group and those above it.
//! - `statistics`: what it has used, for `events`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};
use cgroups::hierarchies::Hierarchies;
use cgroups::{Directories, Parent, directories};
use kernel::sys::{cgroup, group_owner};
use kernel::{Errno, Failure, Fd, purpose};
use serde::{Deserialize, Serialize};

pub mod device_rules;
mod identity;
mod inside;
mod making;
pub mod members;
pub mod memory_events;
mod real_time;
pub mod resources;
mod statistics;

use making::Making;

/// A group that stays until [`Cgroup::remove`]. It can be written to a file and read again: it is a list of directories.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    /// One in v2's tree, or one in each of v1's.
    #[serde(flatten, with = "RecordOfDirectories")]
    pub directories: Directories,
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

/// The form of [`Directories`] in a record.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Directories")]
struct RecordOfDirectories {
    legacy: Vec<PathBuf>,
    unified: Option<PathBuf>,
}

impl Cgroup {
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
    pub fn make(path: &str, needed: &[&str]) -> Result<Cgroup> {
        Cgroup::make_for(path, needed, None)
    }

    /// As [`Cgroup::make`], with its owner's token noted on it from the start ([`Cgroup::sign`]).
    ///
    /// # Errors
    /// As [`Cgroup::make`]'s.
    pub fn make_for(path: &str, needed: &[&str], owner: Option<&str>) -> Result<Cgroup> {
        let path = Wanted::parse(path)?;
        // The last group takes /cellblock with it. If that happens at this very moment, we begin again.
        let is_gone = |error: &anyhow::Error| Failure::errno_in(error) == Some(Errno::ENOENT);
        let mut tries = 1..20;
        loop {
            match Making::new(owner).make(&path, needed) {
                Err(error) if is_gone(&error) && tries.next().is_some() => {}
                made => return made.with_context(|| format!("cannot make the group {}", path.text)),
            }
        }
    }

    /// A group that is there already, by the same path as in [`Cgroup::make`], with whatever processes are in it. None if it
    /// is in no tree.
    ///
    /// # Errors
    /// A path that leads out of its tree; there is no /proc.
    pub fn find(path: &str) -> Result<Option<Cgroup>> {
        Ok(Some(Cgroup::at(path)?).filter(Cgroup::exists))
    }

    /// The directories of a group by the same path as in [`Cgroup::make`], those that are there; and the groups above it that are
    /// ours to remove, if they are empty.
    ///
    /// # Errors
    /// A path that leads out of its tree; there is no /proc.
    pub fn at(path: &str) -> Result<Cgroup> {
        let path = Wanted::parse(path)?;
        let parent = Directories::of_parent(&Hierarchies::read()?, &path.parent);
        let directories = parent.inside(&path.name).only(Path::is_dir);
        Ok(Cgroup { directories, parents: path.own_parents(&parent), ..Cgroup::default() })
    }

    /// Whether it is still there, in any tree.
    pub fn exists(&self) -> bool {
        self.directories.exist()
    }

    /// The same group in other directories: some of its own, or some in these.
    fn with(&self, directories: Directories) -> Cgroup {
        Cgroup { directories, ..self.clone() }
    }

    /// Where a process is born into it: a descriptor for clone3. None on a machine without any v2 tree, and none for a
    /// group that was there before: if processes of it were ever killed all at once, kernels since 6.15 kill what is born
    /// into it.
    ///
    /// # Errors
    /// The group is gone.
    pub fn entrance(&self) -> Result<Option<Fd>, Failure> {
        let unified = self.directories.unified.as_ref().filter(|unified| !self.is_only_moved_into(unified));
        unified.map(|unified| cgroup::open_group(unified, "group")).transpose()
    }

    /// Whether no process can be born into it: it was there before, or it takes no processes but those that are moved.
    fn is_only_moved_into(&self, unified: &Path) -> bool {
        self.found.iter().any(|found| found == unified)
            || self.directories.is_v2() && cgroup::read(unified, "pids.max").trim() == "0"
    }

    /// The files by which a process enters the trees that it is not born into: v1's, and a group of v2's that was there before.
    fn entrances(&self) -> impl Iterator<Item = (&Path, &'static str)> {
        let unified = self.directories.unified.iter().filter(|unified| self.is_only_moved_into(unified));
        let legacy = self.directories.legacy.iter().map(|directory| (directory.as_path(), "tasks"));
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

    /// The files by which [`Cgroup::join`] enters, for a child that loses sight of the trees before it does: [`Cgroup::join_by`].
    ///
    /// # Errors
    /// The group is gone.
    pub fn open_entrances(&self) -> Result<Vec<Fd>, Failure> {
        self.entrances().map(|(directory, file)| cgroup::open_to_enter(directory, file)).collect()
    }

    /// In the child: enters by files that were opened before.
    ///
    /// # Errors
    /// The group is gone, or takes no processes.
    pub fn join_by(entrances: &[Fd]) -> Result<(), Failure> {
        if !entrances.is_empty() {
            purpose("into the group, in each tree of v1");
        }
        entrances.iter().try_for_each(|entrance| kernel::sys::clone::write_all(entrance, b"0"))
    }

    /// The directory that has a file of this name, where it must be.
    pub(crate) fn directory_with(&self, file: &str) -> Result<&Path, Failure> {
        self.directories.with_file(file).ok_or_else(|| {
            let controller = file.split('.').next().unwrap_or(file);
            let missing = match self.directories.limiting().any(|directory| controller_is_in(directory, controller)) {
                true => format!("this kernel has no {file}"),
                false => format!("there is no controller {controller} for this group, and so no {file}"),
            };
            Failure::new(missing).hint("cat /proc/cgroups; cat /sys/fs/cgroup/cgroup.controllers")
        })
    }

    /// Removes the group, and the groups inside it. What was there before it was made stays, without processes. That it is
    /// gone already, in part or as a whole, is no error.
    ///
    /// # Errors
    /// EBUSY: processes are in it, and stay.
    pub fn remove(&self) -> Result<()> {
        purpose("the group goes");
        self.give_back_real_time();
        // One that cannot be removed keeps none of the others, and is tried a second time: nobody else would.
        let remove = |directory: &Path| match self.found.iter().any(|found| found == directory) {
            true => members::empty_group(directory).inspect(|()| group_owner::clear(directory)),
            false => directories::remove(directory),
        };
        let failed: Vec<&Path> = self.directories.all().filter(|directory| remove(directory).is_err()).collect();
        let again = failed.into_iter().map(remove).collect::<Vec<Result<()>>>();
        for parent in &self.parents {
            cgroup::remove_if_ours(parent);
        }
        again.into_iter().collect()
    }
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
    /// The group above it: below the mount points, or below our default.
    pub(crate) parent: Parent,
    pub(crate) name: String,
}

impl Wanted {
    pub(crate) fn parse(text: &str) -> Result<Wanted> {
        let below = normal(text).with_context(|| format!("not a path for a group: {text:?}"))?;
        let above = below.parent().map(|above| above.to_string_lossy().into_owned()).unwrap_or_default();
        let name = below.file_name().expect("it is not empty").to_string_lossy().into_owned();
        let is_absolute = text.starts_with('/');
        let parent = if is_absolute { Parent::named(&format!("/{above}")) } else { Parent::default_with(&above) };
        Ok(Wanted { text: text.to_owned(), parent, name })
    }

    /// The groups of our default that lie above, the nearest first; those of an absolute path are the caller's.
    pub(crate) fn own_parents(&self, parent: &Directories) -> Vec<PathBuf> {
        let depth = self.parent.path().split('/').filter(|part| !part.is_empty()).count();
        let depth = if self.parent.is_default() { depth } else { 0 };
        parent.all().flat_map(|directory| directory.ancestors().take(depth)).map(Path::to_owned).collect()
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
        let place =
            |path: &str| Wanted::parse(path).map(|wanted| format!("{} {}", wanted.parent.path(), wanted.name)).ok();
        assert_eq!(place("/docker/c0ffee").as_deref(), Some("/docker c0ffee"));
        assert_eq!(place("//docker/./c0ffee/").as_deref(), Some("/docker c0ffee"));
        assert_eq!(place("/alone").as_deref(), Some("/ alone"));
        assert_eq!(place("name").as_deref(), Some("/cellblock name"));
        for wrong in ["", "/", ".", "..", "/../x", "/a/../../b", "a/..", "/a\nb", "/a\0b"] {
            assert_eq!(place(wrong), None, "{wrong:?}");
        }
    }
    #[test]
    fn only_groups_of_our_default_go_with_the_last() {
        let own = |path: &str| {
            let wanted = Wanted::parse(path).unwrap();
            let unified = Some(PathBuf::from(format!("/top{}", wanted.parent.path())));
            wanted.own_parents(&Directories { unified, legacy: Vec::new() })
        };
        assert_eq!(own("/a/b"), [""; 0].map(PathBuf::from));
        assert_eq!(own("a/b"), ["/top/cellblock/a", "/top/cellblock"].map(PathBuf::from));
    }
}
