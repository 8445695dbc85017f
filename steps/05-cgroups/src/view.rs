//! What a cell sees of its groups, in /sys/fs/cgroup: its own part of each tree, read-only.
//!
//! These mounts are made by the child when it is in its cgroup namespace. There, a mount of a tree begins at the cell's
//! own group; made before, it would show the whole machine's.

use crate::hierarchies::Hierarchy;
use pivot_root::FileSystem;

/// Where programs look for it, below the root.
pub const PLACE: &str = "sys/fs/cgroup";

/// v2: one tree, in one place, which is `top`.
pub fn v2(top: &str) -> Vec<FileSystem> {
    vec![FileSystem { kind: "cgroup2", place: top.to_owned(), ..FileSystem::default() }]
}

// ANCHOR: v1
/// v1: at `top` a file system in memory, in which each tree has a directory, under the names that programs expect. A tree of two
/// controllers is named `cpu,cpuacct`, and links lead to it from `cpu` and from `cpuacct`.
///
/// # Shell: `mount -t tmpfs tmpfs /sys/fs/cgroup; mkdir /sys/fs/cgroup/pids; mount -t cgroup -o ro,pids cgroup /sys/fs/cgroup/pids; ...`
pub fn v1(top: &str, trees: &[&Hierarchy], unified: bool) -> Vec<FileSystem> {
    let mut above = FileSystem { kind: "tmpfs", place: top.to_owned(), ..FileSystem::default() };
    above.options = vec!["mode=755".to_owned(), "size=64k".to_owned()];
    let tree = |kind, name: &str, options| {
        let place = format!("{top}/{name}");
        FileSystem { kind, place, options, ..FileSystem::default() }
    };
    let mut mounts = Vec::new();
    for controllers in trees.iter().map(|tree| tree.controllers()) {
        let name = controllers.join(",");
        if controllers.len() > 1 {
            above.links.extend(controllers.iter().map(|controller| (name.clone(), (*controller).to_owned())));
        }
        let options = controllers.iter().map(|controller| (*controller).to_owned()).collect();
        mounts.push(tree("cgroup", &name, options));
        above.directories.push(name);
    }
    if unified {
        mounts.push(tree("cgroup2", "unified", Vec::new()));
        above.directories.push("unified".to_owned());
    }
    mounts.insert(0, above);
    mounts
}
// ANCHOR_END: v1

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hierarchies::Hierarchies;

    #[test]
    fn combined_controllers_have_one_directory_and_a_link_each() {
        let mountinfo = "\
1 0 0:1 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
2 0 0:2 / /mnt/elsewhere rw - cgroup cgroup rw,pids
";
        let all = Hierarchies::parse(mountinfo, "");
        let view = v1(PLACE, &all.legacy.iter().collect::<Vec<_>>(), true);
        let places: Vec<&str> = view.iter().map(|each| each.place.as_str()).collect();
        let expected = ["sys/fs/cgroup", "sys/fs/cgroup/cpu,cpuacct", "sys/fs/cgroup/pids", "sys/fs/cgroup/unified"];
        assert_eq!(places, expected);
        assert_eq!(view[0].directories, ["cpu,cpuacct", "pids", "unified"]);
        let link = |name: &str| ("cpu,cpuacct".to_owned(), name.to_owned());
        assert_eq!(view[0].links, [link("cpu"), link("cpuacct")]);
        assert_eq!(view[1].options, ["cpu", "cpuacct"]);
    }
}
