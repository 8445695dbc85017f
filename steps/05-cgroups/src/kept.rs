//! A group that outlives its maker, beside the lesson: a runtime makes it, leaves, and another process of the runtime
//! finds it again by what was written down. Where it lies is for the caller to say (`cgroupsPath` of a configuration).
//!
//! It is the lesson's group otherwise: in v2's tree; or in v1's trees, and beside them in v2's if there is one, where it
//! can be killed, frozen and watched. Who is in it, and what can be done to them, is in [`crate::members`].

use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};
use kernel::hierarchies::{Hierarchies, Hierarchy, has};
use kernel::sys::cgroup;
use kernel::{Errno, Failure, Fd, purpose};
use serde::{Deserialize, Serialize};

use crate::delegated::{self, Aside, not_ours, not_ours_v1};
use crate::group::{PARENT, V1_CONTROLLERS, V2_CONTROLLERS, is_v2};
use crate::stats::{self, Used};
use crate::{members, v1, v2};

/// A group that stays until [`Kept::remove`]. It can be written to a file and read again: it is a list of directories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// In each tree of v1; none on v2.
    pub legacy: Vec<PathBuf>,
    /// In the tree of v2, if there is one, even without controllers.
    pub unified: Option<PathBuf>,
    /// Groups above it that nobody but us has asked for: they go with the last group in them.
    pub parents: Vec<PathBuf>,
}

impl Kept {
    /// Makes the group. An absolute path begins at the mount point of each tree, another below /cellblock, or below the
    /// part of the tree that was delegated to this user. `needed` are the controllers that must be there, by the names
    /// that v2 has for them ([`crate::Resources::controllers`]); the usual ones are taken if they are.
    ///
    /// A group that is there already is taken if nobody is in it. If anything fails, what was made is removed.
    ///
    /// # Errors
    /// A path that leads out of its tree; a group with processes in it, or a frozen one; a missing controller; a tree
    /// that is not ours to write.
    pub fn make(path: &str, needed: &[&str]) -> Result<Kept> {
        let path = Wanted::parse(path)?;
        // The last group takes /cellblock with it. If that happens at this very moment, we begin again.
        let is_gone = |error: &anyhow::Error| {
            error.downcast_ref::<Failure>().and_then(Failure::errno).is_some_and(|errno| errno == Errno::ENOENT)
        };
        let mut tries = 1..20;
        loop {
            match Making::default().make(&path, needed) {
                Err(error) if is_gone(&error) && tries.next().is_some() => {}
                made => return made.with_context(|| format!("cannot make the group {}", path.text)),
            }
        }
    }

    /// A group that is there already, by the same path as in [`Kept::make`], with whatever processes are in it. None if it is in
    /// no tree.
    ///
    /// # Errors
    /// A path that leads out of its tree; there is no /proc.
    pub fn find(path: &str) -> Result<Option<Kept>> {
        let path = Wanted::parse(path)?;
        let hierarchies = Hierarchies::read()?;
        let below = |top: &Path| top.join(path.parent().trim_start_matches('/')).join(&path.name);
        let there = |tree: &Hierarchy| Some(below(Path::new(&tree.point))).filter(|directory| directory.is_dir());
        let unified = hierarchies.unified.as_ref().and_then(|tree| {
            let delegated = !path.absolute && delegated::is_delegated(tree);
            if delegated {
                Some(below(&delegated::base(&hierarchies, tree))).filter(|group| group.is_dir())
            } else {
                there(tree)
            }
        });
        let legacy: Vec<PathBuf> = hierarchies.legacy.iter().filter_map(there).collect();
        let found = unified.is_some() || !legacy.is_empty();
        Ok(found.then(|| Kept { legacy, unified, parents: Vec::new() }))
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

    /// Where a process is born into it: a descriptor for clone3. None on a machine without any v2 tree.
    ///
    /// # Errors
    /// The group is gone.
    pub fn entrance(&self) -> Result<Option<Fd>, Failure> {
        self.unified.as_deref().map(|unified| cgroup::open_group(unified, "group")).transpose()
    }

    /// In the child, which has one thread: enters the trees of v1, which know no being born into.
    pub fn join(&self) -> Result<(), Failure> {
        if !self.legacy.is_empty() {
            purpose("into the group, in each tree of v1");
        }
        self.legacy.iter().try_for_each(|directory| cgroup::write(directory, "tasks", "0"))
    }

    /// The same in two halves, for who loses sight of the trees in between: the files to write to,
    ///
    /// # Errors
    /// The group is gone.
    pub fn doors(&self) -> Result<Vec<Fd>, Failure> {
        self.legacy.iter().map(|directory| cgroup::open_tasks(directory)).collect()
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

    /// A group inside this one, which somebody in the container has made: `exec --cgroup`.
    ///
    /// # Errors
    /// A path that leads out of it; a group that is not there.
    pub fn inside(&self, path: &str) -> Result<Kept> {
        let below = normal(path).with_context(|| format!("no group inside the container's: {path:?}"))?;
        let join = |directory: &PathBuf| directory.join(&below);
        let inside = Kept {
            legacy: self.legacy.iter().map(join).collect(),
            unified: self.unified.as_ref().map(join),
            parents: Vec::new(),
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

    /// Removes the group, and the groups inside it. That it is gone already, in part or as a whole, is no error.
    ///
    /// # Errors
    /// EBUSY: processes are in it, and stay.
    pub fn remove(&self) -> Result<()> {
        purpose("the group goes");
        // One that cannot be removed keeps none of the others, and is tried a second time: nobody else would.
        let failed: Vec<&Path> = self.all().filter(|directory| members::remove_group(directory).is_err()).collect();
        let again = failed.into_iter().map(members::remove_group).collect::<Vec<Result<()>>>();
        for parent in &self.parents {
            let _ = fs::remove_dir(parent); // unless another group is in it
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
struct Wanted {
    text: String,
    /// Below the mount points; else below our default.
    absolute: bool,
    /// The groups above it.
    above: String,
    name: String,
}

impl Wanted {
    fn parse(text: &str) -> Result<Wanted> {
        let below = normal(text).with_context(|| format!("not a path for a group: {text:?}"))?;
        let above = below.parent().map(|above| above.to_string_lossy().into_owned()).unwrap_or_default();
        let name = below.file_name().expect("it is not empty").to_string_lossy().into_owned();
        Ok(Wanted { text: text.to_owned(), absolute: text.starts_with('/'), above, name })
    }

    /// The groups above, as a path from the mount point.
    fn parent(&self) -> String {
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

/// A group that is being made. Dropped before it is done, it takes back what was made.
#[derive(Default)]
struct Making {
    made: Vec<PathBuf>,
    aside: Option<Aside>,
}

impl Making {
    fn make(mut self, path: &Wanted, needed: &[&str]) -> Result<Kept> {
        let hierarchies = Hierarchies::read()?;
        purpose("a group that stays until it is removed");
        let group = match is_v2(&hierarchies) {
            true => self.in_v2(&hierarchies, path, needed)?,
            false => self.in_v1(&hierarchies, path, needed)?,
        };
        self.made.clear();
        // We have left our group for good, if we had to: it passes controllers on now.
        std::mem::forget(self.aside.take());
        Ok(group)
    }

    fn in_v2(&mut self, hierarchies: &Hierarchies, path: &Wanted, needed: &[&str]) -> Result<Kept> {
        let tree = hierarchies.unified.as_ref();
        let tree = tree.context("this machine has no cgroups: mount -t cgroup2 cgroup2 /sys/fs/cgroup")?;
        let start = match !path.absolute && delegated::is_delegated(tree) {
            true => delegated::base(hierarchies, tree),
            false => PathBuf::from(&tree.point),
        };
        let there = cgroup::read(&start, "cgroup.controllers");
        let mut controllers: Vec<&str> = V2_CONTROLLERS.into_iter().filter(|name| has(&there, name)).collect();
        controllers.extend(needed.iter().filter(|name| !V2_CONTROLLERS.contains(name) || !has(&there, name)));
        let parent = path.parent();
        self.note_missing(&start, &parent);
        let ours = PathBuf::from(hierarchies.our_directory(tree, ""));
        let (above, aside) = v2::make_parent(&start, &parent, &ours, &controllers)?;
        self.aside = aside;
        let unified = self.leaf(&above, &path.name).map_err(refused(not_ours))?;
        Ok(Kept { legacy: Vec::new(), parents: own_parents(path, &[&start]), unified: Some(unified) })
    }

    fn in_v1(&mut self, hierarchies: &Hierarchies, path: &Wanted, needed: &[&str]) -> Result<Kept> {
        let unified = hierarchies.unified.as_ref().filter(|tree| !tree.read_only);
        let mut controllers: Vec<&str> = V1_CONTROLLERS.to_vec();
        controllers.push("cpuset"); // nobody asks now, but an update may, and then who is in no group of it stays outside
        if unified.is_none() {
            controllers.push("freezer"); // v2's tree freezes without a controller
        }
        controllers.retain(|name| hierarchies.legacy_with(name).is_some());
        controllers.extend(needed.iter().map(|name| if *name == "io" { "blkio" } else { *name }));
        let parent = path.parent();
        let tops = hierarchies.legacy.iter().chain(unified).map(|tree: &Hierarchy| PathBuf::from(&tree.point));
        let tops: Vec<PathBuf> = tops.collect();
        tops.iter().for_each(|top| self.note_missing(top, &parent));
        let mut legacy = Vec::new();
        for above in v1::make_parents(hierarchies, &parent, &controllers)? {
            let directory = self.leaf(&above, &path.name).map_err(refused(not_ours_v1))?;
            if directory.join("cpuset.cpus").exists() {
                v1::inherit_cpuset(&above, &directory)?;
            }
            legacy.push(directory);
        }
        let in_unified = |tree: &Hierarchy| {
            let above = v1::make_in(Path::new(&tree.point), &parent, false)?;
            self.leaf(&above, &path.name)
        };
        let unified = unified.map(in_unified).transpose()?;
        Ok(Kept { legacy, unified, parents: own_parents(path, &tops.iter().collect::<Vec<_>>()) })
    }

    /// Groups that are not there yet are ours to remove, if this goes wrong.
    fn note_missing(&mut self, top: &Path, below: &str) {
        let mut group = top.to_owned();
        for part in below.split('/').filter(|part| !part.is_empty()) {
            group.push(part);
            if !group.is_dir() {
                self.made.push(group.clone());
            }
        }
    }

    /// The group itself. One that is there is taken if it is empty: it may have been left by a kill.
    fn leaf(&mut self, above: &Path, name: &str) -> Result<PathBuf> {
        let directory = above.join(name);
        match cgroup::make(&directory) {
            Err(failure) if failure.errno() == Some(Errno::EEXIST) => {
                must_be_free(&directory)?;
                // One that was ever killed kills whoever is born into it: make it anew, unless there are groups in it.
                if cgroup::remove(&directory).is_ok() {
                    cgroup::make(&directory)?;
                    self.made.push(directory.clone());
                }
            }
            made => {
                made?;
                self.made.push(directory.clone());
            }
        }
        Ok(directory)
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        for directory in self.made.iter().rev() {
            let _ = cgroup::remove(directory);
        }
    }
}

/// Two containers in one group would be killed, frozen and limited together.
fn must_be_free(group: &Path) -> Result<()> {
    let refuse = |why: &str| {
        let text = format!("the group {} is there already, and {why}", group.display());
        Err(Failure::new(text).hint("another container's? each needs a cgroupsPath of its own").into())
    };
    match members::numbers(group) {
        processes if !processes.is_empty() => refuse(&format!("not empty: {processes:?}")),
        _ if members::is_frozen(group) => refuse("frozen"),
        _ => Ok(()),
    }
}

/// The groups of our default that lie above a group; those of an absolute path are the caller's.
fn own_parents(path: &Wanted, tops: &[&PathBuf]) -> Vec<PathBuf> {
    if path.absolute {
        return Vec::new();
    }
    let parent = PathBuf::from(path.parent());
    let below_top = |top: &&PathBuf| -> Vec<PathBuf> {
        let parents = parent.ancestors().filter(|above| above.parent().is_some());
        parents.map(|above| top.join(above.strip_prefix("/").expect("it begins with one"))).collect()
    };
    tops.iter().flat_map(below_top).collect()
}

/// The hint for whom a tree does not belong to.
fn refused(hint: fn(Failure) -> Failure) -> impl Fn(anyhow::Error) -> anyhow::Error {
    move |error| match error.downcast::<Failure>() {
        Ok(failure) => hint(failure).into(),
        Err(error) => error,
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

    #[test]
    fn only_groups_of_our_default_go_with_the_last() {
        let top = PathBuf::from("/top");
        assert_eq!(own_parents(&Wanted::parse("/a/b").unwrap(), &[&top]), [""; 0].map(PathBuf::from));
        let own = own_parents(&Wanted::parse("a/b").unwrap(), &[&top]);
        assert_eq!(own, ["/top/cellblock/a", "/top/cellblock"].map(PathBuf::from));
    }
}
