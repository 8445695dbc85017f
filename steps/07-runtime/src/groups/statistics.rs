//! All that a group has counted; step 5 has a few figures of it ([`cgroups::stats`]). It is JSON in the form that runc's
//! `events --stats` gave to the world, in v1's terms on either version. What the kernel does not count is left out, or 0.

use std::collections::BTreeMap;

use kernel::sys::cgroup;
use serde_json::{Map, Value, json};

use super::Cgroup;
use cgroups::CpuList;
use cgroups::stats::{field, number};

impl Cgroup {
    /// The `data` of a `stats` event: times in nanoseconds, memory in bytes, "no limit" as the largest number.
    pub fn statistics(&self) -> Value {
        let mut all = json!({
            "cpu": if self.directories.is_v2() { self.cpu_v2() } else { self.cpu_v1() },
            "memory": if self.directories.is_v2() { self.memory_v2() } else { self.memory_v1() },
            "pids": { "current": self.number("pids.current"), "limit": number(&self.text("pids.max")) },
            "blkio": if self.directories.is_v2() { self.disks_v2() } else { self.disks_v1() },
            "hugetlb": self.huge_pages(),
            "intel_rdt": {},
            "network_interfaces": null,
        });
        let cpuset = self.cpuset();
        if !cpuset.is_null() {
            all["cpuset"] = cpuset;
        }
        all
    }

    /// A file, from the tree that has it.
    fn text(&self, file: &str) -> String {
        self.directories
            .limiting()
            .map(|group| cgroup::read(group, file))
            .find(|text| !text.is_empty())
            .unwrap_or_default()
    }

    /// `max` is the largest number; a file that is missing says 0.
    fn number(&self, file: &str) -> u64 {
        let text = self.text(file);
        if text.trim() == "max" { u64::MAX } else { number(&text) }
    }

    fn cpu_v2(&self) -> Value {
        let stat = self.text("cpu.stat");
        let nanoseconds = |name: &str| field(&stat, name) * 1000;
        let usage = json!({
            "total": nanoseconds("usage_usec"),
            "kernel": nanoseconds("system_usec"),
            "user": nanoseconds("user_usec"),
        });
        let throttling = throttling(&stat, nanoseconds("throttled_usec"));
        json!({ "usage": usage, "throttling": throttling, "psi": self.pressure("cpu.pressure") })
    }

    /// cpuacct.stat counts in ticks of a hundredth of a second, whatever the kernel's own are (USER_HZ).
    fn cpu_v1(&self) -> Value {
        const TICK: u64 = 10_000_000;
        let (stat, ticks) = (self.text("cpu.stat"), self.text("cpuacct.stat"));
        let each = self.text("cpuacct.usage_all"); // a title, then: cpu user system
        let column = |index: usize| -> Vec<u64> {
            each.lines().skip(1).filter_map(|line| line.split(' ').nth(index)?.parse().ok()).collect()
        };
        let per_cpu: Vec<u64> =
            self.text("cpuacct.usage_percpu").split_whitespace().filter_map(|time| time.parse().ok()).collect();
        json!({
            "usage": {
                "total": self.number("cpuacct.usage"),
                "percpu": per_cpu,
                "percpu_kernel": column(2),
                "percpu_user": column(1),
                "kernel": field(&ticks, "system") * TICK,
                "user": field(&ticks, "user") * TICK,
            },
            "throttling": throttling(&stat, field(&stat, "throttled_time")),
        })
    }

    /// Memory and swap together is what v1 counts; v2 has the two apart, and no peak of their sum.
    fn memory_v2(&self) -> Value {
        let events = self.text("memory.events");
        let raw = fields(&self.text("memory.stat"));
        let usage = self.number("memory.current");
        let limit = self.number("memory.max");
        let swap_limit = self.number("memory.swap.max");
        let together = if swap_limit == u64::MAX { swap_limit } else { limit.saturating_add(swap_limit) };
        let failures = field(&self.text("memory.swap.events"), "max");
        json!({
            "cache": raw.get("file").copied().unwrap_or_default(),
            "usage": entry(limit, usage, self.number("memory.peak"), field(&events, "max")),
            "swap": entry(together, usage + self.number("memory.swap.current"), 0, failures),
            "raw": raw,
            "psi": self.pressure("memory.pressure"),
            "event_count": fields(&events),
        })
    }

    fn memory_v1(&self) -> Value {
        let raw = fields(&self.text("memory.stat"));
        let of = |name: &str| {
            let file = |what: &str| self.number(&format!("memory.{name}{what}"));
            entry(file("limit_in_bytes"), file("usage_in_bytes"), file("max_usage_in_bytes"), file("failcnt"))
        };
        json!({
            "cache": raw.get("cache").copied().unwrap_or_default(),
            "usage": of(""),
            "swap": of("memsw."),
            "kernel": of("kmem."),
            "kernelTCP": of("kmem.tcp."),
            "raw": raw,
        })
    }

    /// Lines of `8:0 rbytes=1024 wbytes=0 rios=1 wios=0 ...`
    fn disks_v2(&self) -> Value {
        let text = self.text("io.stat");
        let entries = |read: &str, write: &str| -> Vec<Value> {
            let lines = text.lines().filter_map(|line| line.split_once(' '));
            let counts = lines.flat_map(|(device, counts)| counts.split(' ').map(move |count| (device, count)));
            let wanted = counts.filter_map(|(device, count)| match count.split_once('=')? {
                (name, number) if name == read => disk_entry(device, "Read", number),
                (name, number) if name == write => disk_entry(device, "Write", number),
                _ => None,
            });
            wanted.collect()
        };
        json!({
            "ioServiceBytesRecursive": entries("rbytes", "wbytes"),
            "ioServicedRecursive": entries("rios", "wios"),
            "psi": self.pressure("io.pressure"),
        })
    }

    /// Lines of `8:0 Read 1024`, and a last one with the total.
    fn disks_v1(&self) -> Value {
        let entries = |file: &str| -> Vec<Value> {
            let text = self.text(file);
            let words = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
            words
                .filter(|words| words.len() == 3)
                .filter_map(|words| disk_entry(words[0], words[1], words[2]))
                .collect()
        };
        json!({
            "ioServiceBytesRecursive": entries("blkio.throttle.io_service_bytes_recursive"),
            "ioServicedRecursive": entries("blkio.throttle.io_serviced_recursive"),
        })
    }

    /// By size: the files of the group say which there are.
    fn huge_pages(&self) -> Value {
        let names =
            self.directories.limiting().flat_map(|group| std::fs::read_dir(group).into_iter().flatten().flatten());
        let names = names.filter_map(|entry| entry.file_name().into_string().ok());
        let size = |name: String| {
            let rest = name.strip_prefix("hugetlb.")?;
            let size = rest.strip_suffix(".current").or(rest.strip_suffix(".usage_in_bytes"))?;
            (!size.contains('.')).then(|| size.to_owned()) // else it is the reserved ones'
        };
        let pages = names.filter_map(size).map(|size| {
            let file = |what: &str| self.number(&format!("hugetlb.{size}.{what}"));
            let value = match self.directories.is_v2() {
                true => {
                    let failures = field(&self.text(&format!("hugetlb.{size}.events")), "max");
                    json!({ "usage": file("current"), "failcnt": failures })
                }
                false => json!({
                    "usage": file("usage_in_bytes"), "max": file("max_usage_in_bytes"), "failcnt": file("failcnt"),
                }),
            };
            (size, value)
        });
        Value::Object(pages.collect::<Map<_, _>>())
    }

    /// v1's alone, as in runc.
    fn cpuset(&self) -> Value {
        if self.directories.is_v2() || self.directory_with("cpuset.cpus").is_err() {
            return Value::Null;
        }
        let of = |name: &str| self.number(&format!("cpuset.{name}"));
        json!({
            "cpus": list(&self.text("cpuset.cpus")),
            "mems": list(&self.text("cpuset.mems")),
            "cpu_exclusive": of("cpu_exclusive"),
            "mem_exclusive": of("mem_exclusive"),
            "mem_hardwall": of("mem_hardwall"),
            "memory_migrate": of("memory_migrate"),
            "memory_spread_page": of("memory_spread_page"),
            "memory_spread_slab": of("memory_spread_slab"),
            "memory_pressure": of("memory_pressure"),
            "sched_load_balance": of("sched_load_balance"),
            "sched_relax_domain_level": self.text("cpuset.sched_relax_domain_level").trim().parse().unwrap_or(-1_i64),
        })
    }

    /// How long some processes, or all of them, waited (Documentation/accounting/psi.rst): `some avg10=0.00 ... total=0`
    fn pressure(&self, file: &str) -> Value {
        let text = self.text(file);
        let lines = text.lines().filter_map(|line| {
            let (who, counts) = line.split_once(' ')?;
            let counts = counts.split(' ').filter_map(|count| count.split_once('='));
            let value = |(name, count): (&str, &str)| {
                let number = if name == "total" { json!(number(count)) } else { json!(count.parse::<f64>().ok()?) };
                Some((name.to_owned(), number))
            };
            Some((who.to_owned(), Value::Object(counts.filter_map(value).collect::<Map<_, _>>())))
        });
        Value::Object(lines.collect::<Map<_, _>>())
    }
}

fn throttling(stat: &str, time: u64) -> Value {
    json!({
        "periods": field(stat, "nr_periods"),
        "throttledPeriods": field(stat, "nr_throttled"),
        "throttledTime": time,
    })
}

fn entry(limit: u64, usage: u64, max: u64, failures: u64) -> Value {
    json!({ "limit": limit, "usage": usage, "max": max, "failcnt": failures })
}

fn disk_entry(device: &str, word: &str, count: &str) -> Option<Value> {
    let (major, minor) = device.split_once(':')?;
    let value: u64 = count.parse().ok()?;
    Some(json!({ "major": number(major), "minor": number(minor), "op": word, "value": value }))
}

/// A file of `name number` lines.
fn fields(text: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| line.split_once(' ').and_then(|(name, count)| Some((name.to_owned(), count.parse().ok()?)));
    text.lines().filter_map(line).collect()
}

/// `0-2,7` as numbers.
fn list(text: &str) -> Vec<usize> {
    CpuList::parse(text).unwrap_or_default().numbers().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cgroups::Directories;

    /// A group of v2, as a directory with a few of its files.
    fn group(name: &str, files: &[(&str, &str)]) -> Cgroup {
        let directory = std::env::temp_dir().join(format!("cellblock-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        files.iter().for_each(|(file, text)| std::fs::write(directory.join(file), text).unwrap());
        Cgroup { directories: Directories { unified: Some(directory), legacy: Vec::new() }, ..Cgroup::default() }
    }

    #[test]
    fn v2_in_terms_of_v1() {
        let group = group(
            "statistics",
            &[
                (
                    "cpu.stat",
                    "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 9\nnr_throttled 1\nthrottled_usec 4\n",
                ),
                ("cpu.pressure", "some avg10=0.50 avg60=0.00 avg300=0.00 total=12\n"),
                ("memory.current", "100\n"),
                ("memory.max", "max\n"),
                ("memory.swap.current", "20\n"),
                ("memory.swap.max", "max\n"),
                ("memory.stat", "anon 60\nfile 40\n"),
                ("pids.current", "2\n"),
                ("pids.max", "max\n"),
                ("io.stat", "8:0 rbytes=1024 wbytes=0 rios=3 wios=0 dbytes=0 dios=0\n"),
                ("hugetlb.2MB.current", "0\n"),
                ("hugetlb.2MB.rsvd.current", "0\n"),
            ],
        );
        let all = group.statistics();
        std::fs::remove_dir_all(group.directories.unified.unwrap()).unwrap();
        assert_eq!(all["cpu"]["usage"], json!({"total": 5000, "kernel": 2000, "user": 3000}));
        assert_eq!(all["cpu"]["throttling"], json!({"periods": 9, "throttledPeriods": 1, "throttledTime": 4000}));
        assert_eq!(all["cpu"]["psi"]["some"]["avg10"], json!(0.5));
        assert_eq!(all["memory"]["usage"]["limit"], json!(u64::MAX));
        assert_eq!((&all["memory"]["swap"]["usage"], &all["memory"]["cache"]), (&json!(120), &json!(40)));
        assert_eq!(all["pids"], json!({"current": 2, "limit": 0}), "no limit is 0 here, as in runc");
        let entry = json!({"major": 8, "minor": 0, "op": "Read", "value": 3});
        assert_eq!(all["blkio"]["ioServicedRecursive"][0], entry);
        assert_eq!(all["hugetlb"], json!({"2MB": {"usage": 0, "failcnt": 0}}));
        assert!(all.get("cpuset").is_none());
    }

    #[test]
    fn lists_of_cpus() {
        assert_eq!(list("0-2,7\n"), [0, 1, 2, 7]);
        assert_eq!(list("\n"), [0; 0]);
    }
}
