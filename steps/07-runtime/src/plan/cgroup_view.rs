//! What a container sees of its groups, where the configuration mounts a `cgroup`: its own part of each tree.

use std::ffi::{CStr, CString};
use std::path::Path;

use crate::groups::Cgroup;
use crate::mounts::{Furniture, Mount, What};
use anyhow::Result;
use cgroups::hierarchies::Hierarchies;
use cgroups::view::Tree;
use kernel::sys::mount::Depth;
use pivot_root::Place;

/// Puts the mounts that the group calls for in the place of each one of type `cgroup`.
///
/// With a cgroup namespace of its own they are fresh mounts, which begin at the container's group. Without one they would
/// show the whole machine's tree: so the group's own directories are bound.
///
/// # Errors
/// There is no /proc to read from which trees there are.
pub fn expand(furniture: &mut Furniture, group: Option<&Cgroup>, own_namespace: bool) -> Result<()> {
    let is_ours = |mount: &Mount| match &mount.what {
        What::New { kind, .. } => [c"cgroup", c"cgroup2"].contains(&kind.as_c_str()),
        What::Bind { .. } => false,
    };
    let mut expanded = Vec::new();
    for mount in std::mem::take(&mut furniture.mounts) {
        match (is_ours(&mount), group) {
            (true, Some(group)) => {
                let (mounts, links) = view(&mount, group, own_namespace)?;
                expanded.extend(mounts);
                furniture.links.extend(links);
            }
            (true, None) => {} // nobody's group: nothing to see
            (false, _) => expanded.push(mount),
        }
    }
    furniture.mounts = expanded;
    Ok(())
}

type Links = Vec<(String, Place)>;

fn view(asked: &Mount, group: &Cgroup, own_namespace: bool) -> Result<(Vec<Mount>, Links)> {
    let top = asked.place.to_string();
    let like = |what, place: &str| Ok::<_, kernel::Failure>(Mount { what, place: place_at(place)?, ..asked.clone() });
    let hierarchies = Hierarchies::read()?;
    let trees = cgroups::view::trees(&hierarchies, &group.directories);
    let tree_at = |tree: &Tree, place: &str| {
        let what = if own_namespace { fresh(tree.kind(), &tree.controllers.join(",")) } else { bound(tree.group) };
        like(what, place)
    };
    if let (true, [tree]) = (group.directories.is_v2(), &trees[..]) {
        return Ok((vec![tree_at(tree, &top)?], Vec::new()));
    }
    let tmpfs = Mount { copy_up: false, ..like(fresh(c"tmpfs", "mode=755,size=64k"), &top)? };
    let (mut mounts, mut links) = (vec![tmpfs], Vec::new());
    for tree in &trees {
        mounts.push(tree_at(tree, &format!("{top}/{}", tree.name))?);
        for link in tree.links() {
            links.push((tree.name.clone(), place_at(&format!("{top}/{link}"))?));
        }
    }
    Ok((mounts, links))
}

fn place_at(path: &str) -> Result<Place, kernel::Failure> {
    Place::configured(Path::new(path))
}

fn bound(directory: &Path) -> What {
    What::Bind { source: directory.to_owned(), depth: Depth::One, owners: None }
}

/// Options as a list: `pids`, or `mode=755,size=64k`.
fn fresh(kind: &CStr, options: &str) -> What {
    let text = |part: &str| CString::new(part).expect("no NUL in a controller's name");
    let option = |word: &str| match word.split_once('=') {
        Some((key, value)) => (text(key), Some(text(value))),
        None => (text(word), None),
    };
    let options = options.split(',').filter(|word| !word.is_empty()).map(option).collect();
    What::New { kind: kind.to_owned(), source: text("cgroup"), options }
}
