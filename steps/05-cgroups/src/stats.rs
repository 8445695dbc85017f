//! What a cell has used, read from its group's files.

use std::fmt;
use std::path::Path;

use kernel::sys::cgroup::read;

use crate::limits::Limits;

/// What a cell has used.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Used {
    /// CPU time, in seconds.
    pub cpu: f64,
    /// Time during which it was held back by --cpus, in seconds.
    pub throttled: f64,
    /// The most memory it had at once, in bytes.
    pub memory: u64,
    /// The most processes and threads it had at once; none where the kernel does not count them.
    pub pids: Option<u64>,
    /// Bytes read from block devices.
    pub read: u64,
    /// Bytes written to them.
    pub written: u64,
    /// How many of its processes were killed for want of memory.
    pub oom_kills: u64,
}

impl Used {
    /// Says what the command should know of its end: a limit that killed it, and, if asked, what it has used.
    pub fn tell_end(&self, limits: &Limits) {
        if let (Some(limit), true) = (limits.memory, self.oom_kills > 0) {
            let (count, limit) = (self.oom_kills, limit as f64 / f64::from(1 << 20));
            eprintln!(
                "cgroups: the kernel killed {count} of the cell's processes: they wanted more than {limit} MiB (--memory)"
            );
        }
        if limits.stats {
            eprint!("{self}");
        }
    }
}

/// From the files of v2, all in one directory.
pub fn read_v2(group: &Path) -> Used {
    let (cpu, io) = (read(group, "cpu.stat"), read(group, "io.stat"));
    Used {
        cpu: field(&cpu, "usage_usec") as f64 / 1e6,
        throttled: field(&cpu, "throttled_usec") as f64 / 1e6,
        memory: number(&read(group, "memory.peak")),
        pids: read(group, "pids.peak").trim().parse().ok(),
        read: sum(&io, "rbytes="),
        written: sum(&io, "wbytes="),
        oom_kills: field(&read(group, "memory.events"), "oom_kill"),
    }
}

/// From the files of v1, each in the directory of its controller.
pub fn read_v1(groups: &[&Path]) -> Used {
    let file =
        |name: &str| groups.iter().map(|group| read(group, name)).find(|text| !text.is_empty()).unwrap_or_default();
    let io = file("blkio.throttle.io_service_bytes_recursive");
    Used {
        cpu: number(&file("cpuacct.usage")) as f64 / 1e9,
        throttled: field(&file("cpu.stat"), "throttled_time") as f64 / 1e9,
        memory: number(&file("memory.max_usage_in_bytes")),
        pids: file("pids.peak").trim().parse().ok(),
        read: sum(&io, "Read "),
        written: sum(&io, "Write "),
        oom_kills: field(&file("memory.oom_control"), "oom_kill"),
    }
}

/// A number, or 0 where there is none.
pub fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or_default()
}

/// The number behind a name, in a file of `name number` lines.
pub fn field(text: &str, name: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok()).unwrap_or_default()
}

/// The sum of the numbers behind a name, over all devices.
fn sum(text: &str, name: &str) -> u64 {
    let numbers = text.split(name).skip(1).map(|rest| rest.split_whitespace().next().unwrap_or_default());
    numbers.filter_map(|number| number.parse::<u64>().ok()).sum()
}

impl fmt::Display for Used {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "cpu time        {:.3} s", self.cpu)?;
        writeln!(f, "throttled       {:.3} s", self.throttled)?;
        writeln!(f, "memory peak     {:.1} MiB", self.memory as f64 / f64::from(1 << 20))?;
        match self.pids {
            Some(pids) => writeln!(f, "processes peak  {pids}")?,
            None => writeln!(f, "processes peak  unknown: this kernel does not count it")?,
        }
        writeln!(f, "bytes read      {}", self.read)?;
        writeln!(f, "bytes written   {}", self.written)?;
        writeln!(f, "OOM kills       {}", self.oom_kills)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_both_kinds_are_read() {
        assert_eq!(field("usage_usec 1500\nuser_usec 9\n", "usage_usec"), 1500);
        assert_eq!(field("oom 1\noom_kill 2\n", "oom_kill"), 2);
        assert_eq!(sum("8:0 rbytes=10 wbytes=5\n8:16 rbytes=7 wbytes=0\n", "rbytes="), 17);
        assert_eq!(sum("8:0 Read 10\n8:0 Write 5\nTotal 15\n", "Write "), 5);
    }
}
