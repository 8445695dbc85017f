//! From a profile to a plan: what is wrong with the profile is said here, before anything is made; Docker's
//! conditions are decided; words become the kernel's numbers.

use anyhow::{Context, Result};
use kernel::sys::seccomp::Flags;
use kernel::{Errno, Failure};

use super::profile::{Action, Architecture, ArgumentTest, Condition, FilterFlag, Profile, Rule};

/// What the program answers the kernel: what to do in the upper half, a number for it in the lower (linux/seccomp.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer(pub u32);

impl Answer {
    /// Make the call.
    pub const ALLOW: Answer = Answer(0x7fff_0000);
    /// End the thread, as by SIGSYS.
    pub const KILL_THREAD: Answer = Answer(0);
    /// What a kernel says that does not have the call: libraries then try an older one.
    pub const NO_SUCH_CALL: Answer = Answer::error(Errno::ENOSYS as u32);
    const KILL_PROCESS: Answer = Answer(0x8000_0000);
    const TRAP: Answer = Answer(0x0003_0000);
    const NOTIFY: Answer = Answer(0x7fc0_0000);
    const TRACE: u32 = 0x7ff0_0000;
    const LOG: Answer = Answer(0x7ffc_0000);

    /// Do not make the call, and say that it failed with this error.
    pub const fn error(number: u32) -> Answer {
        Answer(0x0005_0000 | number)
    }

    /// Whether the call is made, or another process decides about it.
    pub fn is_permissive(self) -> bool {
        self == Answer::ALLOW || self == Answer::LOG || self.0 & 0xffff_0000 == Answer::TRACE
    }
}

/// A profile that was found right, for this kernel and these capabilities.
pub struct Plan<'p> {
    /// When no rule matches.
    pub default: Answer,
    /// For calls that are newer than the profile.
    pub unknown: Answer,
    /// Besides the native one.
    pub architectures: Vec<Architecture>,
    /// In the profile's order.
    pub rules: Vec<PlannedRule<'p>>,
}

/// A rule whose conditions hold.
pub struct PlannedRule<'p> {
    /// The calls.
    pub names: &'p [String],
    /// Their answer.
    pub answer: Answer,
    /// Their tests.
    pub tests: &'p [ArgumentTest],
}

impl<'p> Plan<'p> {
    /// Checks a profile. `holds` says whether a capability is in the bounding set. A failure names the place.
    pub fn new(profile: &'p Profile, holds: impl Fn(&str) -> bool) -> Result<Plan<'p>> {
        let default = answer(profile.default_action, profile.default_errno_ret, profile.default_errno.as_deref())
            .context("defaultAction")?;
        check_listener(profile)?;
        let mut rules = Vec::with_capacity(profile.syscalls.len());
        for (index, rule) in profile.syscalls.iter().enumerate() {
            rules.extend(planned(rule, index, &holds)?);
        }
        Ok(Plan { default, unknown: unknown(default), architectures: architectures(profile)?, rules })
    }
}

impl Plan<'_> {
    /// Whether another process is to answer for a call.
    pub fn asks(&self) -> bool {
        self.rules.iter().any(|rule| rule.answer == Answer::NOTIFY)
    }
}

/// The same profile for a reader that does not know Docker's words: rules that do not count here are gone, errors are numbers, and
/// families of architectures are lists. It is what step 7 writes into a configuration.
pub fn decided(mut profile: Profile, holds: impl Fn(&str) -> bool) -> Result<Profile> {
    let mut rules = Vec::new();
    for (index, mut rule) in std::mem::take(&mut profile.syscalls).into_iter().enumerate() {
        let Some(answer) = planned(&rule, index, &holds)?.map(|planned| planned.answer) else { continue };
        (rule.includes, rule.excludes) = (Condition::default(), Condition::default());
        if rule.errno.take().is_some() {
            rule.errno_ret = Some(answer.0 & 0xffff);
        }
        rules.push(rule);
    }
    profile.architectures = architectures(&profile)?;
    profile.arch_map = Vec::new();
    if let Some(name) = profile.default_errno.take() {
        profile.default_errno_ret = profile.default_errno_ret.or(Some(error_of_name(&name)?));
    }
    Ok(Profile { syscalls: rules, ..profile })
}

/// How the filter is to be set. TSYNC is for a process with several threads, and a launcher has one.
pub fn flags(profile: &Profile, listens: bool) -> Flags {
    let given = profile.flags.as_deref().unwrap_or(&[FilterFlag::SpecAllow]);
    let listening = if listens { Flags::NEW_LISTENER } else { Flags::default() };
    given.iter().fold(listening, |flags, flag| match flag {
        FilterFlag::Log => flags | Flags::LOG,
        FilterFlag::SpecAllow => flags | Flags::SPEC_ALLOW,
        FilterFlag::WaitKillableRecv if listens => flags | Flags::WAIT_KILLABLE_RECV, // EINVAL without a listener
        FilterFlag::Tsync | FilterFlag::WaitKillableRecv => flags,
    })
}

/// A rule, if it counts here.
fn planned<'p>(rule: &'p Rule, index: usize, holds: &impl Fn(&str) -> bool) -> Result<Option<PlannedRule<'p>>> {
    let place = |name: &'static str| move || format!("syscalls[{index}].{name}");
    let answer = answer(rule.action, rule.errno_ret, rule.errno.as_deref()).with_context(place("action"))?;
    if rule.names.is_empty() {
        return Err(Failure::new("a rule must name a call")).with_context(place("names"));
    }
    if let Some(position) = rule.args.iter().position(|test| test.index > 5) {
        let fault = format!("{} is none: a call has the arguments 0 to 5", rule.args[position].index);
        return Err(Failure::new(fault)).with_context(|| format!("syscalls[{index}].args[{position}].index"));
    }
    let includes = conditions(&rule.includes, holds).with_context(place("includes"))?;
    let excludes = conditions(&rule.excludes, holds).with_context(place("excludes"))?;
    let counts = includes.iter().all(|holds| *holds) && !excludes.iter().any(|holds| *holds);
    Ok(counts.then_some(PlannedRule { names: &rule.names, answer, tests: &rule.args }))
}

/// The kernel's number for an action.
fn answer(action: Action, number: Option<u32>, name: Option<&str>) -> Result<Answer> {
    let error = match (number, name) {
        (Some(number), _) => Some(number),
        (None, Some(name)) => Some(error_of_name(name)?),
        (None, None) => None,
    };
    // The kernel makes 4095 of anything above. 0 is fine: the call is not made, and said to have succeeded.
    let highest = match action {
        Action::Errno => 4095,
        Action::Trace => 0xffff,
        _ => 0,
    };
    match error {
        Some(_) if highest == 0 => {
            let word: &str = action.into();
            return Err(Failure::new(format!("{word} returns no error, and one is given")).into());
        }
        Some(error) if error > highest => {
            return Err(Failure::new(format!("error {error} is none: the highest is {highest}")).into());
        }
        _ => {}
    }
    let error = error.unwrap_or(Errno::EPERM as u32);
    Ok(match action {
        Action::Errno => Answer::error(error),
        Action::Trace => Answer(Answer::TRACE | error),
        Action::Allow => Answer::ALLOW,
        Action::Log => Answer::LOG,
        Action::Trap => Answer::TRAP,
        Action::Notify => Answer::NOTIFY,
        Action::Kill | Action::KillThread => Answer::KILL_THREAD,
        Action::KillProcess => Answer::KILL_PROCESS,
    })
}

/// EPERM is 1. Few files need it, so that we look through what the kernel's numbers are called.
fn error_of_name(name: &str) -> Result<u32> {
    let found = (1..=133).find(|number| format!("{:?}", Errno::from_raw(*number)) == name);
    found.map(|number| number as u32).with_context(|| Failure::new(format!("unknown error {name:?}")))
}

/// The process that answers for a call must be able to hear of it: it must listen, and the call that hands the listener
/// over, `write` or one like it, must not wait for the listener. (runc has the same two rules.)
fn check_listener(profile: &Profile) -> Result<()> {
    let asks = |rule: &Rule| rule.action == Action::Notify;
    let fault = if profile.default_action == Action::Notify {
        "defaultAction: SCMP_ACT_NOTIFY would block the launcher before it has passed the listener on"
    } else if profile.syscalls.iter().any(|rule| asks(rule) && rule.names.iter().any(|name| name == "write")) {
        "SCMP_ACT_NOTIFY for write would block the launcher before it has passed the listener on"
    } else if profile.syscalls.iter().any(asks) && profile.listener_path.is_none() {
        "SCMP_ACT_NOTIFY needs a listenerPath"
    } else if profile.listener_metadata.is_some() && profile.listener_path.is_none() {
        "listenerMetadata without listenerPath"
    } else {
        return Ok(());
    };
    Err(Failure::new(fault)
        .hint("listenerPath is a Unix socket; a program that answers for the calls listens there")
        .into())
}

/// The architectures, from whichever of the two lists there is.
fn architectures(profile: &Profile) -> Result<Vec<Architecture>> {
    if !profile.architectures.is_empty() && !profile.arch_map.is_empty() {
        return Err(Failure::new("archMap: architectures are given already").into());
    }
    let native = if cfg!(target_arch = "aarch64") { Architecture::Aarch64 } else { Architecture::X86_64 };
    let family = profile.arch_map.iter().find(|family| family.architecture == native);
    let family = family.map_or(&[][..], |family| &family.sub_architectures);
    Ok([&profile.architectures[..], family].concat())
}

/// What Docker's condition asks, one by one, and whether it is so.
fn conditions(condition: &Condition, holds: &impl Fn(&str) -> bool) -> Result<Vec<bool>> {
    let machine = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let mut answers: Vec<bool> = condition.caps.iter().map(|capability| holds(capability)).collect();
    if !condition.arches.is_empty() {
        answers.push(condition.arches.iter().any(|name| name == machine));
    }
    if let Some(oldest) = &condition.min_kernel {
        let wanted = version(oldest).with_context(|| Failure::new(format!("minKernel: {oldest:?} is no version")))?;
        let running =
            std::fs::read_to_string("/proc/sys/kernel/osrelease").context("cannot read the kernel's version")?;
        answers.push(version(&running).is_some_and(|running| running >= wanted));
    }
    Ok(answers)
}

/// The first two numbers of a version: 6 and 12 of "6.12.3-amd64".
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|letter: char| !letter.is_ascii_digit()).map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

// ANCHOR: unknown
/// The answer for a call that is newer than the profile. Its author cannot have meant to forbid it. A library that
/// hears "permission denied" gives up, and one that hears "no such call" takes the older one. So when the profile
/// refuses by default, this refuses, too, but in other words.
fn unknown(default: Answer) -> Answer {
    if default.is_permissive() { default } else { Answer::NO_SUCH_CALL }
}
// ANCHOR_END: unknown
