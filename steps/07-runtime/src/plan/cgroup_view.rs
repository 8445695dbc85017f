//! What a container sees of its groups, where the configuration mounts a `cgroup`: its own part of each tree.

use std::path::Path;

use crate::groups::Cgroup;
use crate::mounts::{MountSource, PlannedMount, RootPlan};
use anyhow::Result;
use cgroups::hierarchies::Hierarchies;
use cgroups::view;
use kernel::Failure;
use kernel::sys::mount::Depth;
use pivot_root::{FileSystem, Place};

/// Puts the mounts that the group calls for in the place of each one of type `cgroup`.
///
/// With a cgroup namespace of its own they are fresh mounts, which begin at the container's group. Without one they would
/// show the whole machine's tree: so the group's own directories are bound.
///
/// # Errors
/// There is no /proc to read from which trees there are.
pub fn expand(root: &mut RootPlan, group: Option<&Cgroup>, own_namespace: bool) -> Result<()> {
    let is_ours = |mount: &PlannedMount| match &mount.source {
        MountSource::New { kind, .. } => ["cgroup", "cgroup2"].contains(&kind.as_str()),
        MountSource::Bind { .. } => false,
    };
    let mut expanded = Vec::new();
    for mount in std::mem::take(&mut root.mounts) {
        match (is_ours(&mount), group) {
            (true, Some(group)) => {
                let (mounts, links) = view(&mount, group, own_namespace)?;
                expanded.extend(mounts);
                root.links.extend(links);
            }
            (true, None) => {} // it is in no group: there is nothing to see
            (false, _) => expanded.push(mount),
        }
    }
    root.mounts = expanded;
    Ok(())
}

/// Symbolic links: where they lead, and where they lie.
type Links = Vec<(String, Place)>;

/// What step 5 would mount, at the place of `asked` and with its options; and the links that belong into it.
fn view(asked: &PlannedMount, group: &Cgroup, own_namespace: bool) -> Result<(Vec<PlannedMount>, Links)> {
    let (mut mounts, mut links) = (Vec::new(), Vec::new());
    let hierarchies = Hierarchies::read()?;
    for (part, directory) in view::of(&asked.place.path().to_string_lossy(), &hierarchies, &group.directories) {
        let source = match directory {
            Some(directory) if !own_namespace => {
                MountSource::Bind { tree: directory.to_owned(), depth: Depth::One, owners: None }
            }
            _ => new(&part),
        };
        mounts.push(PlannedMount { source, place: place_at(&part.place)?, copy_up: false, ..asked.clone() });
        for (target, name) in part.links {
            links.push((target, place_at(&format!("{}/{name}", part.place))?));
        }
    }
    Ok((mounts, links))
}

fn place_at(path: &str) -> Result<Place, Failure> {
    Place::configured(Path::new(path))
}

fn new(part: &FileSystem) -> MountSource {
    let options = std::iter::once("source=cgroup".to_owned()).chain(part.options.iter().cloned()).collect();
    MountSource::New { kind: part.kind.to_owned(), options }
}
