//! The specification's limits as v2's files take them (Documentation/admin-guide/cgroup-v2.rst): v1's terms, translated.

use kernel::Failure;

use super::{is_nonzero, nonempty, nonzero, throttles};
use crate::spec::{BlockIo, Cpu, HugepageLimit, Memory, Resources};
use cgroups::Setting;

/// What is written, in this order. `is_there` says whether the group has a file.
///
/// # Errors
/// What v2 has not; limits on swap that make no sense.
pub fn settings(resources: &Resources, is_there: &dyn Fn(&str) -> bool) -> Result<Vec<Setting>, Failure> {
    refuse_legacy(resources)?;
    let mut all = memory(&resources.memory, is_there)?;
    all.extend(cpu(&resources.cpu));
    all.extend(resources.pids_limit().map(|limit| Setting::new("pids.max", amount(limit))));
    all.extend(block_io(&resources.block_io, is_there));
    for HugepageLimit { page_size: size, limit: bytes } in &resources.hugepage_limits {
        all.push(Setting::new(&format!("hugetlb.{size}.max"), bytes.to_string()));
        let reserved = format!("hugetlb.{size}.rsvd.max"); // since Linux 5.7
        if is_there(&reserved) {
            all.push(Setting::new(&reserved, bytes.to_string()));
        }
    }
    all.extend(rdma(resources));
    // Last, so that who names a file has the last word.
    for (file, value) in &resources.unified {
        if file.contains('/') {
            return Err(Failure::new(format!("unified resource {file:?} must be a file name (no slashes)")));
        }
        all.extend(value.lines().map(|line| Setting::new(file, line.to_owned())));
    }
    Ok(all)
}

fn refuse_legacy(resources: &Resources) -> Result<(), Failure> {
    let (cpu, memory) = (&resources.cpu, &resources.memory);
    let legacy = [
        ("memory.swappiness", memory.wished_swappiness().is_some()),
        ("memory.disableOOMKiller", memory.disable_oom_killer == Some(true)),
        ("cpu.realtimeRuntime", is_nonzero(cpu.realtime_runtime)),
        ("cpu.realtimePeriod", is_nonzero(cpu.realtime_period)),
        ("blockIO.leafWeight", is_nonzero(resources.block_io.leaf_weight)),
        ("network.classID", is_nonzero(resources.network.class_id)),
        ("network.priorities", !resources.network.priorities.is_empty()),
    ];
    match legacy.iter().find(|(_, asked)| *asked) {
        Some((name, _)) => Err(Failure::new(format!("resources.{name}: only cgroup v1 has it, and this is v2"))),
        None => Ok(()),
    }
}

/// A number, or `max` for "no limit".
fn amount(number: i64) -> String {
    if number < 0 { "max".to_owned() } else { number.to_string() }
}

fn memory(memory: &Memory, is_there: &dyn Fn(&str) -> bool) -> Result<Vec<Setting>, Failure> {
    const SWAP: &str = "memory.swap.max";
    let mut all = Vec::new();
    if let Some(bytes) = swap(memory)? {
        let nothing_to_limit = bytes <= 0 && !is_there(SWAP); // a kernel that does not count swap
        if !nothing_to_limit {
            all.push(Setting::new(SWAP, amount(bytes)));
        }
    }
    all.extend(nonzero(memory.limit).map(|bytes| Setting::new("memory.max", amount(bytes))));
    all.extend(nonzero(memory.reservation).map(|bytes| Setting::new("memory.low", amount(bytes))));
    Ok(all)
}

/// v2 counts swap apart from memory, the specification counts both together.
pub(crate) fn swap(memory: &Memory) -> Result<Option<i64>, Failure> {
    match (nonzero(memory.limit), nonzero(memory.swap)) {
        (Some(-1), None) => Ok(Some(-1)), // as on v1, who lifts the one limit lifts both
        (_, None) => Ok(None),
        (_, Some(-1)) => Ok(Some(-1)),
        (Some(-1), together) => Ok(together),
        (None, Some(_)) => Err(Failure::new("unable to set swap limit without memory limit")),
        (Some(limit), Some(together)) if limit < 0 || together < limit => {
            Err(Failure::new("memory+swap limit should be >= memory limit"))
        }
        (Some(limit), Some(together)) => Ok(Some(together - limit)),
    }
}

fn cpu(cpu: &Cpu) -> Vec<Setting> {
    let mut all = Vec::new();
    let mut put = |file: &str, value: String| all.push(Setting::new(file, value));
    if cpu.idle == Some(0) {
        put("cpu.idle", "0".to_owned()); // who is idle takes no weight
    }
    nonzero(cpu.shares).into_iter().for_each(|shares| put("cpu.weight", weight_of_shares(shares).to_string()));
    match (nonzero(cpu.quota), nonzero(cpu.period)) {
        (Some(quota), Some(period)) => put("cpu.max", format!("{} {period}", amount(quota))),
        (Some(quota), None) => put("cpu.max", amount(quota)), // the period stays
        (None, Some(period)) => put("cpu.max", format!("max {period}")),
        (None, None) => {}
    }
    cpu.burst.into_iter().for_each(|time| put("cpu.max.burst", time.to_string()));
    if is_nonzero(cpu.idle) {
        put("cpu.idle", "1".to_owned());
    }
    nonempty(&cpu.cpus).into_iter().for_each(|list| put("cpuset.cpus", list.to_owned()));
    nonempty(&cpu.mems).into_iter().for_each(|list| put("cpuset.mems", list.to_owned()));
    all
}

/// Shares of 2, 1024 and 262144 are weights of 1, 100 and 10000. The curve through these three points, on logarithmic
/// scales, is the one that runc 1.3.2 and crun 1.23 took for it; the straight line before gave the usual 1024 a 39.
pub(crate) fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        ..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let doublings = (shares as f64).log2();
            let exponent = (doublings * doublings + 125.0 * doublings) / 612.0 - 7.0 / 34.0;
            10_f64.powf(exponent).ceil() as u64
        }
    }
}

/// The other way round: the fewest shares that have at least this weight, 1 to 10000 (`--cpu-weight` in a configuration).
pub fn shares_of_weight(weight: u64) -> u64 {
    let (mut low, mut high) = (2, 262_144);
    while low < high {
        let middle = (low + high) / 2;
        if weight_of_shares(middle) < weight { low = middle + 1 } else { high = middle }
    }
    low
}

fn block_io(io: &BlockIo, is_there: &dyn Fn(&str) -> bool) -> Vec<Setting> {
    // BFQ's weights have the specification's range; the general ones have 1 to 10000.
    let (file, weight): (&str, fn(u16) -> u64) = match is_there("io.bfq.weight") {
        true => ("io.bfq.weight", u64::from),
        false => ("io.weight", weight_of_io),
    };
    let mut all: Vec<Setting> =
        nonzero(io.weight).map(|own| Setting::new(file, weight(own).to_string())).into_iter().collect();
    for device in &io.weight_device {
        let line = |own: u16| format!("{}:{} {}", device.major, device.minor, weight(own));
        all.extend(nonzero(device.weight).map(|own| Setting::new(file, line(own))));
    }
    for (name, devices) in throttles(io) {
        for device in devices {
            let rate = if device.rate == 0 { "max".to_owned() } else { device.rate.to_string() };
            all.push(Setting::new("io.max", format!("{}:{} {name}={rate}", device.major, device.minor)));
        }
    }
    all
}

/// 10 to 1000 becomes 1 to 10000.
pub(crate) fn weight_of_io(weight: u16) -> u64 {
    1 + (u64::from(weight.max(10)) - 10) * 9_999 / 990
}

/// Admin-guide/cgroup-v1/rdma.rst; v2 has the same file.
pub(super) fn rdma(resources: &Resources) -> impl Iterator<Item = Setting> {
    resources.rdma.iter().map(|(adapter, limits)| {
        let handles = limits.hca_handles.map(|number| format!(" hca_handle={number}")).unwrap_or_default();
        let objects = limits.hca_objects.map(|number| format!(" hca_object={number}")).unwrap_or_default();
        Setting::new("rdma.max", format!("{adapter}{handles}{objects}"))
    })
}
