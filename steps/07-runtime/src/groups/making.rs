//! Making the group: its directory is found or made in each tree. After a failure what was made is removed.

use std::path::{Path, PathBuf};

use anyhow::Result;
use cgroups::hierarchies::Hierarchies;
use kernel::sys::{cgroup, group_owner};
use kernel::{Errno, Failure, purpose};

use super::{Cgroup, Wanted, members};
use cgroups::delegated::{InLeaf, not_ours, not_ours_v1};
use cgroups::{Directories, directories, is_v2, v1};

/// A group that is being made. Dropped before it is done, it takes back what was made.
#[derive(Default)]
pub(crate) struct Making {
    made: Vec<PathBuf>,
    found: Vec<PathBuf>,
    aside: Option<InLeaf>,
    owner: Option<String>,
}

impl Making {
    pub(crate) fn new(owner: Option<&str>) -> Making {
        Making { made: Vec::new(), found: Vec::new(), aside: None, owner: owner.map(str::to_owned) }
    }

    pub(crate) fn make(mut self, path: &Wanted, needed: &[&str]) -> Result<Cgroup> {
        let hierarchies = Hierarchies::read()?;
        purpose("a group that stays until it is removed");
        self.note_missing(&Directories::of_parent(&hierarchies, &path.parent));
        let needed = [needed, &of_later_use(&hierarchies)].concat();
        let (parent, aside) = Directories::make_parent(&hierarchies, &path.parent, &needed)?;
        self.aside = aside;
        let directories = self.leaves(&parent, &path.name).map_err(refused(&hierarchies))?;
        self.made.clear();
        let (parents, found) = (path.own_parents(&parent), std::mem::take(&mut self.found));
        let mut group = Cgroup { directories, parents, found, ..Cgroup::default() };
        if let Some(owner) = &self.owner {
            group.sign(owner);
        }
        // We have left our group for good, if we had to: it passes controllers on now.
        std::mem::forget(self.aside.take());
        Ok(group)
    }

    /// Groups that are not there yet are ours to remove, if this goes wrong.
    fn note_missing(&mut self, parent: &Directories) {
        for directory in parent.all() {
            let missing: Vec<&Path> = directory.ancestors().take_while(|above| !above.is_dir()).collect();
            self.made.extend(missing.into_iter().rev().map(Path::to_owned));
        }
    }

    fn leaves(&mut self, parent: &Directories, name: &str) -> Result<Directories> {
        let unified = parent.unified.as_ref().map(|above| self.leaf(above, name)).transpose()?;
        let mut legacy = Vec::new();
        for above in &parent.legacy {
            let directory = self.leaf(above, name)?;
            if directory.join("cpuset.cpus").exists() {
                v1::inherit_cpuset(above, &directory)?;
            }
            legacy.push(directory);
        }
        Ok(Directories { legacy, unified })
    }

    /// The group itself. One that is there is taken if it is empty, as it is: its limits may be an administrator's.
    fn leaf(&mut self, above: &Path, name: &str) -> Result<PathBuf> {
        let directory = above.join(name);
        match cgroup::make(&directory) {
            Err(failure) if failure.errno() == Some(Errno::EEXIST) => {
                must_be_free(&directory)?;
                // One that a container of ours has left when it stopped is no administrator's: it goes with its last owner.
                let was_a_containers = cgroup::is_ours(&directory) && group_owner::noted(&directory).is_some();
                if !was_a_containers {
                    self.found.push(directory.clone());
                }
            }
            made => {
                made?;
                self.made.push(directory.clone());
                // At once: a group without a note is a stranger's, should we be killed before all are made.
                self.owner.as_ref().map(|owner| group_owner::note(&directory, owner));
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
    match directories::processes(group) {
        processes if !processes.is_empty() => refuse(&format!("not empty: {processes:?}")),
        _ if members::is_frozen(group) => refuse("frozen"),
        _ => Ok(()),
    }
}

/// The controllers of v1 that no limit asks for now, as far as they are there. An update may need cpuset, and a process that is in
/// no group of it then stays outside. Without v2's tree, a group is frozen by a controller.
fn of_later_use(trees: &Hierarchies) -> Vec<&'static str> {
    if is_v2(trees) {
        return Vec::new();
    }
    let freezes_by_itself = trees.unified.as_ref().is_some_and(|tree| !tree.read_only);
    let useful = if freezes_by_itself { &["cpuset"][..] } else { &["cpuset", "freezer"] };
    useful.iter().filter(|name| trees.legacy_with(name).is_some()).copied().collect()
}

/// The hint where a tree belongs to another user.
fn refused(trees: &Hierarchies) -> impl Fn(anyhow::Error) -> anyhow::Error {
    let hint = if is_v2(trees) { not_ours } else { not_ours_v1 };
    move |error| match error.downcast::<Failure>() {
        Ok(failure) => hint(failure).into(),
        Err(error) => error,
    }
}
