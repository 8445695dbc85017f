//! The walls, as `linux` of the configuration: what steps 2, 3, 5 and 6 say.

use std::collections::BTreeMap;

use anyhow::Result;
use privileges::{Range, seccomp};

use super::Checked;
use crate::spec::{IdMapping, Linux, Namespace, NamespaceKind, TimeOffset};

impl Checked<'_> {
    /// Namespaces, maps of ids, group, filter and closed paths: what is not the process's own.
    pub(super) fn linux(&self, has_host_network: bool) -> Result<Linux> {
        let (masked, read_only) = pivot_root::closed_paths();
        let maps = self.privileges.id_maps.as_ref();
        let decided =
            |profile: &seccomp::Profile| seccomp::decided(profile.clone(), |name| self.privileges.kept.has(name));
        let absolute = |paths: Vec<&str>| paths.iter().map(|path| format!("/{path}")).collect();
        Ok(Linux {
            namespaces: self.namespaces(has_host_network),
            uid_mappings: maps.map(|maps| mappings(&maps.users)).unwrap_or_default(),
            gid_mappings: maps.map(|maps| mappings(&maps.groups)).unwrap_or_default(),
            time_offsets: self.time_offsets(),
            cgroups_path: self.limits.parent.as_ref().map(|parent| format!("{parent}/{}", self.name)),
            resources: Some(self.resources()),
            seccomp: self.privileges.profile.as_ref().map(decided).transpose()?,
            rootfs_propagation: Some("rprivate".to_owned()),
            masked_paths: absolute(masked),
            readonly_paths: absolute(read_only),
            ..Linux::default()
        })
    }

    fn namespaces(&self, has_host_network: bool) -> Vec<Namespace> {
        use NamespaceKind::*;
        let asked = [
            (Network, !has_host_network),
            (User, self.privileges.id_maps.is_some()),
            (Time, !self.time_offsets().is_empty()),
        ];
        let asked = asked.into_iter().filter(|(_, asked)| *asked).map(|(kind, _)| kind);
        [Pid, Mount, Uts, Ipc, Cgroup].into_iter().chain(asked).map(|kind| Namespace { kind, path: None }).collect()
    }

    fn time_offsets(&self) -> BTreeMap<String, TimeOffset> {
        let options = &self.options.namespaces;
        let clocks = [("boottime", options.boottime), ("monotonic", options.monotonic)];
        let offset = |seconds| TimeOffset { secs: Some(seconds), nanosecs: None };
        clocks.into_iter().filter_map(|(clock, seconds)| Some((clock.to_owned(), offset(seconds?)))).collect()
    }
}

fn mappings(ranges: &[Range]) -> Vec<IdMapping> {
    let mapping = |range: &Range| IdMapping { container_id: range.inside, host_id: range.outside, size: range.count };
    ranges.iter().map(mapping).collect()
}
