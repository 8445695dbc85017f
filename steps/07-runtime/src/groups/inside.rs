//! Groups inside the container's group, which a process in the container has made: `exec --cgroup`, in runc's words. `PATH` is
//! the same group in every tree, `CONTROLLER[,CONTROLLER...]:PATH` one in the tree of v1 that has the controller. `/` is the
//! container's group itself.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cgroups::hierarchies::Hierarchies;
use kernel::Failure;

use super::{Cgroup, normal};

impl Cgroup {
    /// The group inside this one that is asked for, by one path, or by one for each of some controllers. In the trees of the
    /// other controllers it is this group itself.
    ///
    /// # Errors
    /// A path that leads out of this group; a group that is not there; a controller in whose tree this group is not, or that is
    /// named twice; a path for all trees beside another one.
    pub fn inside(&self, asked: &[impl AsRef<str>]) -> Result<Cgroup> {
        let mut inside =
            Cgroup { directories: self.directories.clone(), found: self.found.clone(), ..Cgroup::default() };
        let directories = &mut inside.directories;
        let asked: Vec<&str> = asked.iter().map(AsRef::as_ref).collect();
        if let [path] = asked[..]
            && !path.contains(':')
        {
            let below = below(path)?;
            directories.legacy.iter_mut().chain(&mut directories.unified).try_for_each(|group| enter(group, &below))?;
            return Ok(inside);
        }
        let trees = Hierarchies::read()?;
        let mut entered: Vec<&str> = Vec::new();
        for text in asked {
            let (controllers, path) = text.split_once(':').ok_or_else(|| one_for_all(text))?;
            let below = below(path)?;
            for controller in controllers.split(',') {
                if entered.contains(&controller) {
                    return Err(Failure::new(format!("the controller {controller} is named twice")).into());
                }
                entered.push(controller);
                let point = trees.legacy_with(controller).map(|tree| &tree.point);
                let is_in = |group: &&PathBuf| point.is_some_and(|point| group.starts_with(point));
                let own = &self.directories.legacy;
                let at = own.iter().position(|group| is_in(&group)).ok_or_else(|| self.not_in(controller))?;
                directories.legacy[at].clone_from(&own[at]); // of two controllers in one tree, the later path counts
                enter(&mut directories.legacy[at], &below)?;
            }
        }
        Ok(inside)
    }

    fn not_in(&self, controller: &str) -> Failure {
        let text = format!("the container's group is in no tree of cgroup v1 with the controller {controller:?}");
        match self.directories.is_v2() {
            true => Failure::new(text).hint("cgroup v2 has one tree: name the path alone, --cgroup PATH"),
            false => Failure::new(text).hint("cat /proc/PID/cgroup, with the number of the container's first process"),
        }
    }
}

fn one_for_all(path: &str) -> Failure {
    let text = format!("{path:?} is a path for all trees, and there are others");
    Failure::new(text).hint("either one PATH, or CONTROLLER:PATH each time")
}

/// The path below the container's group; empty for the group itself.
fn below(path: &str) -> Result<PathBuf> {
    if path.starts_with('/') && path.trim_matches('/').is_empty() {
        return Ok(PathBuf::new());
    }
    normal(path).with_context(|| format!("no group inside the container's: {path:?}"))
}

fn enter(group: &mut PathBuf, below: &Path) -> Result<(), Failure> {
    if below.as_os_str().is_empty() {
        return Ok(());
    }
    group.push(below);
    match group.is_dir() {
        true => Ok(()),
        false => Err(Failure::new(format!("there is no group {}", group.display()))),
    }
}
