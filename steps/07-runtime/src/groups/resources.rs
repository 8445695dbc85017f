//! All the limits that a configuration can name, beside the lesson: `linux.resources` of the OCI runtime specification
//! (config-linux.md, Control groups). Names, terms and scales are the specification's, which are v1's, on either version.
//! [`v1`] and [`v2`] say what is written for them; where v2 counts otherwise, it is translated as runc does.
//!
//! What is absent stays as it is, so the same serves a new group and an update. A number that is 0 asks for nothing
//! unless it says otherwise: callers write zeros for what is not set. -1 is "no limit".

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use kernel::sys::cgroup;
use kernel::{Errno, Failure, purpose};

use super::Kept;
use cgroups::Setting;

#[cfg(test)]
mod tests;
pub mod v1;
pub mod v2;

/// How much of the machine a container may use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resources {
    /// Memory and swap.
    pub memory: Memory,
    /// CPU time, and which CPUs.
    pub cpu: Cpu,
    /// Processes and threads, at most so many.
    pub pids: Option<i64>,
    /// Disks.
    pub block_io: BlockIo,
    /// Huge pages: their size, such as 2MB, and how many bytes of them.
    pub hugepage_limits: Vec<(String, u64)>,
    /// Network packets; v1 only.
    pub network: Network,
    /// Remote memory access, by the adapter's name.
    pub rdma: BTreeMap<String, Rdma>,
    /// Files of v2, and what is written to them, line by line.
    pub unified: BTreeMap<String, String>,
}

/// Memory, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Memory {
    /// At most so much.
    pub limit: Option<i64>,
    /// So much is left to it when memory is short.
    pub reservation: Option<i64>,
    /// At most so much memory and swap *together*.
    pub swap: Option<i64>,
    /// How readily it is swapped out, 0 to 100, where 0 counts; v1 only. The largest number is "not set" (older podman).
    pub swappiness: Option<u64>,
    /// A process waits, and is not killed, when there is no more; v1 only.
    pub disable_oom_killer: Option<bool>,
    /// A limit below what is in use is refused, and nobody is killed for it.
    pub check_before_update: Option<bool>,
}

/// CPU time in microseconds, and which CPUs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cpu {
    /// The share against others that want the CPU too, 2 to 262144; 1024 is usual.
    pub shares: Option<u64>,
    /// So much in each period.
    pub quota: Option<i64>,
    /// So much may be saved up, and used beside the quota; 0 counts.
    pub burst: Option<u64>,
    /// One period. The kernel's default: 100000.
    pub period: Option<u64>,
    /// For real-time processes in each of their periods; v1 only.
    pub realtime_runtime: Option<i64>,
    /// Such a period; v1 only.
    pub realtime_period: Option<u64>,
    /// A list such as 0-3,7.
    pub cpus: Option<String>,
    /// Memory nodes, a list.
    pub mems: Option<String>,
    /// 1: only when nobody else wants the CPU; 0: as usual.
    pub idle: Option<i64>,
}

/// Disks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BlockIo {
    /// The share against others, 10 to 1000.
    pub weight: Option<u16>,
    /// The same against groups below; the disk scheduler that knew it is gone.
    pub leaf_weight: Option<u16>,
    /// The share on one disk.
    pub weight_device: Vec<WeightDevice>,
    /// Bytes read per second.
    pub throttle_read_bps_device: Vec<ThrottleDevice>,
    /// Bytes written per second.
    pub throttle_write_bps_device: Vec<ThrottleDevice>,
    /// Reads per second.
    pub throttle_read_iops_device: Vec<ThrottleDevice>,
    /// Writes per second.
    pub throttle_write_iops_device: Vec<ThrottleDevice>,
}

/// The share on one disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WeightDevice {
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// 10 to 1000.
    pub weight: Option<u16>,
    /// The same against groups below.
    pub leaf_weight: Option<u16>,
}

/// A limit on one disk; a rate of 0 is "no limit".
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ThrottleDevice {
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// Bytes or operations per second.
    pub rate: u64,
}

/// Marks and priorities of network packets; v1 only.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Network {
    /// The class that packets are marked with.
    pub class_id: Option<u32>,
    /// Priorities, by interface.
    pub priorities: Vec<(String, u32)>,
}

/// Remote memory access by one adapter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rdma {
    /// At most so many handles.
    pub hca_handles: Option<u32>,
    /// At most so many objects.
    pub hca_objects: Option<u32>,
}

impl Resources {
    /// The controllers without which something here cannot be set, by v2's names: what [`Kept::make`] needs.
    pub fn controllers(&self) -> Vec<&str> {
        let (cpu, io) = (&self.cpu, &self.block_io);
        let throttled = io.throttles().iter().any(|(_, devices)| !devices.is_empty());
        let weighted = set(io.weight) || set(io.leaf_weight) || !io.weight_device.is_empty();
        let timed = set(cpu.shares) || set(cpu.quota) || set(cpu.period) || cpu.burst.is_some() || cpu.idle.is_some();
        let real_time = set(cpu.realtime_period) || set(cpu.realtime_runtime);
        let asked = [
            ("cpu", timed || real_time),
            ("cpuset", named(&cpu.cpus).or(named(&cpu.mems)).is_some()),
            ("memory", self.memory.is_limited()),
            ("pids", set(self.pids)),
            ("io", throttled || weighted),
            ("hugetlb", !self.hugepage_limits.is_empty()),
            ("net_cls", set(self.network.class_id)),
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
}

impl Memory {
    fn is_limited(&self) -> bool {
        let bytes = [self.limit, self.reservation, self.swap];
        bytes.into_iter().any(set) || self.wished_swappiness().is_some() || self.disable_oom_killer == Some(true)
    }

    fn wished_swappiness(&self) -> Option<u64> {
        self.swappiness.filter(|number| *number != u64::MAX)
    }
}

impl BlockIo {
    /// The limits on disks, in v2's words.
    fn throttles(&self) -> [(&'static str, &[ThrottleDevice]); 4] {
        [
            ("rbps", &self.throttle_read_bps_device),
            ("wbps", &self.throttle_write_bps_device),
            ("riops", &self.throttle_read_iops_device),
            ("wiops", &self.throttle_write_iops_device),
        ]
    }
}

/// Whether a number asks for something.
fn set<T: Default + PartialEq>(number: Option<T>) -> bool {
    number.is_some_and(|number| number != T::default())
}

/// A number that asks for something.
pub(crate) fn asked<T: Default + PartialEq + Copy>(number: Option<T>) -> Option<T> {
    number.filter(|number| *number != T::default())
}

/// A list that asks for something.
pub(crate) fn named(list: &Option<String>) -> Option<&str> {
    list.as_deref().filter(|list| !list.is_empty())
}

impl Kept {
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
        let is_there = |file: &str| self.place_of(file).is_some();
        let settings = match self.is_v2() {
            true => {
                self.check_usage(&resources.memory)?;
                v2::settings(resources, &is_there)?
            }
            false => v1::settings(resources, &is_there)?,
        };
        self.apply(&settings)
    }

    /// On v2 a limit below what is in use would have somebody killed at once; v1 refuses it itself (EBUSY).
    pub(crate) fn check_usage(&self, memory: &Memory) -> Result<(), Failure> {
        if memory.check_before_update != Some(true) {
            return Ok(());
        }
        let used = self.unified.as_deref().map(|group| cgroup::read(group, "memory.current")).unwrap_or_default();
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
        let of = |name: &str| self.limiting().map(|group| cgroup::read(group, name)).find(|text| !text.is_empty());
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
