//! What a cell sees of its groups, in /sys/fs/cgroup: its own part of each tree, read-only.
//!
//! These mounts are made by the child when it is in its cgroup namespace. There, a mount of a tree begins at the cell's
//! own group; made before, it would show the whole machine's.

use std::path::Path;

use crate::Directories;
use crate::hierarchies::Hierarchies;
use pivot_root::FileSystem;

/// Where programs look for it, below the root.
pub const PLACE: &str = "sys/fs/cgroup";

/// A file system of the view, and the directory of the group that is seen in it. In the one that only holds the trees of v1, none is.
pub type Part<'a> = (FileSystem, Option<&'a Path>);

/// What a process of the group mounts at `top`, below its root.
pub fn of<'a>(top: &str, hierarchies: &Hierarchies, group: &'a Directories) -> Vec<Part<'a>> {
    let unified = group.unified.as_deref();
    if group.is_v2() {
        return vec![(FileSystem { kind: "cgroup2", place: top.to_owned(), ..FileSystem::default() }, unified)];
    }
    let trees = hierarchies.legacy.iter().filter_map(|tree| {
        let directory = group.legacy.iter().find(|directory| directory.starts_with(&tree.point))?;
        Some((tree.controllers(), directory.as_path()))
    });
    v1(top, &trees.collect::<Vec<_>>(), unified)
}

// ANCHOR: v1
/// v1: at `top` a file system in memory, in which each tree has a directory, under the names that programs expect. A tree of two
/// controllers is named `cpu,cpuacct`, and links lead to it from `cpu` and from `cpuacct`.
///
/// # Shell: `mount -t tmpfs tmpfs /sys/fs/cgroup; mkdir /sys/fs/cgroup/pids; mount -t cgroup -o ro,pids cgroup /sys/fs/cgroup/pids; ...`
fn v1<'a>(top: &str, trees: &[(Vec<&str>, &'a Path)], unified: Option<&'a Path>) -> Vec<Part<'a>> {
    let mut above = FileSystem { kind: "tmpfs", place: top.to_owned(), ..FileSystem::default() };
    above.options = vec!["mode=755".to_owned(), "size=64k".to_owned()];
    let tree = |kind, name: &str, options| {
        let place = format!("{top}/{name}");
        FileSystem { kind, place, options, ..FileSystem::default() }
    };
    let mut mounts = Vec::new();
    for (controllers, group) in trees {
        let name = controllers.join(",");
        if controllers.len() > 1 {
            above.links.extend(controllers.iter().map(|controller| (name.clone(), (*controller).to_owned())));
        }
        let options = controllers.iter().map(|controller| (*controller).to_owned()).collect();
        mounts.push((tree("cgroup", &name, options), Some(*group)));
        above.directories.push(name);
    }
    if unified.is_some() {
        mounts.push((tree("cgroup2", "unified", Vec::new()), unified));
        above.directories.push("unified".to_owned());
    }
    mounts.insert(0, (above, None));
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
        let group = Directories { legacy, unified: Some(directory("/sys/fs/cgroup/unified/cell")) };
        let view: Vec<FileSystem> = of(PLACE, &all, &group).into_iter().map(|(part, _)| part).collect();
        let places: Vec<&str> = view.iter().map(|each| each.place.as_str()).collect();
        let expected = ["sys/fs/cgroup", "sys/fs/cgroup/cpu,cpuacct", "sys/fs/cgroup/pids", "sys/fs/cgroup/unified"];
        assert_eq!(places, expected);
        assert_eq!(view[0].directories, ["cpu,cpuacct", "pids", "unified"]);
        let link = |name: &str| ("cpu,cpuacct".to_owned(), name.to_owned());
        assert_eq!(view[0].links, [link("cpu"), link("cpuacct")]);
        assert_eq!(view[1].options, ["cpu", "cpuacct"]);
    }
}
