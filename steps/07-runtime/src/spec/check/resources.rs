//! Rules for limits. A zero where zero cannot be meant is what callers in Go write for "not set".

use kernel::Failure;

use super::{check_list, ensure, entry, quoted, unsupported};
use crate::spec::{BlockIo, Cpu, DeviceRule, HugepageLimit, Memory, Resources};

/// Checks limits; `at` stands before the fields in a failure: `linux.resources.`, or nothing for `update`.
///
/// # Errors
/// The first rule that does not hold, or the first limit that no kernel from 5.14 on can keep.
pub fn check_resources(resources: &Resources, at: &str) -> Result<(), Failure> {
    for (index, rule) in resources.devices.iter().enumerate() {
        check_rule(rule, &format!("{at}devices[{index}]."))?;
    }
    check_memory(&resources.memory, &format!("{at}memory."))?;
    check_cpu(&resources.cpu, &format!("{at}cpu."))?;
    check_block_io(&resources.block_io, &format!("{at}blockIO."))?;
    check_hugepages(&resources.hugepage_limits, at)?;
    let unified = format!("{at}unified");
    for name in resources.unified.keys() {
        let file = name.contains('.') && !name.starts_with('.') && !name.contains('/');
        ensure(file, entry(&unified, name), "not a file of a cgroup, such as memory.high")?;
    }
    unsupported::check_resources(resources, at)
}

fn check_rule(rule: &DeviceRule, at: &str) -> Result<(), Failure> {
    let access = rule.access.as_deref().unwrap_or("rwm");
    let known = access.chars().all(|c| "rwm".contains(c));
    ensure(known, format_args!("{at}access"), format_args!("{} is not made of r, w and m", quoted(access)))?;
    for (name, number) in [("major", rule.major), ("minor", rule.minor)] {
        let number = number.unwrap_or(-1);
        let fits = (-1..=i64::from(u32::MAX)).contains(&number);
        ensure(fits, format_args!("{at}{name}"), format_args!("{number} is not in -1 to {}", u32::MAX))?;
    }
    Ok(())
}

fn check_memory(memory: &Memory, at: &str) -> Result<(), Failure> {
    let amounts = [("limit", memory.limit), ("reservation", memory.reservation), ("swap", memory.swap)];
    for (name, amount) in amounts {
        let amount = amount.unwrap_or(0);
        ensure(
            amount >= -1,
            format_args!("{at}{name}"),
            format_args!("{amount} is not -1, which is no limit, or more"),
        )?;
    }
    let (limit, swap) = (memory.limit.unwrap_or(0), memory.swap.unwrap_or(0));
    let why = "memory and swap together are less than memory alone";
    ensure(limit <= 0 || swap <= 0 || limit <= swap, format_args!("{at}swap"), why)?;
    let swappiness = memory.swappiness.unwrap_or(0);
    // Older podman writes the largest number for "not set".
    let fits = swappiness <= 100 || swappiness == u64::MAX;
    ensure(fits, format_args!("{at}swappiness"), format_args!("{swappiness} is not in 0 to 100"))
}

fn check_cpu(cpu: &Cpu, at: &str) -> Result<(), Failure> {
    let shares = cpu.shares.unwrap_or(0);
    ensure(shares <= 262_144, format_args!("{at}shares"), format_args!("{shares} is more than 262144"))?;
    let quota = cpu.quota.unwrap_or(0);
    let why = format!("{quota} is not -1, which is no limit, or 1000 or more");
    ensure(matches!(quota, -1 | 0 | 1000..), format_args!("{at}quota"), why)?;
    let period = cpu.period.unwrap_or(0);
    let why = format!("{period} is not in 1000 to 1000000");
    ensure(matches!(period, 0 | 1000..=1_000_000), format_args!("{at}period"), why)?;
    let saved = quota <= 0 || cpu.burst.unwrap_or(0) <= quota.unsigned_abs();
    ensure(saved, format_args!("{at}burst"), "more than the quota")?;
    let idle = cpu.idle.unwrap_or(0);
    ensure(matches!(idle, 0 | 1), format_args!("{at}idle"), format_args!("{idle} is neither 0 nor 1"))?;
    for (name, list) in [("cpus", &cpu.cpus), ("mems", &cpu.mems)] {
        list.as_deref().map_or(Ok(()), |list| check_list(format_args!("{at}{name}"), list))?;
    }
    Ok(())
}

fn check_block_io(block_io: &BlockIo, at: &str) -> Result<(), Failure> {
    let weight = block_io.weight.unwrap_or(0);
    ensure(is_weight(weight), format_args!("{at}weight"), format_args!("{weight} is not in 10 to 1000"))?;
    for (index, device) in block_io.weight_device.iter().enumerate() {
        let at = format!("{at}weightDevice[{index}]");
        check_disk(&at, device.major, device.minor)?;
        let given = device.weight.is_some() || device.leaf_weight.is_some();
        ensure(given, &at, "no weight")?;
        let weight = device.weight.unwrap_or(0);
        ensure(is_weight(weight), format_args!("{at}.weight"), format_args!("{weight} is not in 10 to 1000"))?;
    }
    for (list, devices) in block_io.throttles() {
        for (index, device) in devices.iter().enumerate() {
            check_disk(&format!("{at}{list}[{index}]"), device.major, device.minor)?;
        }
    }
    Ok(())
}

fn is_weight(weight: u16) -> bool {
    matches!(weight, 0 | 10..=1000)
}

fn check_disk(at: &str, major: i64, minor: i64) -> Result<(), Failure> {
    ensure((0..1 << 12).contains(&major), format_args!("{at}.major"), format_args!("{major} is not in 0 to 4095"))?;
    ensure((0..1 << 20).contains(&minor), format_args!("{at}.minor"), format_args!("{minor} is not in 0 to 1048575"))
}

fn check_hugepages(limits: &[HugepageLimit], at: &str) -> Result<(), Failure> {
    for (index, limit) in limits.iter().enumerate() {
        let path = format!("{at}hugepageLimits[{index}].pageSize");
        let size = quoted(&limit.page_size);
        ensure(is_page_size(&limit.page_size), &path, format_args!("{size} is not a size such as 2MB"))?;
        let twice = limits[..index].iter().any(|earlier| earlier.page_size == limit.page_size);
        ensure(!twice, path, format_args!("{size} is there twice"))?;
    }
    Ok(())
}

/// As the kernel names its files: hugetlb.2MB.max. The size is a part of a file's name here, so nothing else passes.
fn is_page_size(text: &str) -> bool {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let number = !digits.is_empty() && !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
    number && ["KB", "MB", "GB"].contains(&&text[digits.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(json: serde_json::Value) -> Option<String> {
        let resources: Resources = serde_json::from_value(json).unwrap();
        check_resources(&resources, "").err().map(|failure| failure.to_string())
    }

    #[test]
    fn what_docker_update_writes() {
        let zeros = serde_json::json!({
            "memory": {"limit": 67108864, "reservation": 0, "swap": 134217728, "kernel": 0},
            "cpu": {"shares": 0, "period": 0, "quota": 0, "cpus": "", "mems": ""},
            "blockIO": {"weight": 0},
            "pids": {"limit": 0},
        });
        assert_eq!(refusal(zeros), None);
    }

    #[test]
    fn sizes_of_huge_pages() {
        for right in ["64KB", "2MB", "1GB"] {
            assert!(is_page_size(right), "{right:?}");
        }
        for wrong in ["", "MB", "2", "02MB", "2mb", "2 MB", "../2MB", "2MB/", "2XB", "\u{e4}MB"] {
            assert!(!is_page_size(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn names_of_files() {
        for wrong in ["memory", "", ".x", "../memory.max", "a/b.max"] {
            assert!(refusal(serde_json::json!({"unified": {wrong: "1"}})).is_some(), "{wrong:?}");
        }
        assert_eq!(refusal(serde_json::json!({"unified": {"memory.high": "max"}})), None);
    }
}
