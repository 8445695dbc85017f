//! What a cell sees of its groups, in /sys/fs/cgroup: its own part of each tree, read-only.
//!
//! These mounts are made by the child when it is in its cgroup namespace. There, a mount of a tree begins at the cell's
//! own group; made before, it would show the whole machine's.

use std::ffi::CStr;
use std::path::Path;

use pivot_root::FileSystem;

use crate::Directories;
use crate::hierarchies::Hierarchies;

const PLACE: &str = "sys/fs/cgroup";

/// A tree that the cell's group is in, and so can see its own part of.
#[derive(Debug)]
pub struct Tree<'a> {
    /// Its directory below /sys/fs/cgroup, under the name that programs expect: `cpu,cpuacct`. Empty on v2, which has no other.
    pub name: String,
    /// The controllers of v1 that it has.
    pub controllers: Vec<&'a str>,
    /// The cell's group in it.
    pub group: &'a Path,
}

impl Tree<'_> {
    /// As in /proc/filesystems.
    pub fn kind(&self) -> &'static CStr {
        if self.controllers.is_empty() { c"cgroup2" } else { c"cgroup" }
    }

    /// Symbolic links beside it, by which each of its controllers can be found: `cpu`, `cpuacct`.
    pub fn links(&self) -> &[&str] {
        if self.controllers.len() > 1 { &self.controllers } else { &[] }
    }
}

/// The trees that a group is in.
pub fn trees<'a>(hierarchies: &'a Hierarchies, group: &'a Directories) -> Vec<Tree<'a>> {
    let legacy = hierarchies.legacy.iter().filter_map(|tree| {
        let group = group.legacy.iter().find(|directory| directory.starts_with(&tree.point))?;
        let controllers = tree.controllers();
        Some(Tree { name: controllers.join(","), controllers, group })
    });
    let name = if group.is_v2() { "" } else { "unified" };
    let unified = group.unified.iter().map(|group| Tree { name: name.to_owned(), controllers: Vec::new(), group });
    legacy.chain(unified).collect()
}

/// What the cell mounts.
pub fn of(hierarchies: &Hierarchies, group: &Directories) -> Vec<FileSystem> {
    if group.is_v2() {
        return vec![FileSystem { kind: c"cgroup2", place: PLACE.to_owned(), ..FileSystem::default() }];
    }
    v1(&trees(hierarchies, group))
}

// ANCHOR: v1
/// v1: a file system in memory, in which each tree has a directory. A tree of two controllers is named `cpu,cpuacct`, and links
/// lead to it from `cpu` and from `cpuacct`.
///
/// # Shell: `mount -t tmpfs tmpfs /sys/fs/cgroup; mkdir /sys/fs/cgroup/pids; mount -t cgroup -o ro,pids cgroup /sys/fs/cgroup/pids; ...`
fn v1(trees: &[Tree]) -> Vec<FileSystem> {
    let mut above = FileSystem { kind: c"tmpfs", place: PLACE.to_owned(), ..FileSystem::default() };
    above.options = vec!["mode=755".to_owned(), "size=64k".to_owned()];
    let mut mounts = Vec::new();
    for tree in trees {
        let options = tree.controllers.iter().map(|controller| (*controller).to_owned()).collect();
        let place = format!("{PLACE}/{}", tree.name);
        mounts.push(FileSystem { kind: tree.kind(), place, options, ..FileSystem::default() });
        above.links.extend(tree.links().iter().map(|link| (tree.name.clone(), (*link).to_owned())));
        above.directories.push(tree.name.clone());
    }
    mounts.insert(0, above);
    mounts
}
// ANCHOR_END: v1

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combined_controllers_have_one_directory_and_a_link_each() {
        let mountinfo = "\
1 0 0:1 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
2 0 0:2 / /mnt/elsewhere rw - cgroup cgroup rw,pids
";
        let all = Hierarchies::parse(mountinfo, "");
        let directory = |path: &str| std::path::PathBuf::from(path);
        let legacy = vec![directory("/mnt/elsewhere/cell"), directory("/sys/fs/cgroup/cpu,cpuacct/cell")];
        let view = of(&all, &Directories { legacy, unified: Some(directory("/sys/fs/cgroup/unified/cell")) });
        let places: Vec<&str> = view.iter().map(|each| each.place.as_str()).collect();
        let expected = ["sys/fs/cgroup", "sys/fs/cgroup/cpu,cpuacct", "sys/fs/cgroup/pids", "sys/fs/cgroup/unified"];
        assert_eq!(places, expected);
        assert_eq!(view[0].directories, ["cpu,cpuacct", "pids", "unified"]);
        let link = |name: &str| ("cpu,cpuacct".to_owned(), name.to_owned());
        assert_eq!(view[0].links, [link("cpu"), link("cpuacct")]);
        assert_eq!(view[1].options, ["cpu", "cpuacct"]);
    }
}
