//! What the user asks for, and what is refused before anything is made.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use anyhow::Result;
use kernel::Failure;

use crate::cpu_list::CpuList;

/// How much of the machine the cell may use.
#[derive(clap::Args, Debug)]
pub struct LimitOptions {
    /// CPU limit, in CPUs: 0.5 is half the time of one
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<String>,

    /// Only these CPUs: 0, or 0-1,3
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,

    /// The share against others that want the CPU too, 1 to 10000 [default: 100]
    #[arg(long, value_name = "WEIGHT")]
    cpu_weight: Option<u64>,

    /// Memory limit, swap included: bytes, or with k, m, g
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,

    /// Memory that is taken from other groups first: bytes, or with k, m, g
    #[arg(long, value_name = "SIZE")]
    memory_low: Option<String>,

    /// Limit of processes and threads
    #[arg(long, value_name = "NUMBER")]
    pids: Option<u64>,

    /// Limits of reads and writes of a block device; may be given again
    #[arg(long, value_name = "DEVICE:rbps=N,wbps=N,riops=N,wiops=N")]
    io_max: Vec<String>,

    /// Whom the kernel kills first when the whole machine is out of memory, -1000 to 1000
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    oom_score_adj: Option<i32>,

    /// The group below which the cell's own is made, as a path from the top of the tree [default: /cellblock; where only
    /// a part of the tree is yours, cellblock in the group that you are in]
    #[arg(long, value_name = "PATH")]
    cgroup_parent: Option<String>,

    /// Say at the end what the cell has used
    #[arg(long)]
    stats: bool,
}

/// The limits, checked.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Limits {
    /// Microseconds of CPU time in each period of 100000.
    pub quota: Option<u64>,
    /// A list of CPUs, as the kernel takes it.
    pub cpuset: Option<String>,
    /// 1 to 10000.
    pub weight: Option<u64>,
    /// Bytes.
    pub memory: Option<u64>,
    /// Bytes.
    pub memory_low: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Block devices, with a limit each.
    pub io: Vec<IoMax>,
    /// -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// Below which group, from the top, if one was named.
    pub parent: Option<String>,
    /// Whether to say what was used.
    pub stats: bool,
}

/// Limits on one block device: per second, bytes and operations, read and written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IoMax {
    /// Major and minor number.
    pub device: (u64, u64),
    /// rbps, wbps, riops, wiops, with a number each.
    pub limits: Vec<(String, u64)>,
}

/// How long a period of CPU time is, in microseconds: the kernel's default.
pub const PERIOD: u64 = 100_000;

impl LimitOptions {
    /// Refuses what the kernel would refuse later, or what can only be a mistake.
    ///
    /// # Errors
    /// A number out of its range, more CPUs than there are, an invalid device, a path that leaves its tree.
    pub fn check(&self) -> Result<Limits> {
        Ok(Limits {
            quota: self.cpus.as_deref().map(|text| quota(text, online().numbers().count())).transpose()?,
            cpuset: self.cpuset_cpus.as_deref().map(|text| cpuset(text, &online())).transpose()?,
            weight: self.cpu_weight.map(|weight| in_range("--cpu-weight", weight, 1, 10_000)).transpose()?,
            memory: self.memory.as_deref().map(memory).transpose()?,
            memory_low: memory_low(self.memory_low.as_deref(), self.memory.as_deref())?,
            pids: self.pids.map(|pids| in_range("--pids", pids, 1, 4_194_304)).transpose()?,
            io: self.io_max.iter().map(|text| io_max(text)).collect::<Result<_, _>>()?,
            oom_score_adj: self.oom_score_adj.map(oom_score_adj).transpose()?,
            parent: self.cgroup_parent.as_deref().map(parent).transpose()?,
            stats: self.stats,
        })
    }
}

impl Limits {
    /// Whether anything was asked for at all.
    pub fn any(&self) -> bool {
        let nothing = Limits { parent: self.parent.clone(), oom_score_adj: self.oom_score_adj, ..Limits::default() };
        *self != nothing
    }
}

/// The machine's CPUs, whichever of them this process may use itself (man 5 sysfs).
fn online() -> CpuList {
    let list = std::fs::read_to_string("/sys/devices/system/cpu/online").ok();
    let count = || std::thread::available_parallelism().map_or(1, usize::from);
    list.and_then(|list| CpuList::parse(&list)).unwrap_or_else(|| (0..count()).collect())
}

fn in_range(option: &str, value: u64, least: u64, most: u64) -> Result<u64, Failure> {
    let out = || Failure::new(format!("{option} {value} is out of its range")).hint(format!("{least} to {most}"));
    (least..=most).contains(&value).then_some(value).ok_or_else(out)
}

/// The kernel takes no quota below a millisecond in a period of a hundred.
fn quota(text: &str, cpus: usize) -> Result<u64, Failure> {
    let refuse =
        |why: String| Failure::new(format!("--cpus {text}: {why}")).hint(format!("0.01 to {cpus}, such as 0.5"));
    let number: f64 = text.parse().map_err(|_| refuse("it is not a number".to_owned()))?;
    if !number.is_finite() || number < 0.01 {
        return Err(refuse("it is less than the kernel can give".to_owned()));
    }
    if number > cpus as f64 {
        return Err(refuse(format!("this machine has {cpus}")));
    }
    Ok((number * PERIOD as f64).round() as u64)
}

fn cpuset(text: &str, online: &CpuList) -> Result<String, Failure> {
    let refuse = |why: String| Failure::new(format!("--cpuset-cpus {text:?}: {why}")).hint("such as 0, or 0-1,3");
    for range in text.split(',') {
        let cpus =
            CpuList::parse(range).ok_or_else(|| refuse(format!("{range:?} is neither a CPU nor a range of them")))?;
        if !cpus.is_part_of(online) {
            return Err(refuse(format!("this machine has CPUs 0 to {}", online.last().unwrap_or_default())));
        }
    }
    Ok(text.to_owned())
}

/// Less than this holds no process at all: its first page would be its last.
const LEAST_MEMORY: u64 = 512 << 10;

fn memory(text: &str) -> Result<u64, Failure> {
    let refuse = |why: &str| Failure::new(format!("--memory {text:?}: {why}")).hint("such as 64m; at least 512k");
    let bytes = size(text).ok_or_else(|| refuse("it is not a size"))?;
    if bytes < LEAST_MEMORY { Err(refuse("no program runs in so little")) } else { Ok(bytes) }
}

/// What it is left cannot be more than what it may have.
fn memory_low(low: Option<&str>, most: Option<&str>) -> Result<Option<u64>, Failure> {
    let Some(text) = low else { return Ok(None) };
    let refuse = |why: &str| Failure::new(format!("--memory-low {text:?}: {why}")).hint("such as 16m");
    match (size(text), most.and_then(size)) {
        (None | Some(0), _) => Err(refuse("it is not a size")),
        (Some(low), Some(most)) if low > most => Err(refuse("it is more than --memory")),
        (low, _) => Ok(low),
    }
}

/// A number with k, m, g or t behind it, or nothing.
pub fn size(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|unit| "kmgt".contains(unit));
    let shift = match &lower[digits.len()..] {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

fn io_max(text: &str) -> Result<IoMax, Failure> {
    let refuse = |why: String| {
        Failure::new(format!("--io-max {text:?}: {why}")).hint("such as /dev/sda:rbps=1m,wbps=1m,riops=100,wiops=100")
    };
    let (device, limits) = text.split_once(':').ok_or_else(|| refuse("it has no limits".to_owned()))?;
    let found = Path::new(device).metadata().map_err(|error| refuse(format!("cannot open {device}: {error}")))?;
    if !found.file_type().is_block_device() {
        return Err(refuse(format!("{device} is not a block device")));
    }
    let limit = |text: &str| {
        let (name, number) =
            text.split_once('=').filter(|(name, _)| ["rbps", "wbps", "riops", "wiops"].contains(name))?;
        Some((name.to_owned(), size(number).filter(|number| *number > 0)?))
    };
    let limits = limits.split(',').map(|text| limit(text).ok_or_else(|| refuse(format!("{text:?} is not a limit"))));
    let (major, minor) = (nix::sys::stat::major(found.rdev()), nix::sys::stat::minor(found.rdev()));
    Ok(IoMax { device: (major, minor), limits: limits.collect::<Result<_, _>>()? })
}

fn oom_score_adj(value: i32) -> Result<i32, Failure> {
    let out = || Failure::new(format!("--oom-score-adj {value} is out of its range")).hint("-1000 to 1000");
    (-1000..=1000).contains(&value).then_some(value).ok_or_else(out)
}

fn parent(text: &str) -> Result<String, Failure> {
    let refuse = |why: &str| Failure::new(format!("--cgroup-parent {text:?}: {why}")).hint("such as /workshop/room1");
    let below = text.strip_prefix('/').ok_or_else(|| refuse("it is not an absolute path"))?;
    let normal = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\n', '\0']);
    if !below.split('/').all(normal) {
        return Err(refuse("write it without . and .., and with one / between its parts"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus() {
        assert_eq!(quota("0.5", 2), Ok(50_000));
        assert_eq!(quota("2", 2), Ok(200_000));
        for wrong in ["", "half", "0", "-1", "2.1", "inf", "NaN", "0.001"] {
            assert!(quota(wrong, 2).is_err(), "{wrong:?}");
        }
        let online = &CpuList::from_iter([0, 1]);
        for right in ["0", "0-1", "0,1"] {
            assert!(cpuset(right, online).is_ok(), "{right:?}");
        }
        for wrong in ["", "2", "1-0", "a", "0-", "0,,1", "-1"] {
            assert!(cpuset(wrong, online).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(memory("64m"), Ok(64 << 20));
        assert_eq!(memory("1G"), Ok(1 << 30));
        for wrong in ["", "0", "64", "64x", "64mm", "m", "-1", "99999999999t", "511k"] {
            assert!(memory(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(memory_low(Some("16m"), Some("64m")), Ok(Some(16 << 20)));
        for (low, most) in [("", None), ("0", None), ("16x", None), ("65m", Some("64m"))] {
            assert!(memory_low(Some(low), most).is_err(), "{low:?}");
        }
    }

    #[test]
    fn parents() {
        assert!(parent("/a/b-c").is_ok());
        for wrong in ["", "/", "a", "/a/../b", "/a//b", "/a/", "/./a"] {
            assert!(parent(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn devices_must_be_block_devices() {
        for wrong in ["", "/dev/null:rbps=1", "/nosuch:rbps=1", "/dev/null", "/etc/passwd:rbps=1"] {
            assert!(io_max(wrong).is_err(), "{wrong:?}");
        }
    }
}
