//! The specification's limits as v1's files take them: the terms are v1's own.

use kernel::Failure;

use super::{is_nonzero, nonempty, nonzero, throttles};
use crate::spec::{Cpu, HugepageLimit, Memory, Resources};
use cgroups::Setting;

/// What is written, in this order. `is_there` says whether the group has a file.
///
/// # Errors
/// Files of v2; a value that v1 would silently change.
pub fn settings(resources: &Resources, is_there: &dyn Fn(&str) -> bool) -> Result<Vec<Setting>, Failure> {
    if let Some(file) = resources.unified.keys().next() {
        return Err(Failure::new(format!("invalid configuration: cannot use unified on cgroup v1 ({file})")));
    }
    let mut all = memory(&resources.memory, is_there)?;
    all.extend(cpu(&resources.cpu)?);
    if let Some(limit) = resources.pids_limit() {
        all.push(Setting::new("pids.max", if limit < 0 { "max".to_owned() } else { limit.to_string() }));
    }
    all.extend(block_io(resources, is_there));
    for HugepageLimit { page_size: size, limit: bytes } in &resources.hugepage_limits {
        all.push(Setting::new(&format!("hugetlb.{size}.limit_in_bytes"), bytes.to_string()));
        let reserved = format!("hugetlb.{size}.rsvd.limit_in_bytes"); // since Linux 5.7
        if is_there(&reserved) {
            all.push(Setting::new(&reserved, bytes.to_string()));
        }
    }
    if let Some(class) = nonzero(resources.network.class_id) {
        all.push(Setting::new("net_cls.classid", class.to_string()));
    }
    for interface in &resources.network.priorities {
        all.push(Setting::new("net_prio.ifpriomap", format!("{} {}", interface.name, interface.priority)));
    }
    all.extend(super::v2::rdma(resources)); // the same on both
    Ok(all)
}

/// Admin-guide/cgroup-v1/memory.rst. A kernel that does not count swap has no memsw.
fn memory(memory: &Memory, is_there: &dyn Fn(&str) -> bool) -> Result<Vec<Setting>, Failure> {
    const TOGETHER: &str = "memory.memsw.limit_in_bytes";
    let mut all = Vec::new();
    let mut put = |file: &str, value: i64| all.push(Setting::new(file, value.to_string()));
    let limit = nonzero(memory.limit);
    let swap = match (limit, nonzero(memory.swap)) {
        // Who lifts the one limit alone would still be held by the other.
        (Some(-1), None) => is_there(TOGETHER).then_some(-1),
        (_, swap) => swap,
    };
    limit.into_iter().for_each(|bytes| put("memory.limit_in_bytes", bytes));
    swap.filter(|bytes| *bytes > 0 || is_there(TOGETHER)).into_iter().for_each(|bytes| put(TOGETHER, bytes));
    nonzero(memory.reservation).into_iter().for_each(|bytes| put("memory.soft_limit_in_bytes", bytes));
    if memory.disable_oom_killer == Some(true) {
        put("memory.oom_control", 1);
    }
    match memory.wished_swappiness() {
        Some(number @ 0..=100) => put("memory.swappiness", number as i64),
        Some(number) => return Err(Failure::new(format!("a swappiness of {number} is not in 0 to 100"))),
        None => {}
    }
    Ok(all)
}

/// Scheduler/sched-bwc.rst. Real-time budgets are given apart ([`super::super::real_time`]).
fn cpu(cpu: &Cpu) -> Result<Vec<Setting>, Failure> {
    let mut all = Vec::new();
    let mut put = |file: &str, value: String| all.push(Setting::new(file, value));
    if cpu.idle == Some(0) {
        put("cpu.idle", "0".to_owned()); // who is idle takes no shares
    }
    match nonzero(cpu.shares) {
        Some(shares) if shares < 2 => return Err(Failure::new("the minimum allowed cpu-shares is 2")),
        Some(shares) if shares > 262_144 => return Err(Failure::new("the maximum allowed cpu-shares is 262144")),
        shares => shares.into_iter().for_each(|shares| put("cpu.shares", shares.to_string())),
    }
    nonzero(cpu.period).into_iter().for_each(|time| put("cpu.cfs_period_us", time.to_string()));
    nonzero(cpu.quota).into_iter().for_each(|time| put("cpu.cfs_quota_us", time.max(-1).to_string()));
    cpu.burst.into_iter().for_each(|time| put("cpu.cfs_burst_us", time.to_string()));
    if is_nonzero(cpu.idle) {
        put("cpu.idle", "1".to_owned());
    }
    nonempty(&cpu.cpus).into_iter().for_each(|list| put("cpuset.cpus", list.to_owned()));
    nonempty(&cpu.mems).into_iter().for_each(|list| put("cpuset.mems", list.to_owned()));
    Ok(all)
}

/// Admin-guide/cgroup-v1/blkio-controller.rst. The weights were CFQ's, and are BFQ's now, where that disk scheduler is.
fn block_io(resources: &Resources, is_there: &dyn Fn(&str) -> bool) -> Vec<Setting> {
    let io = &resources.block_io;
    let is_weighed = io.weight.is_some() || !io.weight_device.is_empty();
    let prefix = if is_weighed && is_there("blkio.weight") { "blkio" } else { "blkio.bfq" };
    let mut all = Vec::new();
    let mut put = |file: &str, value: String| all.push(Setting::new(file, value));
    nonzero(io.weight).into_iter().for_each(|weight| put(&format!("{prefix}.weight"), weight.to_string()));
    nonzero(io.leaf_weight).into_iter().for_each(|weight| put("blkio.leaf_weight", weight.to_string()));
    for device in &io.weight_device {
        let line = |weight: u16| format!("{}:{} {weight}", device.major, device.minor);
        nonzero(device.weight).into_iter().for_each(|weight| put(&format!("{prefix}.weight_device"), line(weight)));
        nonzero(device.leaf_weight).into_iter().for_each(|weight| put("blkio.leaf_weight_device", line(weight)));
    }
    for (name, devices) in throttles(io) {
        let file = match name {
            "rbps" => "blkio.throttle.read_bps_device",
            "wbps" => "blkio.throttle.write_bps_device",
            "riops" => "blkio.throttle.read_iops_device",
            _ => "blkio.throttle.write_iops_device",
        };
        devices.iter().for_each(|device| put(file, format!("{}:{} {}", device.major, device.minor, device.rate)));
    }
    all
}
