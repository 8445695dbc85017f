//! Cgroup v2: one tree, in which each group has the files of all controllers.

use std::path::{Path, PathBuf};

use crate::hierarchies::has;
use anyhow::{Context, Result};
use kernel::sys::cgroup;
use kernel::{Errno, Failure, Remedy, purpose};

use crate::Setting;
use crate::delegated::{InLeaf, how_to_leave, not_ours};
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
    if let Some(bytes) = limits.memory_low {
        set("memory.low", bytes.to_string()); // no limit: memory that is taken from other groups first
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
/// Makes the group `below` and those above it, down from `start`, each with the controllers enabled for what is below:
/// from the top down, for a group can pass on only what it has.
///
/// # Errors
/// A controller that is not to be had; EBUSY where a group on the way has processes itself: those below could not be
/// weighed against them ("no internal processes"). If these are we ourselves, we step aside.
pub fn make_parent(start: &Path, below: &str, ours: &Path, controllers: &[&str]) -> Result<(PathBuf, Option<InLeaf>)> {
    let (mut group, mut aside) = (start.to_owned(), None);
    purpose("groups from the top down, each with the controllers for those below it");
    for part in std::iter::once("").chain(below.split('/').filter(|part| !part.is_empty())) {
        if !part.is_empty() {
            group.push(part);
        }
        if !group.is_dir() {
            cgroup::make_if_missing(&group).map_err(not_ours)?;
        }
        let enabled = cgroup::read(&group, "cgroup.subtree_control");
        let missing: Vec<&str> = controllers.iter().filter(|name| !has(&enabled, name)).copied().collect();
        let is_topmost = !group.join("cgroup.type").exists(); // of the machine: it alone may have both
        if !missing.is_empty() && group == ours && !is_topmost {
            aside = Some(InLeaf::move_from(&group)?);
        }
        enable(&group, &missing)?;
    }
    Ok((group, aside))
}

fn enable(group: &Path, controllers: &[&str]) -> Result<()> {
    let there = cgroup::read(group, "cgroup.controllers");
    for controller in controllers {
        if !has(&there, controller) {
            let text = format!("the controller {controller} is not to be had in {}", group.display());
            return Err(Failure::new(text).hint(format!("cat {}/cgroup.controllers", group.display())).into());
        }
        cgroup::write(group, "cgroup.subtree_control", &format!("+{controller}"))
            .map_err(not_ours)
            .hint_on(Errno::EBUSY, how_to_leave(group))
            .with_context(|| format!("cannot pass the controller {controller} on below {}", group.display()))?;
    }
    Ok(())
}
// ANCHOR_END: enable

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
            memory_low: Some(8 << 20),
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
                "memory.low 8388608",
                "pids.max 64",
                "io.max 8:0 rbps=1024 wiops=5"
            ]
        );
    }
}
