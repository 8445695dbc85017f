//! Cgroup v2: one tree, in which each group has the files of all controllers.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kernel::hierarchies::{Hierarchies, has};
use kernel::sys::cgroup;
use kernel::{Errno, Failure, Remedy, purpose};

use crate::Setting;
use crate::limits::{Limits, PERIOD};

// ANCHOR: settings
/// The limits as v2's files take them.
pub fn settings(limits: &Limits) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut set = |file: &'static str, value: String| settings.push(Setting::new(file, value));
    if let Some(quota) = limits.quota {
        set("cpu.max", format!("{quota} {PERIOD}"));
    }
    if let Some(weight) = limits.weight {
        set("cpu.weight", weight.to_string());
    }
    if let Some(cpus) = &limits.cpuset {
        set("cpuset.cpus", cpus.clone());
    }
    if let Some(bytes) = limits.memory {
        set("memory.max", bytes.to_string());
        set("memory.swap.max", "0".to_owned()); // else what does not fit is swapped out, beyond the limit
    }
    if let Some(pids) = limits.pids {
        set("pids.max", pids.to_string());
    }
    for io in &limits.io {
        let limits: String = io.limits.iter().map(|(name, number)| format!(" {name}={number}")).collect();
        set("io.max", format!("{}:{}{limits}", io.device.0, io.device.1));
    }
    settings
}
// ANCHOR_END: settings

// ANCHOR: enable
/// Makes the group `parent` and those above it, each with the controllers enabled for what is below: from the top down,
/// for a group can pass on only what it has.
///
/// # Errors
/// A controller that this machine has not; EBUSY where a group on the way has processes itself: those below could not
/// be weighed against them ("no internal processes").
pub fn make_parent(hierarchies: &Hierarchies, parent: &str, controllers: &[&str]) -> Result<PathBuf> {
    let unified = hierarchies.unified.as_ref().context("there is no cgroup v2 on this machine")?;
    let mut group = PathBuf::from(&unified.point);
    purpose("groups from the top down, each with the controllers that those below shall have");
    enable(&group, controllers)?;
    for part in parent.split('/').filter(|part| !part.is_empty()) {
        group.push(part);
        if !group.is_dir() {
            cgroup::make(&group).map_err(not_ours)?;
        }
        enable(&group, controllers)?;
    }
    Ok(group)
}

fn enable(group: &Path, controllers: &[&str]) -> Result<()> {
    let (there, enabled) = (cgroup::read(group, "cgroup.controllers"), cgroup::read(group, "cgroup.subtree_control"));
    for controller in controllers.iter().filter(|controller| !has(&enabled, controller)) {
        if !has(&there, controller) {
            let text = format!("the controller {controller} is not to be had in {}", group.display());
            return Err(Failure::new(text).hint("cat /sys/fs/cgroup/cgroup.controllers shows which are").into());
        }
        cgroup::write(group, "cgroup.subtree_control", &format!("+{controller}"))
            .map_err(not_ours)
            .hint_on(Errno::EBUSY, "it has processes itself: name a group without any by --cgroup-parent")
            .with_context(|| format!("cannot pass the controller {controller} on below {}", group.display()))?;
    }
    Ok(())
}
// ANCHOR_END: enable

/// Only root, or whom a part of the tree was given to, may make groups in it.
pub fn not_ours(failure: Failure) -> Failure {
    match failure.errno() {
        Some(Errno::EACCES | Errno::EPERM | Errno::EROFS) => failure.hint(
            "limits need root, or a part of the tree that was delegated to you: systemd-run --user --scope -p Delegate=yes",
        ),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::IoMax;

    #[test]
    fn every_limit_has_its_file() {
        let io = IoMax { device: (8, 0), limits: vec![("rbps".to_owned(), 1024), ("wiops".to_owned(), 5)] };
        let limits = Limits {
            quota: Some(50_000),
            weight: Some(300),
            cpuset: Some("0".to_owned()),
            memory: Some(64 << 20),
            pids: Some(64),
            io: vec![io],
            ..Limits::default()
        };
        let lines: Vec<String> = settings(&limits).iter().map(|set| format!("{} {}", set.file, set.value)).collect();
        assert_eq!(
            lines,
            [
                "cpu.max 50000 100000",
                "cpu.weight 300",
                "cpuset.cpus 0",
                "memory.max 67108864",
                "memory.swap.max 0",
                "pids.max 64",
                "io.max 8:0 rbps=1024 wiops=5"
            ]
        );
    }
}
