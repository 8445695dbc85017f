//! Cgroup v1, beside the lesson: a tree for each controller, and the same limits under other names. Machines that began
//! before 2020 or so have it, and some mount a v2 tree without controllers beside it ("hybrid").

use std::path::{Path, PathBuf};

use crate::hierarchies::{Hierarchies, has};
use anyhow::{Context, Result};
use kernel::sys::cgroup;
use kernel::{Failure, purpose};

use crate::Setting;
use crate::delegated::not_ours_v1;
use crate::limits::{Limits, PERIOD};

/// The limits as v1's files take them.
pub fn settings(limits: &Limits) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut set = |file: &'static str, value: String| settings.push(Setting::new(file, value));
    if let Some(quota) = limits.quota {
        set("cpu.cfs_period_us", PERIOD.to_string());
        set("cpu.cfs_quota_us", quota.to_string());
    }
    if let Some(weight) = limits.weight {
        set("cpu.shares", shares(weight).to_string());
    }
    if let Some(cpus) = &limits.cpuset {
        set("cpuset.cpus", cpus.clone());
    }
    if let Some(bytes) = limits.memory {
        set("memory.limit_in_bytes", bytes.to_string());
        set("memory.memsw.limit_in_bytes", bytes.to_string()); // memory and swap together
    }
    if let Some(bytes) = limits.memory_low {
        set("memory.soft_limit_in_bytes", bytes.to_string()); // v1's nearest: a wish that the kernel may grant
    }
    if let Some(pids) = limits.pids {
        set("pids.max", pids.to_string());
    }
    for io in &limits.io {
        for (name, number) in &io.limits {
            let file = match name.as_str() {
                "rbps" => "blkio.throttle.read_bps_device",
                "wbps" => "blkio.throttle.write_bps_device",
                "riops" => "blkio.throttle.read_iops_device",
                _ => "blkio.throttle.write_iops_device",
            };
            set(file, format!("{}:{} {number}", io.device.0, io.device.1));
        }
    }
    settings
}

/// v2's weights are 1 to 10000 around 100, v1's shares 2 to 262144 around 1024: the kernel's own translation.
pub fn shares(weight: u64) -> u64 {
    (weight * 1024 / 100).max(2)
}

/// Makes the group `parent` in the tree of each controller: the controller, and the directory.
///
/// # Errors
/// A controller that this machine has not.
pub fn make_parents(hierarchies: &Hierarchies, parent: &str, controllers: &[&str]) -> Result<Vec<PathBuf>> {
    purpose("the same group in the tree of each controller");
    let mut parents: Vec<PathBuf> = Vec::new();
    for controller in controllers {
        let tree = hierarchies.legacy_with(controller).ok_or_else(|| {
            let text = format!("this machine has no controller {controller}");
            Failure::new(text).hint(format!("mount -t cgroup -o {controller} cgroup /sys/fs/cgroup/{controller}"))
        })?;
        let group = make_in(Path::new(&tree.point), parent, has(&tree.options, "cpuset"))?;
        if !parents.contains(&group) {
            parents.push(group);
        }
    }
    Ok(parents)
}

/// Makes a group and those above it in one tree. A new group of cpuset has no CPUs, and accepts no process, until it is
/// given what its parent has.
pub fn make_in(top: &Path, path: &str, cpuset: bool) -> Result<PathBuf> {
    let mut group = top.to_owned();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let above = group.clone();
        group.push(part);
        if !group.is_dir() {
            cgroup::make_if_missing(&group)
                .map_err(not_ours_v1)
                .with_context(|| format!("cannot make {}", group.display()))?;
        }
        if cpuset {
            inherit_cpuset(&above, &group)?;
        }
    }
    Ok(group)
}

/// Gives a group of cpuset what its parent has.
pub fn inherit_cpuset(above: &Path, group: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if cgroup::read(group, file).trim().is_empty() {
            cgroup::write(group, file, cgroup::read(above, file).trim())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_translate() {
        assert_eq!((shares(1), shares(100), shares(10_000)), (10, 1024, 102_400));
        assert_eq!(shares(300), 3 * shares(100));
    }

    #[test]
    fn swap_is_counted_in() {
        let limits = Limits { memory: Some(1 << 20), ..Limits::default() };
        let lines: Vec<String> = settings(&limits).iter().map(|set| format!("{} {}", set.file, set.value)).collect();
        assert_eq!(lines, ["memory.limit_in_bytes 1048576", "memory.memsw.limit_in_bytes 1048576"]);
    }
}
