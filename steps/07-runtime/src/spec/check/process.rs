//! Rules for a process, of `create` or of `exec`.

use kernel::Failure;

use super::{Known, absolute, check_list, ensure, quoted};
use crate::spec::{IoPriority, Process, Rlimit, Scheduler, SchedulerPolicy};

/// Checks a process; `at` stands before its fields in a failure: `process.`, or nothing for a file that is all process.
///
/// # Errors
/// The first rule that does not hold.
pub fn check_process(process: &Process, at: &str, known: &Known) -> Result<(), Failure> {
    absolute(format_args!("{at}cwd"), &process.cwd)?;
    let program = process.args.first().map(String::as_str).unwrap_or_default();
    ensure(!program.is_empty(), format_args!("{at}args"), "no program: at least one entry is needed")?;
    check_env(at, &process.env)?;
    check_console_size(process, at)?;
    if let Some(umask) = process.user.as_ref().and_then(|user| user.umask) {
        ensure(umask <= 0o777, format_args!("{at}user.umask"), format_args!("{umask} is more than 511, octal 777"))?;
    }
    check_capabilities(process, at, known)?;
    check_rlimits(&process.rlimits, at, known)?;
    if let Some(score) = process.oom_score_adj {
        in_range(&format!("{at}oomScoreAdj"), score, -1000, 1000)?;
    }
    process.scheduler.as_ref().map_or(Ok(()), |scheduler| check_scheduler(scheduler, at))?;
    process.io_priority.as_ref().map_or(Ok(()), |priority| check_io_priority(priority, at))?;
    let Some(affinity) = &process.exec_cpu_affinity else { return Ok(()) };
    for (name, list) in [("initial", &affinity.initial), ("final", &affinity.last)] {
        list.as_deref().map_or(Ok(()), |list| check_list(format_args!("{at}execCPUAffinity.{name}"), list))?;
    }
    Ok(())
}

/// Without a name or without `=`, a program could not read the variable.
pub fn check_env(at: &str, env: &[String]) -> Result<(), Failure> {
    for (index, variable) in env.iter().enumerate() {
        let named = variable.find('=').is_some_and(|length| length > 0);
        ensure(named, format_args!("{at}env[{index}]"), format_args!("{} is not NAME=VALUE", quoted(variable)))?;
    }
    Ok(())
}

/// Without a terminal the size must be ignored; with one, the kernel holds it in 16 bits.
fn check_console_size(process: &Process, at: &str) -> Result<(), Failure> {
    let Some(size) = process.console_size.as_ref().filter(|_| process.terminal) else { return Ok(()) };
    for (name, value) in [("height", size.height), ("width", size.width)] {
        let why = format!("{value} is more than 65535");
        ensure(value <= 65535, format_args!("{at}consoleSize.{name}"), why)?;
    }
    Ok(())
}

fn check_capabilities(process: &Process, at: &str, known: &Known) -> Result<(), Failure> {
    let Some(capabilities) = &process.capabilities else { return Ok(()) };
    for (set, names) in capabilities.sets() {
        for (index, name) in names.iter().enumerate() {
            let path = format!("{at}capabilities.{set}[{index}]");
            ensure((known.capability)(name), path, format_args!("{} is not a capability", quoted(name)))?;
        }
    }
    Ok(())
}

fn check_rlimits(rlimits: &[Rlimit], at: &str, known: &Known) -> Result<(), Failure> {
    for (index, rlimit) in rlimits.iter().enumerate() {
        let kind = quoted(&rlimit.kind);
        let path = format!("{at}rlimits[{index}].type");
        ensure((known.rlimit)(&rlimit.kind), &path, format_args!("{kind} is not a resource limit"))?;
        let twice = rlimits[..index].iter().any(|earlier| earlier.kind == rlimit.kind);
        ensure(!twice, path, format_args!("{kind} is there twice"))?;
        let path = format!("{at}rlimits[{index}].soft");
        ensure(rlimit.soft <= rlimit.hard, path, format_args!("{} is more than the hard limit", rlimit.soft))?;
    }
    Ok(())
}

/// What `sched_setattr` would refuse (man 2 sched_setattr), and what it would ignore.
fn check_scheduler(scheduler: &Scheduler, at: &str) -> Result<(), Failure> {
    use SchedulerPolicy::*;
    let at = format!("{at}scheduler.");
    ensure(scheduler.policy != SchedIso, format_args!("{at}policy"), "Linux has a number for SCHED_ISO, and no more")?;
    in_range(&format!("{at}nice"), scheduler.nice.unwrap_or(0).into(), -20, 19)?;
    let priority = scheduler.priority.unwrap_or(0).into();
    if matches!(scheduler.policy, SchedFifo | SchedRr) {
        in_range(&format!("{at}priority"), priority, 1, 99)?;
    } else {
        ensure(priority == 0, format_args!("{at}priority"), "only SCHED_FIFO and SCHED_RR have one")?;
    }
    let times = [("runtime", scheduler.runtime), ("deadline", scheduler.deadline), ("period", scheduler.period)];
    for (name, time) in times {
        let fits = scheduler.policy == SchedDeadline || time.unwrap_or(0) == 0;
        ensure(fits, format_args!("{at}{name}"), "only SCHED_DEADLINE has one")?;
    }
    Ok(())
}

fn check_io_priority(priority: &IoPriority, at: &str) -> Result<(), Failure> {
    in_range(&format!("{at}ioPriority.priority"), priority.priority.unwrap_or(0), 0, 7)
}

fn in_range(path: &str, value: i64, least: i64, most: i64) -> Result<(), Failure> {
    ensure((least..=most).contains(&value), path, format_args!("{value} is not in {least} to {most}"))
}
