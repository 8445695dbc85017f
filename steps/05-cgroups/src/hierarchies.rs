//! Which cgroup hierarchies are mounted where, and in which group of each we are.
//!
//! It is read from /proc/self/mountinfo (man 5 proc): a directory below /sys/fs/cgroup may be there and be no cgroup.

use std::path::Path;

use kernel::Failure;

/// A hierarchy of groups, as it is mounted.
#[derive(Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Which group lies at the mount point; not always the topmost one, in a container.
    root: String,
    /// Where it is mounted.
    pub point: String,
    /// Nothing can be changed through this mount.
    pub read_only: bool,
    /// Here v1 names its controllers.
    pub options: String,
}

/// All hierarchies.
#[derive(Debug)]
pub struct Hierarchies {
    /// The one of v2.
    pub unified: Option<Hierarchy>,
    /// Those of v1.
    pub legacy: Vec<Hierarchy>,
    /// /proc/self/cgroup: a line `number:controllers:group` for each; v2 names no controllers.
    ours: String,
}

impl Hierarchy {
    /// `36 35 0:31 / /sys/fs/cgroup/memory rw,nosuid shared:15 - cgroup cgroup rw,memory`
    fn parse(line: &str, kind: &str) -> Option<Hierarchy> {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3).map(str::to_owned);
        let (root, point, mount_options) = (mount.next()?, mount.next()?, mount.next()?);
        let mut file_system = file_system.split(' ');
        if file_system.next()? != kind {
            return None;
        }
        let options = file_system.nth(1)?.to_owned();
        let read_only = [&mount_options, &options].iter().any(|list| has(list, "ro"));
        Some(Hierarchy { root, point, read_only, options })
    }

    /// The controllers of a v1 hierarchy; none where it only has a name.
    pub fn controllers(&self) -> Vec<&str> {
        const OTHERS: [&str; 7] = ["rw", "ro", "noprefix", "xattr", "cpuset_v2_mode", "favordynmods", "clone_children"];
        let options = self.options.trim_end().split(',');
        options.filter(|option| !OTHERS.contains(option) && !option.contains('=')).collect()
    }

    /// The path of a group; the mount point where the group lies outside of it.
    pub fn path_of(&self, group: &str) -> String {
        let below = if self.root == "/" { Some(group) } else { group.strip_prefix(&self.root) };
        let below = below.filter(|path| !path.contains("/..")).unwrap_or_default();
        format!("{}{below}", self.point).trim_end_matches('/').to_owned()
    }
}

impl Hierarchies {
    /// Those that this process sees.
    ///
    /// # Errors
    /// There is no /proc.
    pub fn read() -> Result<Hierarchies, Failure> {
        Hierarchies::read_of("self")
    }

    /// The same, with the groups of another process; `self` is this one.
    ///
    /// # Errors
    /// It has ended.
    pub fn read_of(process: &str) -> Result<Hierarchies, Failure> {
        let read = |file: &str| {
            let cannot = |error| Failure::new(format!("cannot read which cgroups there are: {file}: {error}"));
            std::fs::read_to_string(file).map_err(|error| cannot(error).hint("is /proc mounted?"))
        };
        Ok(Hierarchies::parse(&read("/proc/self/mountinfo")?, &read(&format!("/proc/{process}/cgroup"))?))
    }

    /// From the text of /proc/self/mountinfo and of /proc/self/cgroup.
    pub fn parse(mountinfo: &str, ours: &str) -> Hierarchies {
        let all = |kind| mountinfo.lines().filter_map(move |line| Hierarchy::parse(line, kind));
        Hierarchies { unified: all("cgroup2").next(), legacy: all("cgroup").collect(), ours: ours.to_owned() }
    }

    /// The v1 hierarchy that has this controller.
    pub fn legacy_with(&self, controller: &str) -> Option<&Hierarchy> {
        self.legacy.iter().find(|hierarchy| has(&hierarchy.options, controller))
    }

    /// The groups that we are in, as paths from the top of their trees, with the controllers of each tree; none on v2.
    pub fn our_groups(&self) -> impl Iterator<Item = (&str, &str)> {
        let parts = |line| {
            let mut parts = str::splitn(line, 3, ':').skip(1);
            Some((parts.next()?, parts.next()?))
        };
        self.ours.lines().filter_map(parts)
    }

    /// The directory of the group that we are in; a v1 hierarchy is told by one of its controllers, v2
    /// by an empty name.
    pub fn our_directory(&self, hierarchy: &Hierarchy, controller: &str) -> String {
        let lines = self.ours.lines().map(|line| line.splitn(3, ':').collect::<Vec<_>>());
        let group = lines.filter(|line| line.len() == 3 && has(line[1], controller)).map(|line| line[2]).next();
        let directory = hierarchy.path_of(group.unwrap_or("/"));
        if Path::new(&directory).is_dir() { directory } else { hierarchy.point.clone() }
    }
}

/// Whether a list, as the kernel writes it, has an item.
pub fn has(list: &str, item: &str) -> bool {
    list.trim_end().split([',', ' ']).any(|each| each == item)
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &str = "\
23 28 0:22 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate
";
    /// A bare directory /sys/fs/cgroup/pids may be here as well: it is no mount, so no controller.
    const V1: &str = "\
31 23 0:28 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
32 31 0:29 /docker/c0ffee /sys/fs/cgroup/cpu,cpuacct ro,nosuid master:15 - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
34 31 0:31 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
";
    const UNIFIED_BESIDE: &str = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

    #[test]
    fn v2_is_one_hierarchy() {
        let all = Hierarchies::parse(V2, "0::/user.slice/user-1000.slice/session-3.scope\n");
        let unified = all.unified.unwrap();
        assert_eq!(unified.point, "/sys/fs/cgroup");
        assert!(all.legacy.is_empty() && !unified.read_only);
        assert_eq!(unified.path_of("/user.slice/x.scope"), "/sys/fs/cgroup/user.slice/x.scope");
        assert_eq!(unified.path_of("/"), "/sys/fs/cgroup");
    }

    #[test]
    fn v1_has_a_hierarchy_for_each_group_of_controllers() {
        let all = Hierarchies::parse(V1, "2:cpu,cpuacct:/docker/c0ffee/inner\n1:memory:/\n");
        assert_eq!(all.unified, None);
        assert_eq!(all.legacy.len(), 3);
        assert_eq!(all.legacy_with("pids"), None);
        let cpu = all.legacy_with("cpu").unwrap();
        assert!(cpu.read_only && !all.legacy_with("memory").unwrap().read_only);
        assert_eq!(cpu.path_of("/docker/c0ffee/inner"), "/sys/fs/cgroup/cpu,cpuacct/inner");
        assert_eq!(cpu.path_of("/elsewhere"), "/sys/fs/cgroup/cpu,cpuacct");
        assert_eq!(cpu.path_of("/docker/c0ffee/../other"), "/sys/fs/cgroup/cpu,cpuacct");
        assert_eq!(cpu.controllers(), ["cpu", "cpuacct"]);
        assert_eq!(all.legacy[2].controllers(), [""; 0], "it has a name only");
    }

    #[test]
    fn hybrid_has_both() {
        let all = Hierarchies::parse(&format!("{V1}{UNIFIED_BESIDE}"), "");
        assert_eq!(all.unified.unwrap().point, "/sys/fs/cgroup/unified");
        let ours = Hierarchies::parse(V1, "7:cpu,cpuacct:/a\n1:name=systemd:/b:c\n0::/d\n");
        assert_eq!(
            ours.our_groups().collect::<Vec<_>>(),
            [("cpu,cpuacct", "/a"), ("name=systemd", "/b:c"), ("", "/d")]
        );
        assert_eq!(all.legacy.len(), 3);
    }

    #[test]
    fn nothing_is_mounted() {
        for text in ["", "\n", "1 2 0:3 /", "23 28 0:22 / /sys rw - sysfs sysfs rw"] {
            let all = Hierarchies::parse(text, text);
            assert!(all.unified.is_none() && all.legacy.is_empty(), "{text:?}");
        }
    }

    #[test]
    fn a_list_has_whole_items() {
        assert!(has("cpuset cpu io memory\n", "memory") && has("cpuset cpu io", "cpu") && has("", ""));
        assert!(!has("cpuset io\n", "cpu") && !has("name=systemd", ""));
    }
}
