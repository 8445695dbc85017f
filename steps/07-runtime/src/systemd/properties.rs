//! Limits as a unit's properties (man 5 systemd.resource-control): the same that [`crate::groups::resources`]
//! writes to files. systemd writes the files of its units itself, at each `systemctl daemon-reload` for one; a limit that
//! it does not know it would then undo. What has no property stays in the files alone, as with runc.
//!
//! All of these properties are older than the oldest kernel of this workshop: the youngest came with systemd 244.

use cgroups::CpuList;
use kernel::Failure;

use super::message::{Property, Value};
use crate::groups::resources::v2::{swap, weight_of_io, weight_of_shares};
use crate::groups::resources::{nonempty, nonzero};
use crate::spec::{Cpu, Resources};

/// The kernel's own period, in microseconds.
const PERIOD: u64 = 100_000;
/// How an annotation begins that is a property of the unit.
pub const ANNOTATION: &str = "org.systemd.property.";
/// These decide whose the unit is, and what we find in it.
const OURS: [&str; 3] = ["Slice", "PIDs", "Delegate"];

/// What systemd can know of the limits.
///
/// # Errors
/// A value that cannot be understood.
pub fn of(resources: &Resources, is_v2: bool) -> Result<Vec<Property>, Failure> {
    let mut all = Vec::new();
    let mut put = |name: &str, value: u64| all.push((name.to_owned(), Value::Uint64(value)));
    let memory = &resources.memory;
    // -1 is the largest number, which is systemd's "infinity".
    let limit = if is_v2 { "MemoryMax" } else { "MemoryLimit" };
    nonzero(memory.limit).into_iter().for_each(|bytes| put(limit, bytes as u64));
    resources.pids_limit().into_iter().for_each(|number| put("TasksMax", number as u64));
    let (shares, weight) = (nonzero(resources.cpu.shares), nonzero(resources.block_io.weight));
    if is_v2 {
        nonzero(memory.reservation).into_iter().for_each(|bytes| put("MemoryLow", bytes as u64));
        swap(memory)?.into_iter().for_each(|bytes| put("MemorySwapMax", bytes as u64));
        shares.into_iter().for_each(|shares| put("CPUWeight", weight_of_shares(shares)));
        weight.into_iter().for_each(|weight| put("IOWeight", weight_of_io(weight)));
    } else {
        shares.into_iter().for_each(|shares| put("CPUShares", shares));
        weight.into_iter().for_each(|weight| put("BlockIOWeight", weight.into()));
    }
    quota(&resources.cpu, &mut put);
    for (name, list) in [("AllowedCPUs", &resources.cpu.cpus), ("AllowedMemoryNodes", &resources.cpu.mems)] {
        if let (Some(list), true) = (nonempty(list), is_v2) {
            all.push((name.to_owned(), Value::Bytes(bits(list)?)));
        }
    }
    for (file, value) in resources.unified.iter().filter(|_| is_v2) {
        all.extend(of_file(file, value.trim())?);
    }
    Ok(all)
}

/// systemd counts quotas in whole percents of a CPU. Rounded up, the exact one still fits, which is written afterwards.
fn quota(cpu: &Cpu, put: &mut dyn FnMut(&str, u64)) {
    const PERCENT: u64 = 10_000;
    let (quota, period) = (nonzero(cpu.quota), nonzero(cpu.period));
    period.into_iter().for_each(|period| put("CPUQuotaPeriodUSec", period));
    match quota {
        Some(quota) if quota > 0 => {
            let per_second = (quota as u64).saturating_mul(1_000_000) / period.unwrap_or(PERIOD);
            put("CPUQuotaPerSecUSec", per_second.next_multiple_of(PERCENT));
        }
        None if period.is_none() => {}
        _ => put("CPUQuotaPerSecUSec", u64::MAX),
    }
}

/// A list such as `0-3,7` as systemd takes it.
fn bits(list: &str) -> Result<Vec<u8>, Failure> {
    let refuse = || Failure::new(format!("{list:?} is no list of CPUs or memory nodes")).hint("such as 0-3,7");
    CpuList::parse(list).map(|list| list.mask()).ok_or_else(refuse)
}

/// A file of v2 that has a property of its own; none for others.
fn of_file(file: &str, value: &str) -> Result<Vec<Property>, Failure> {
    let refuse = || Failure::new(format!("resources.unified: {file}: {value:?} is no number, nor \"max\""));
    let amount = |text: &str| if text == "max" { Ok(u64::MAX) } else { text.parse().map_err(|_| refuse()) };
    let name = match file {
        "cpu.weight" => "CPUWeight",
        "memory.high" => "MemoryHigh",
        "memory.low" => "MemoryLow",
        "memory.max" => "MemoryMax",
        "memory.min" => "MemoryMin",
        "memory.swap.max" => "MemorySwapMax",
        "pids.max" => "TasksMax",
        "cpuset.cpus" => return Ok(vec![("AllowedCPUs".to_owned(), Value::Bytes(bits(value)?))]),
        "cpuset.mems" => return Ok(vec![("AllowedMemoryNodes".to_owned(), Value::Bytes(bits(value)?))]),
        "cpu.max" => {
            let (time, period) = value.split_once(' ').unwrap_or((value, ""));
            let period = if period.is_empty() { None } else { Some(amount(period.trim())?) };
            let time = if time == "max" { -1 } else { time.parse().map_err(|_| refuse())? };
            let mut all = Vec::new();
            let cpu = Cpu { quota: Some(time), period, ..Cpu::default() };
            quota(&cpu, &mut |name, value| all.push((name.to_owned(), Value::Uint64(value))));
            return Ok(all);
        }
        _ => return Ok(Vec::new()),
    };
    Ok(vec![(name.to_owned(), Value::Uint64(amount(value)?))])
}

/// An annotation's property: its name is the annotation's rest, its value is written as GVariant writes it. Of a time in
/// seconds, `NameSec`, systemd's interface has `NameUSec`.
///
/// # Errors
/// No name of a property; one that is ours to give; a value of a kind that no property needs.
pub fn of_annotation(key: &str, value: &str) -> Result<Option<Property>, Failure> {
    let Some(name) = key.strip_prefix(ANNOTATION) else { return Ok(None) };
    let refuse = |why: &str| Failure::new(format!("annotations[{key:?}]: {why}"));
    if name.len() < 3 || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Err(refuse("no property of systemd's has that name").hint("such as org.systemd.property.TasksMax"));
    }
    if OURS.contains(&name) {
        return Err(refuse("that is ours to give").hint("the slice stands in linux.cgroupsPath: SLICE:PREFIX:NAME"));
    }
    let value = of_text(value.trim()).ok_or_else(|| {
        refuse("its value cannot be read").hint("such as true, 'text', ['a', 'b'], 5, int64 5, uint64 5")
    })?;
    let seconds = name.strip_suffix("Sec").filter(|name| !name.ends_with('U'));
    match (seconds, value) {
        (None, value) => Ok(Some((name.to_owned(), value))),
        (Some(name), value) => {
            let count = match value {
                Value::Int32(number) => u64::try_from(number).ok(),
                Value::Int64(number) => u64::try_from(number).ok(),
                Value::Uint32(number) => Some(number.into()),
                Value::Uint64(number) => Some(number),
                _ => None,
            };
            let count = count.and_then(|count| count.checked_mul(1_000_000));
            let count = count.ok_or_else(|| refuse("a number of seconds was expected"))?;
            Ok(Some((format!("{name}USec"), Value::Uint64(count))))
        }
    }
}

fn of_text(text: &str) -> Option<Value> {
    if let Some(list) = text.strip_prefix('[') {
        let list = list.strip_suffix(']')?.trim();
        let items = if list.is_empty() { Vec::new() } else { list.split(',').collect() };
        return items.into_iter().map(|item| quoted(item.trim())).collect::<Option<_>>().map(Value::Texts);
    }
    if text.starts_with(['\'', '"']) {
        return quoted(text).map(Value::Text);
    }
    match text.split_once(' ').map_or(("", text), |(kind, number)| (kind, number.trim())) {
        ("", "true") => Some(Value::Bool(true)),
        ("", "false") => Some(Value::Bool(false)),
        ("" | "int32", number) => number.parse().ok().map(Value::Int32),
        ("uint32", number) => number.parse().ok().map(Value::Uint32),
        ("int64", number) => number.parse().ok().map(Value::Int64),
        ("uint64", number) => number.parse().ok().map(Value::Uint64),
        _ => None,
    }
}

/// What stands between two quotation marks. None is needed within, and no backslash.
fn quoted(text: &str) -> Option<String> {
    let mark = text.chars().next().filter(|mark| ['\'', '"'].contains(mark))?;
    let inner = text[1..].strip_suffix(mark)?;
    (!inner.contains([mark, '\\'])).then(|| inner.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Memory, Pids};

    fn number(name: &str, value: u64) -> Property {
        (name.to_owned(), Value::Uint64(value))
    }

    #[test]
    fn limits_on_v2() {
        let cpu = Cpu { shares: Some(1024), quota: Some(12_345), cpus: Some("0-2,9".to_owned()), ..Cpu::default() };
        let memory = Memory { limit: Some(64 << 20), swap: Some(96 << 20), ..Memory::default() };
        let asked = Resources { memory, cpu, pids: Some(Pids { limit: Some(-1) }), ..Resources::default() };
        let expected = [
            number("MemoryMax", 64 << 20),
            number("TasksMax", u64::MAX),
            number("MemorySwapMax", 32 << 20),
            number("CPUWeight", 100),
            number("CPUQuotaPerSecUSec", 130_000),
            ("AllowedCPUs".to_owned(), Value::Bytes(vec![0b111, 0b10])),
        ];
        assert_eq!(of(&asked, true).unwrap(), expected);
        assert_eq!(of(&Resources::default(), true).unwrap(), []);
    }

    #[test]
    fn limits_on_v1_have_older_names() {
        let cpu = Cpu { shares: Some(512), period: Some(50_000), cpus: Some("0".to_owned()), ..Cpu::default() };
        let asked = Resources { cpu, pids: Some(Pids { limit: Some(7) }), ..Resources::default() };
        let expected = [
            number("TasksMax", 7),
            number("CPUShares", 512),
            number("CPUQuotaPeriodUSec", 50_000),
            number("CPUQuotaPerSecUSec", u64::MAX),
        ];
        assert_eq!(of(&asked, false).unwrap(), expected);
    }

    #[test]
    fn files_of_v2() {
        let of_file = |file: &str, value: &str| of_file(file, value).unwrap();
        assert_eq!(of_file("memory.high", "max"), [number("MemoryHigh", u64::MAX)]);
        assert_eq!(of_file("cpu.max", "max"), [number("CPUQuotaPerSecUSec", u64::MAX)]);
        let half = [number("CPUQuotaPeriodUSec", 50_000), number("CPUQuotaPerSecUSec", 500_000)];
        assert_eq!(of_file("cpu.max", "25000 50000"), half);
        assert_eq!(of_file("memory.oom.group", "1"), []);
        assert!(super::of_file("pids.max", "many").is_err() && super::of_file("cpu.max", "1 x").is_err());
    }

    #[test]
    fn annotations() {
        let read = |name: &str, value: &str| of_annotation(&format!("{ANNOTATION}{name}"), value);
        let value = |name: &str, text: &str| read(name, text).unwrap().unwrap().1;
        assert_eq!(of_annotation("org.other", "x"), Ok(None));
        assert_eq!(value("SendSIGHUP", "true"), Value::Bool(true));
        assert_eq!(value("CollectMode", "'inactive-or-failed'"), Value::Text("inactive-or-failed".to_owned()));
        assert_eq!(
            value("Wants", "['a.target', \"b.target\"]"),
            Value::Texts(vec!["a.target".into(), "b.target".into()])
        );
        assert_eq!(value("After", "[]"), Value::Texts(vec![]));
        assert_eq!(value("Nice", "-5"), Value::Int32(-5));
        assert_eq!(value("TasksMax", "uint64 9"), Value::Uint64(9));
        assert_eq!(value("TimeoutStopUSec", "uint64 9"), Value::Uint64(9));
        assert_eq!(read("TimeoutStopSec", "9").unwrap(), Some(number("TimeoutStopUSec", 9_000_000)));
        for (name, text) in [
            ("ab", "1"),
            ("Tasks-Max", "1"),
            ("Slice", "'x.slice'"),
            ("PIDs", "1"),
            ("TimeoutStopSec", "'9'"),
            ("TimeoutStopSec", "-1"),
            ("Nice", "byte 1"),
            ("Nice", "1x"),
            ("Nice", ""),
            ("After", "['a"),
            ("After", "'it''s'"),
        ] {
            assert!(read(name, text).is_err(), "{name} {text}");
        }
    }
}
