//! What a container sees of a kept group, beside the lesson: the mounts that stand for one mount of the type `cgroup` in a
//! configuration. In a cgroup namespace these are the lesson's ([`crate::view`]). Callers on v1 ask for none as a rule, and
//! then a fresh mount would show the whole machine's groups: instead, the group's own directories are bound.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kernel::Failure;
use kernel::hierarchies::{Hierarchies, Hierarchy};
use kernel::sys::mount::{Attributes, Depth};
use pivot_root::Place;
use pivot_root::furniture::{Mount, What};

use crate::{Kept, view};

/// How much of the trees there is to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// The container has a cgroup namespace of its own: fresh mounts, which begin at its group.
    Namespace,
    /// It has none: its own part alone, bound.
    Part,
    /// It has none, and on v2 sees the whole tree, as runc has it for who shares the host's namespace; on v1 its own
    /// part. Not for a user namespace, which may not mount that.
    Whole,
}

impl Kept {
    /// The mounts for one that a configuration asks for, with its place, and with what it forbids. On v1 the first is a file
    /// system in memory, read-only, in which the others have their places. Binds are of the host's paths: open them there.
    ///
    /// # Errors
    /// A mount of `cgroup2` on a machine that has none.
    pub fn view(&self, asked: &Mount, sight: Sight) -> Result<Vec<Mount>> {
        let asks_v2 = matches!(&asked.what, What::New { kind, .. } if kind.as_bytes() == b"cgroup2");
        if self.is_v2() || asks_v2 {
            let unified = self.unified.as_deref();
            let unified = unified.ok_or_else(|| Failure::new("this machine has no tree of cgroup v2 to mount"))?;
            let what = if sight == Sight::Part { bind(unified) } else { fresh("cgroup2", &[]) };
            return Ok(vec![Mount { what, ..asked.clone() }]);
        }
        let hierarchies = Hierarchies::read().context("cannot read which cgroups there are")?;
        self.legacy_view(asked, sight == Sight::Namespace, &hierarchies)
    }

    fn legacy_view(&self, asked: &Mount, namespace: bool, hierarchies: &Hierarchies) -> Result<Vec<Mount>> {
        let own = |tree: &Hierarchy| self.legacy.iter().find(|directory| directory.starts_with(&tree.point));
        let trees: Vec<(&Hierarchy, &PathBuf)> =
            hierarchies.legacy.iter().filter_map(|tree| Some((tree, own(tree)?))).collect();
        let only: Vec<&Hierarchy> = trees.iter().map(|(tree, _)| *tree).collect();
        // The lesson's file system comes first, with a directory for each tree, and links for trees of two controllers.
        let above = view::v1(&only, self.unified.is_some()).swap_remove(0);
        let mut mounts = Vec::new();
        for (tree, directory) in &trees {
            let controllers = tree.controllers();
            let what = if namespace { fresh("cgroup", &controllers) } else { bind(directory) };
            mounts.push(Mount { what, ..below(asked, &controllers.join(","))? });
        }
        if let Some(unified) = &self.unified {
            let what = if namespace { fresh("cgroup2", &[]) } else { bind(unified) };
            mounts.push(Mount { what, ..below(asked, "unified")? });
        }
        let clear = Attributes::default();
        mounts.insert(0, Mount { what: What::Filled(above), clear, clear_below: clear, ..asked.clone() });
        Ok(mounts)
    }
}

/// The same for a place in it.
fn below(asked: &Mount, name: &str) -> Result<Mount> {
    let place = Place::configured(&Path::new(&asked.place.to_string()).join(name))?;
    Ok(Mount { place, ..asked.clone() })
}

fn fresh(kind: &str, options: &[&str]) -> What {
    let text = |text: &str| CString::new(text).expect("the kernel's own names have no NUL");
    let options = options.iter().map(|option| (text(option), None)).collect();
    What::New { kind: text(kind), source: text(kind), options }
}

fn bind(group: &Path) -> What {
    What::Bind { source: group.to_owned(), depth: Depth::One }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &str = "\
1 0 0:1 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
2 0 0:2 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
3 0 0:3 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer
4 0 0:4 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";

    fn asked(kind: &str) -> Mount {
        let nothing = Attributes::default();
        Mount {
            what: fresh(kind, &[]),
            place: Place::system("sys/fs/cgroup"),
            set: Attributes::RDONLY,
            clear: nothing,
            set_below: nothing,
            clear_below: nothing,
            propagation: None,
            copy_up: false,
        }
    }

    fn shown(mounts: &[Mount]) -> Vec<String> {
        let what = |what: &What| match what {
            What::New { kind, options, .. } => {
                let options = options.iter().map(|(option, _)| format!(" {}", option.to_string_lossy()));
                format!("new {}{}", kind.to_string_lossy(), options.collect::<String>())
            }
            What::Filled(above) => format!("filled {:?} {:?}", above.directories, above.links.len()),
            What::Bind { source, .. } => format!("bind {}", source.display()),
        };
        mounts.iter().map(|mount| format!("{}: {}", mount.place, what(&mount.what))).collect()
    }

    #[test]
    fn on_v1_each_tree_in_its_place() {
        let group = |tree: &str| PathBuf::from(format!("/sys/fs/cgroup/{tree}/docker/c0ffee"));
        let legacy = vec![group("cpu,cpuacct"), group("pids")];
        let kept = Kept { legacy, unified: Some(group("unified")), parents: Vec::new() };
        let all = Hierarchies::parse(MOUNTINFO, "");
        let above = r#"/sys/fs/cgroup: filled ["cpu,cpuacct", "pids", "unified"] 2"#;
        let bound = shown(&kept.legacy_view(&asked("cgroup"), false, &all).unwrap());
        let expected = [
            above,
            "/sys/fs/cgroup/cpu,cpuacct: bind /sys/fs/cgroup/cpu,cpuacct/docker/c0ffee",
            "/sys/fs/cgroup/pids: bind /sys/fs/cgroup/pids/docker/c0ffee",
            "/sys/fs/cgroup/unified: bind /sys/fs/cgroup/unified/docker/c0ffee",
        ];
        assert_eq!(bound, expected);
        let fresh = shown(&kept.legacy_view(&asked("cgroup"), true, &all).unwrap());
        let expected = [
            above,
            "/sys/fs/cgroup/cpu,cpuacct: new cgroup cpu cpuacct",
            "/sys/fs/cgroup/pids: new cgroup pids",
            "/sys/fs/cgroup/unified: new cgroup2",
        ];
        assert_eq!(fresh, expected);
        let v2 = kept.view(&asked("cgroup2"), Sight::Part).unwrap();
        assert_eq!(shown(&v2), ["/sys/fs/cgroup: bind /sys/fs/cgroup/unified/docker/c0ffee"]);
    }

    #[test]
    fn on_v2_one_tree() {
        let kept = Kept { legacy: Vec::new(), unified: Some("/sys/fs/cgroup/x".into()), parents: Vec::new() };
        let see = |sight| shown(&kept.view(&asked("cgroup"), sight).unwrap());
        assert_eq!(see(Sight::Namespace), ["/sys/fs/cgroup: new cgroup2"]);
        assert_eq!(see(Sight::Whole), ["/sys/fs/cgroup: new cgroup2"]);
        assert_eq!(see(Sight::Part), ["/sys/fs/cgroup: bind /sys/fs/cgroup/x"]);
    }
}
