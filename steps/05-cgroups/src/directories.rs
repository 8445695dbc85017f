//! The directories of a group: one in v2's tree, or one in each of v1's trees. This is what a group is made of, whatever
//! program keeps it: the lesson's [`crate::Group`] has a lock beside it, the group of step 7 a record.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use kernel::sys::{cgroup, group_tree};
use kernel::{Errno, Failure};

use crate::delegated::{self, InLeaf};
use crate::hierarchies::{Hierarchies, Hierarchy, has};
use crate::stats::{self, Used};
use crate::{v1, v2};

/// What v1's trees are there for; v2 has no group for devices, and counts CPU time without being asked.
pub const V2_CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "memory", "pids", "io"];
/// Each of these is a tree of v1, or shares one.
pub const V1_CONTROLLERS: [&str; 6] = ["cpu", "cpuacct", "memory", "pids", "blkio", "devices"];
/// Where the cells' groups lie, unless something else is said.
pub const PARENT: &str = "/cellblock";

/// The directories of one group. They may be there or not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directories {
    /// In each tree of v1; none on v2.
    pub legacy: Vec<PathBuf>,
    /// In the tree of v2, if there is one, even without controllers: there a group can be killed and watched.
    pub unified: Option<PathBuf>,
}

impl Directories {
    /// Makes the parent of a group in every tree, with the usual controllers as far as they are there, and with those that are
    /// needed, by their names in v2. On v2 this process may have to step aside.
    ///
    /// # Errors
    /// A controller that is not there; a tree that is not ours to write.
    pub fn make_parent(trees: &Hierarchies, parent: &Parent, needed: &[&str]) -> Result<(Directories, Option<InLeaf>)> {
        if is_v2(trees) { parent.make_v2(trees, needed) } else { parent.make_v1(trees, needed) }
    }

    /// The parent of a group in every tree, whether it is there or not.
    pub fn of_parent(trees: &Hierarchies, parent: &Parent) -> Directories {
        let below = |top: PathBuf| top.join(parent.path.trim_start_matches('/'));
        let unified = trees.unified.as_ref();
        if is_v2(trees) {
            return Directories { unified: unified.map(|tree| below(parent.start(trees, tree))), legacy: Vec::new() };
        }
        let at_point = |tree: &Hierarchy| below(PathBuf::from(&tree.point));
        Directories { unified: unified.map(at_point), legacy: trees.legacy.iter().map(at_point).collect() }
    }

    /// The groups of one name in these.
    pub fn inside(&self, name: &str) -> Directories {
        let inside = |directory: &PathBuf| directory.join(name);
        Directories { legacy: self.legacy.iter().map(inside).collect(), unified: self.unified.as_ref().map(inside) }
    }

    /// Those for which something is true.
    pub fn only(&self, is_wanted: impl Fn(&Path) -> bool) -> Directories {
        let is_wanted = |directory: &&PathBuf| is_wanted(directory);
        Directories {
            legacy: self.legacy.iter().filter(is_wanted).cloned().collect(),
            unified: self.unified.as_ref().filter(is_wanted).cloned(),
        }
    }

    /// Whether the limits are in the tree of v2.
    pub fn is_v2(&self) -> bool {
        self.legacy.is_empty() && self.unified.is_some()
    }

    /// All of them, v2's first: which processes are in the group is best asked there.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = &Path> {
        self.unified.iter().chain(&self.legacy).map(PathBuf::as_path)
    }

    /// Those with limits.
    pub fn limiting(&self) -> impl Iterator<Item = &Path> {
        self.unified.iter().filter(|_| self.is_v2()).chain(&self.legacy).map(PathBuf::as_path)
    }

    /// Whether one of them is there.
    pub fn exist(&self) -> bool {
        self.all().any(Path::is_dir)
    }

    /// The one that has a file of this name. Most machines mount each tree of v1 in a directory named after its controllers:
    /// there it is looked for first.
    pub fn with_file(&self, file: &str) -> Option<&Path> {
        let controller = file.split('.').next().unwrap_or(file);
        let is_named =
            |directory: &&Path| directory.iter().any(|part| part.to_str().is_some_and(|part| has(part, controller)));
        let (likely, others): (Vec<&Path>, Vec<&Path>) = self.limiting().partition(is_named);
        likely.into_iter().chain(others).find(|directory| directory.join(file).exists())
    }

    /// What the group has used until now.
    pub fn used(&self) -> Used {
        match &self.unified {
            Some(unified) if self.is_v2() => stats::read_v2(unified),
            _ => stats::read_v1(&self.limiting().collect::<Vec<_>>()),
        }
    }
}

/// Whether the controllers are in the tree of v2.
pub fn is_v2(trees: &Hierarchies) -> bool {
    !["cpu", "memory", "pids"].iter().any(|name| trees.legacy_with(name).is_some())
}

/// The group below which another one is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// From the top of each tree.
    path: String,
    /// It is not one that a caller has named.
    is_default: bool,
}

impl Parent {
    /// A group that a caller has named, by its path from the top of each tree.
    pub fn named(path: &str) -> Parent {
        Parent { path: path.to_owned(), is_default: false }
    }

    /// [`PARENT`], or a group in it. A user who may not write at the top of v2's tree has it in the part that is the user's own.
    pub fn default_with(below: &str) -> Parent {
        Parent { path: format!("{PARENT}/{below}").trim_end_matches('/').to_owned(), is_default: true }
    }

    /// Whether it lies at our default place.
    pub fn is_default(&self) -> bool {
        self.is_default
    }

    /// From the top of each tree.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The group in the tree of v2 at which the path begins.
    fn start(&self, trees: &Hierarchies, tree: &Hierarchy) -> PathBuf {
        let stays = self.is_default && delegated::is_delegated(tree);
        if stays { delegated::base(trees, tree) } else { PathBuf::from(&tree.point) }
    }

    fn make_v2(&self, trees: &Hierarchies, needed: &[&str]) -> Result<(Directories, Option<InLeaf>)> {
        let tree = trees.unified.as_ref();
        let tree = tree.context("this machine has no cgroups: mount -t cgroup2 cgroup2 /sys/fs/cgroup")?;
        let start = self.start(trees, tree);
        let there = cgroup::read(&start, "cgroup.controllers");
        let usual = V2_CONTROLLERS.iter().filter(|name| has(&there, name) || needed.contains(name));
        let others = needed.iter().filter(|name| !V2_CONTROLLERS.contains(name));
        let controllers: Vec<&str> = usual.chain(others).copied().collect();
        let ours = PathBuf::from(trees.our_directory(tree, ""));
        let (unified, aside) = v2::make_parent(&start, &self.path, &ours, &controllers)?;
        Ok((Directories { legacy: Vec::new(), unified: Some(unified) }, aside))
    }

    fn make_v1(&self, trees: &Hierarchies, needed: &[&str]) -> Result<(Directories, Option<InLeaf>)> {
        let usual = V1_CONTROLLERS.iter().filter(|name| trees.legacy_with(name).is_some());
        let needed = needed.iter().map(|name| if *name == "io" { &"blkio" } else { name });
        let controllers: Vec<&str> = usual.chain(needed).copied().collect();
        let legacy = v1::make_parents(trees, &self.path, &controllers)?;
        let unified = trees.unified.as_ref().filter(|unified| !unified.read_only);
        let unified = unified.map(|tree| v1::make_in(Path::new(&tree.point), &self.path, false)).transpose()?;
        Ok((Directories { legacy, unified }, None))
    }
}

/// The processes in a group and in the groups inside it; 0 is one for which our pid namespace has no number.
pub fn processes(group: &Path) -> Vec<i32> {
    group_tree::lines_of_all(group, c"cgroup.procs").iter().filter_map(|line| line.parse().ok()).collect()
}

/// Removes a group, and the groups that were made in it. One that has gone is no error.
///
/// A process that has just ended may count for another moment in v1, which wakes no process when that changes: a few tries.
///
/// # Errors
/// EBUSY: processes are in it, and stay.
pub fn remove(group: &Path) -> Result<()> {
    for attempt in 0..100 {
        match cgroup::remove(group) {
            Ok(()) => return Ok(()),
            Err(failure) if failure.errno() == Some(Errno::ENOENT) => return Ok(()),
            Err(failure) if failure.errno() == Some(Errno::EBUSY) && processes(group).is_empty() => {}
            refused => return refused.with_context(|| format!("in {} are {:?}", group.display(), processes(group))),
        }
        match attempt {
            0 => group_tree::remove_inside(group)?,
            _ => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    cgroup::remove(group).with_context(|| format!("cannot remove {}", group.display()))
}

/// Whether a failure says that the group is not ours to make.
pub fn is_not_ours(error: &anyhow::Error) -> bool {
    matches!(Failure::errno_in(error), Some(Errno::EACCES | Errno::EPERM | Errno::EROFS))
}
