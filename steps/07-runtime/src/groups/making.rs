//! Making the group: its directory is found or made in each tree. After a failure what was made is removed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cgroups::hierarchies::{Hierarchies, Hierarchy, has};
use kernel::sys::{cgroup, group_owner};
use kernel::{Errno, Failure, purpose};

use super::{Kept, Wanted, members};
use cgroups::delegated::{self, Aside, not_ours, not_ours_v1};
use cgroups::{V1_CONTROLLERS, V2_CONTROLLERS, is_v2, v1, v2};

/// A group that is being made. Dropped before it is done, it takes back what was made.
#[derive(Default)]
pub(crate) struct Making {
    made: Vec<PathBuf>,
    found: Vec<PathBuf>,
    aside: Option<Aside>,
    owner: Option<String>,
}

impl Making {
    pub(crate) fn new(owner: Option<&str>) -> Making {
        Making { made: Vec::new(), found: Vec::new(), aside: None, owner: owner.map(str::to_owned) }
    }

    pub(crate) fn make(mut self, path: &Wanted, needed: &[&str]) -> Result<Kept> {
        let hierarchies = Hierarchies::read()?;
        purpose("a group that stays until it is removed");
        let group = match is_v2(&hierarchies) {
            true => self.in_v2(&hierarchies, path, needed)?,
            false => self.in_v1(&hierarchies, path, needed)?,
        };
        self.made.clear();
        let mut group = Kept { found: std::mem::take(&mut self.found), ..group };
        if let Some(owner) = &self.owner {
            group.sign(owner);
        }
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
        Ok(Kept { parents: own_parents(path, &[&start]), unified: Some(unified), ..Kept::default() })
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
        let parents = own_parents(path, &tops.iter().collect::<Vec<_>>());
        Ok(Kept { legacy, unified, parents, ..Kept::default() })
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
    match members::numbers(group) {
        processes if !processes.is_empty() => refuse(&format!("not empty: {processes:?}")),
        _ if members::is_frozen(group) => refuse("frozen"),
        _ => Ok(()),
    }
}

/// The groups of our default that lie above a group; those of an absolute path are the caller's.
pub(super) fn own_parents(path: &Wanted, tops: &[&PathBuf]) -> Vec<PathBuf> {
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
    fn only_groups_of_our_default_go_with_the_last() {
        let top = PathBuf::from("/top");
        assert_eq!(own_parents(&Wanted::parse("/a/b").unwrap(), &[&top]), [""; 0].map(PathBuf::from));
        let own = own_parents(&Wanted::parse("a/b").unwrap(), &[&top]);
        assert_eq!(own, ["/top/cellblock/a", "/top/cellblock"].map(PathBuf::from));
    }
}
