//! All the limits that a configuration can name: `linux.resources` of the OCI runtime specification
//! (config-linux.md, Control groups). Names, terms and scales are the specification's, which are v1's, on either version.
//! [`v1`] and [`v2`] say what is written for them; where v2 counts otherwise, it is translated as runc does.
//!
//! What is absent stays as it is, so the same serves a new group and an update. A number that is 0 asks for nothing
//! unless it says otherwise: callers write zeros for what is not set. -1 is "no limit".

use anyhow::{Context, Result};
use kernel::sys::cgroup;
use kernel::{Errno, Failure, purpose};

use super::Cgroup;
use crate::spec::{BlockIo, Memory, Resources, ThrottleDevice};
use cgroups::Setting;

#[cfg(test)]
mod tests;
pub mod v1;
pub mod v2;

impl Resources {
    /// The controllers without which something here cannot be set, by v2's names: what [`Cgroup::make`] needs.
    pub fn controllers(&self) -> Vec<&str> {
        let (cpu, io) = (&self.cpu, &self.block_io);
        let throttled = throttles(io).any(|(_, devices)| !devices.is_empty());
        let weighted = is_nonzero(io.weight) || is_nonzero(io.leaf_weight) || !io.weight_device.is_empty();
        let timed = is_nonzero(cpu.shares)
            || is_nonzero(cpu.quota)
            || is_nonzero(cpu.period)
            || cpu.burst.is_some()
            || cpu.idle.is_some();
        let real_time = is_nonzero(cpu.realtime_period) || is_nonzero(cpu.realtime_runtime);
        let asked = [
            ("cpu", timed || real_time),
            ("cpuset", nonempty(&cpu.cpus).or(nonempty(&cpu.mems)).is_some()),
            ("memory", self.memory.is_limited()),
            ("pids", self.pids_limit().is_some()),
            ("io", throttled || weighted),
            ("hugetlb", !self.hugepage_limits.is_empty()),
            ("net_cls", is_nonzero(self.network.class_id)),
            ("net_prio", !self.network.priorities.is_empty()),
            ("rdma", !self.rdma.is_empty()),
        ];
        let mut names: Vec<&str> = asked.iter().filter(|(_, asked)| *asked).map(|(name, _)| *name).collect();
        let of_files = self.unified.keys().filter_map(|file| Some(file.split_once('.')?.0));
        for name in of_files.filter(|name| *name != "cgroup") {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Whether there is a limit, besides the rules for devices.
    pub(crate) fn limits_anything(&self) -> bool {
        *self != Resources { devices: self.devices.clone(), ..Resources::default() }
    }

    /// Processes and threads.
    pub(crate) fn pids_limit(&self) -> Option<i64> {
        self.pids.as_ref().and_then(|pids| pids.limit)
    }
}

impl Memory {
    fn is_limited(&self) -> bool {
        let bytes = [self.limit, self.reservation, self.swap];
        bytes.into_iter().any(is_nonzero) || self.wished_swappiness().is_some() || self.disable_oom_killer == Some(true)
    }

    fn wished_swappiness(&self) -> Option<u64> {
        self.swappiness.filter(|number| *number != u64::MAX)
    }
}

/// The limits on disks, in v2's words.
fn throttles(io: &BlockIo) -> impl Iterator<Item = (&'static str, &[ThrottleDevice])> {
    let names = ["rbps", "wbps", "riops", "wiops"];
    names.into_iter().zip(io.throttles()).map(|(name, (_, devices))| (name, devices))
}

/// Whether a number asks for something.
fn is_nonzero<T: Default + PartialEq>(number: Option<T>) -> bool {
    number.is_some_and(|number| number != T::default())
}

/// A number that asks for something.
pub(crate) fn nonzero<T: Default + PartialEq + Copy>(number: Option<T>) -> Option<T> {
    number.filter(|number| *number != T::default())
}

/// A list that asks for something.
pub(crate) fn nonempty(list: &Option<String>) -> Option<&str> {
    list.as_deref().filter(|list| !list.is_empty())
}

impl Cgroup {
    /// Writes what is asked for; what is absent stays as it is. For a new group and for a live one.
    ///
    /// What belongs together must come together, though, as in runc: swap with its memory limit, and on v2 a period with its
    /// quota (alone it lifts the quota). Who updates a container merges the new with what it was made with.
    ///
    /// # Errors
    /// A controller that is missing, by its name; a limit that this version of cgroups has not; a value that the kernel
    /// refuses.
    pub fn limit(&self, resources: &Resources) -> Result<()> {
        purpose("what the container may use");
        let is_there = |file: &str| self.directories.with_file(file).is_some();
        let settings = match self.directories.is_v2() {
            true => {
                self.check_usage(&resources.memory)?;
                v2::settings(resources, &is_there)?
            }
            false => v1::settings(resources, &is_there)?,
        };
        // First: a real-time process cannot enter a group without a budget.
        self.limit_real_time(&resources.cpu)?;
        self.apply(&settings)
    }

    /// On v2 a limit below what is in use would have a process killed at once; v1 refuses it itself (EBUSY).
    pub(crate) fn check_usage(&self, memory: &Memory) -> Result<(), Failure> {
        if memory.check_before_update != Some(true) {
            return Ok(());
        }
        let used =
            self.directories.unified.as_deref().map(|group| cgroup::read(group, "memory.current")).unwrap_or_default();
        let Ok(used) = used.trim().parse::<i64>() else { return Ok(()) };
        for (what, limit) in [("memory", memory.limit), ("memory and swap together", memory.swap)] {
            if let Some(limit) = limit.filter(|limit| *limit > 0 && *limit <= used) {
                return Err(Failure::new(format!("{what}: a limit of {limit} bytes is refused, {used} are in use")));
            }
        }
        Ok(())
    }

    /// Writes values, each to the tree that has its file.
    ///
    /// Some depend on each other: memory must not exceed memory and swap together, a period must fit its quota. Which has
    /// to come first depends on what was there before. So what the kernel takes for invalid is tried again after the rest.
    ///
    /// # Errors
    /// A controller that this machine has not, or not for this group; a value that the kernel refuses.
    pub fn apply(&self, settings: &[Setting]) -> Result<()> {
        let mut left: Vec<&Setting> = settings.iter().collect();
        loop {
            let count = left.len();
            let mut refused = Vec::new();
            let mut reason = None;
            for setting in left {
                match self.write(setting) {
                    Err(failure) if failure.errno() == Some(Errno::EINVAL) => {
                        refused.push(setting);
                        reason.get_or_insert(failure);
                    }
                    written => written.with_context(|| self.in_use(setting))?,
                }
            }
            match reason {
                None => return Ok(()),
                Some(failure) if refused.len() == count => return Err(failure.into()),
                Some(_) => left = refused,
            }
        }
    }

    fn write(&self, Setting { file, value }: &Setting) -> Result<(), Failure> {
        let directory = self.directory_with(file)?;
        cgroup::write(directory, file, value)
            .map_err(|failure| failure.hint(format!("the kernel does not take {value:?} for {file}")))
    }

    /// What v1 means by EBUSY: the limit is below what cannot be freed.
    fn in_use(&self, Setting { file, value }: &Setting) -> String {
        let of = |name: &str| {
            self.directories.limiting().map(|group| cgroup::read(group, name)).find(|text| !text.is_empty())
        };
        match (of("memory.usage_in_bytes"), of("memory.max_usage_in_bytes")) {
            (Some(usage), Some(peak)) if file.starts_with("memory.") => format!(
                "unable to set memory limit to {value} (current usage: {}, peak usage: {})",
                usage.trim(),
                peak.trim()
            ),
            _ => format!("cannot set {file}"),
        }
    }
}
