//! What runs in a container: the `process` of the configuration, or the one that `exec` adds.

use std::collections::BTreeMap;

use crate::sys::schedule::{self, Scheduling};
use crate::sys::terminal::Size;
use anyhow::{Context, Result};
use cgroups::CpuList;
use kernel::Failure;
use privileges::seccomp::Filter;
use privileges::{Capabilities, Confinement, Rlimit, Set, User};

use crate::log;
use crate::spec::{self, IoPriorityClass, Linux, NamespaceKind, Process, SchedulerFlag, SchedulerPolicy, Spec};

/// The annotation by which crun keeps the caller's supplementary groups, unless its value is 0: podman's `--group-add
/// keep-groups`. So an ordinary user's container can use what is open to a group of that user's, with no id for it in there.
pub const KEEPS_GROUPS: &str = "run.oci.keep_original_groups";

/// A process to be.
#[derive(Debug)]
pub struct Task {
    /// The program, its arguments, its variables, where it starts.
    pub command: chroot::Command,
    /// Whether it has a terminal of its own, and of which size.
    pub terminal: Option<Size>,
    /// Whom it runs as.
    pub user: User,
    /// Which rights new files do not have; none: as the runtime's.
    pub umask: Option<u32>,
    /// It stays in the caller's other groups ([`KEEPS_GROUPS`]), whatever the configuration's user has.
    keeps_groups: bool,
    /// Leave the caller's session keyring.
    pub new_keyring: bool,
    capabilities: Capabilities,
    rlimits: Vec<Rlimit>,
    no_new_privileges: bool,
    filter: Option<Filter>,
    /// What the process that answers for its calls is told besides.
    pub listener_metadata: Option<String>,
    /// Whom the kernel kills first when memory is short.
    pub oom_score_adj: Option<i64>,
    scheduling: Option<Scheduling>,
    io_priority: Option<(i32, i32)>,
    /// The AppArmor profile that confines it.
    pub apparmor: Option<String>,
    memory_policy: Option<MemoryPolicy>,
    /// What kind of machine it sees.
    personality: Option<u64>,
}

/// From which memory nodes memory comes: the kernel's number, with the flags, and the nodes.
type MemoryPolicy = (u32, Vec<usize>);

impl Task {
    /// Plans a process; `place` is how a failure calls it. In a user namespace of its own its root has all capabilities to
    /// begin with; else it can have no more than we.
    ///
    /// # Errors
    /// An invalid capability, limit or filter.
    pub fn new(place: &str, process: &Process, spec: &Spec) -> Result<Task> {
        let nothing = Linux::default();
        let linux = spec.linux.as_ref().unwrap_or(&nothing);
        let has_users = linux.namespace(NamespaceKind::User).is_some();
        let to_be_had = if has_users { Set::known() } else { Set::to_be_had()? };
        let capabilities = capabilities(place, process.capabilities.as_ref(), to_be_had);
        let limit = |(index, limit): (usize, &spec::Rlimit)| {
            Rlimit::new(&limit.kind, limit.soft, limit.hard).with_context(|| format!("{place}.rlimits[{index}]"))
        };
        let filter = linux.seccomp.as_ref().map(|profile| Filter::new(profile, |name| capabilities.bounding.has(name)));
        let user = process.user.clone().unwrap_or_default();
        let size = process.console_size.as_ref();
        let size = size.map_or(Size::default(), |size| Size { height: size.height as u16, width: size.width as u16 });
        Ok(Task {
            command: super::command::command(&process.args, &process.env, &process.cwd)?,
            terminal: process.terminal.then_some(size),
            user: User { uid: user.uid, gid: user.gid, groups: user.additional_gids, home: None },
            umask: user.umask,
            keeps_groups: spec.annotations.get(KEEPS_GROUPS).is_some_and(|value| value != "0"),
            new_keyring: true,
            capabilities,
            rlimits: process.rlimits.iter().enumerate().map(limit).collect::<Result<_>>()?,
            no_new_privileges: process.no_new_privileges,
            filter: filter.transpose().context("config.json: linux.seccomp")?,
            listener_metadata: linux.seccomp.as_ref().and_then(|profile| profile.listener_metadata.clone()),
            oom_score_adj: process.oom_score_adj,
            scheduling: process.scheduler.as_ref().map(scheduling),
            io_priority: process.io_priority.as_ref().map(io_priority),
            apparmor: process.apparmor_profile.clone(),
            memory_policy: linux.memory_policy.as_ref().map(memory_policy).transpose()?,
            personality: linux.personality.as_ref().map(personality),
        })
    }

    /// In the parent, before the command begins: what stands behind its standard descriptors belongs to its user, as a process
    /// in its user namespace numbers that. A terminal is made in there, and given there.
    pub fn give_standard(&self, in_namespace_of: i32) {
        if self.terminal.is_none() {
            privileges::give_standard_of(in_namespace_of, self.user.uid);
        }
    }

    /// The parent's part: limits that only it can raise.
    pub fn raise_limits(&self, pid: i32) -> Result<()> {
        self.rlimits.iter().try_for_each(|limit| limit.raise(pid))
    }

    /// Who runs when and where. It comes before the capabilities go: much of it needs CAP_SYS_NICE.
    pub fn schedule(&self) -> Result<()> {
        if let Some(scheduling) = self.scheduling {
            schedule::set_scheduling(scheduling).context("process.scheduler")?;
        }
        if let Some((class, level)) = self.io_priority {
            schedule::set_io_priority(class, level).context("process.ioPriority")?;
        }
        if let Some((mode, nodes)) = &self.memory_policy {
            schedule::set_memory_policy(*mode, nodes).context("linux.memoryPolicy")?;
        }
        if let Some(persona) = self.personality {
            schedule::set_personality(persona).context("linux.personality")?;
        }
        Ok(())
    }

    /// The first step in a user namespace: root of it, in no groups but those that are to be kept.
    pub fn take_on_root(&self) -> Result<()> {
        let root = User::default();
        if self.keeps_groups {
            root.switch_ids()?
        } else {
            root.switch_to()?
        }
        namespaces::die_with_parent() // a change of user has made the kernel forget it
    }

    /// What step 6 applies to it: from user to filter.
    pub fn confinement(&self) -> Confinement<'_> {
        Confinement {
            new_keyring: self.new_keyring,
            rlimits: &self.rlimits,
            user: self.user.clone(),
            keeps_groups: self.keeps_groups,
            capabilities: self.capabilities,
            no_new_privileges: self.no_new_privileges,
            filter: self.filter.as_ref(),
            umask: self.umask.unwrap_or(0o022),
            own_terminal: self.terminal.is_some(),
        }
    }

    /// Whether the filter comes as the last before the exec. Otherwise it is there before the process waits for start: because it
    /// needs a right that no waiting process may have, or because the process that answers for calls is told of it by `create`.
    pub fn filters_last(&self) -> bool {
        self.no_new_privileges && self.listener().is_none()
    }

    /// Where the process that answers for its calls listens, if the filter leaves some open.
    pub fn listener(&self) -> Option<&std::path::Path> {
        self.filter.as_ref().and_then(Filter::listener)
    }
}

/// What is asked for and to be had. What is not is a warning and no failure: the specification wants it so (config.md,
/// Linux Process), and a container with less is no weaker wall.
fn capabilities(place: &str, asked: Option<&spec::Capabilities>, to_be_had: Set) -> Capabilities {
    let Some(asked) = asked else { return Capabilities::default() };
    let mut refused: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let bounding = given("bounding", &asked.bounding, to_be_had, &mut refused);
    let permitted = given("permitted", &asked.permitted, to_be_had, &mut refused);
    let inheritable = given("inheritable", &asked.inheritable, to_be_had, &mut refused);
    // The kernel makes effective only what is permitted, and hands on by itself only what is permitted and inheritable.
    let effective = given("effective", &asked.effective, permitted, &mut refused);
    let ambient = given("ambient", &asked.ambient, to_be_had, &mut refused);
    if !refused.is_empty() {
        let sets = refused.iter().map(|(name, sets)| format!("{name:?} ({})", sets.join(", ")));
        let list = sets.collect::<Vec<_>>().join(", ");
        log::warn(&format!("{place}.capabilities: cannot be given: {list}"));
    }
    let handed_on = Set(ambient.0 & permitted.0 & inheritable.0);
    tell_of_ambient(place, ambient.without(handed_on));
    Capabilities { bounding, effective, permitted, inheritable, ambient: handed_on }
}

/// Those of a set's names that are among `most`; the others are noted, with the set.
fn given<'a>(set: &'a str, names: &'a [String], most: Set, refused: &mut BTreeMap<&'a str, Vec<&'a str>>) -> Set {
    let one = |name: &'a String| match Set::named(name) {
        Ok(one) if one.without(most) == Set::default() => Some(one),
        _ => {
            refused.entry(name).or_default().push(set);
            None
        }
    };
    names.iter().filter_map(one).sum()
}

/// The template that runc and many engines begin with lists capabilities as ambient which it does not make inheritable: peers
/// leave them out silently, and a line at each start would hide what matters. It is a warning of the log alone.
fn tell_of_ambient(place: &str, left_out: Set) {
    if left_out != Set::default() {
        let names = left_out.names().join(", ");
        log::note(&format!("{place}.capabilities.ambient: not permitted and inheritable, so not handed on: {names}"));
    }
}

fn scheduling(asked: &spec::Scheduler) -> Scheduling {
    let policy = match asked.policy {
        SchedulerPolicy::SchedOther => 0,
        SchedulerPolicy::SchedFifo => 1,
        SchedulerPolicy::SchedRr => 2,
        SchedulerPolicy::SchedBatch => 3,
        SchedulerPolicy::SchedIso => 4,
        SchedulerPolicy::SchedIdle => 5,
        SchedulerPolicy::SchedDeadline => 6,
    };
    let bit = |flag: &SchedulerFlag| match flag {
        SchedulerFlag::SchedFlagResetOnFork => 0x01,
        SchedulerFlag::SchedFlagReclaim => 0x02,
        SchedulerFlag::SchedFlagDlOverrun => 0x04,
        SchedulerFlag::SchedFlagKeepPolicy => 0x08,
        SchedulerFlag::SchedFlagKeepParams => 0x10,
        SchedulerFlag::SchedFlagUtilClampMin => 0x20,
        SchedulerFlag::SchedFlagUtilClampMax => 0x40,
    };
    Scheduling {
        size: 0,
        policy,
        flags: asked.flags.iter().map(bit).fold(0, |all, one| all | one),
        nice: asked.nice.unwrap_or(0),
        priority: asked.priority.unwrap_or(0) as u32,
        runtime: asked.runtime.unwrap_or(0),
        deadline: asked.deadline.unwrap_or(0),
        period: asked.period.unwrap_or(0),
    }
}

fn io_priority(asked: &spec::IoPriority) -> (i32, i32) {
    let class = match asked.class {
        IoPriorityClass::IoprioClassRt => 1,
        IoPriorityClass::IoprioClassBe => 2,
        IoPriorityClass::IoprioClassIdle => 3,
    };
    (class, asked.priority.unwrap_or(0) as i32)
}

fn personality(asked: &spec::Personality) -> u64 {
    const LINUX32: u64 = 8;
    match asked.domain {
        spec::PersonalityDomain::Linux => 0,
        spec::PersonalityDomain::Linux32 => LINUX32,
    }
}

/// On which CPUs a process that `exec` adds may run.
#[derive(Debug, Default)]
pub struct Affinity {
    /// Before it enters the container's group; none: as the caller.
    pub initial: Option<Vec<usize>>,
    /// From then on; none: on all that the group may use.
    pub last: Option<Vec<usize>>,
}

impl Affinity {
    /// # Errors
    /// A list that is not one.
    pub fn new(process: &Process) -> Result<Affinity, Failure> {
        let Some(asked) = &process.exec_cpu_affinity else { return Ok(Affinity::default()) };
        let list = |text: &Option<String>| {
            let text = text.as_deref().filter(|text| !text.is_empty());
            let refuse = |text| {
                let text = format!("process.execCPUAffinity: {text:?} is not a list of CPUs");
                Failure::new(text).hint("such as 0-3,7")
            };
            text.map(|text| numbers(text).ok_or_else(|| refuse(text))).transpose()
        };
        Ok(Affinity { initial: list(&asked.initial)?, last: list(&asked.last)? })
    }
}

/// The names are config-linux.md's (Memory policy), the numbers the kernel's (linux/mempolicy.h).
fn memory_policy(asked: &spec::MemoryPolicy) -> Result<MemoryPolicy> {
    let refuse = |field: &str, text: &str, what: &str, hint: String| {
        Failure::new(format!("config.json: linux.memoryPolicy.{field}: {text:?} {what}")).hint(hint)
    };
    let among = |table: &[(&str, u32)], field: &str, name: &str| {
        let known = || table.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        let found = table.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
        found.ok_or_else(|| refuse(field, name, "is not known", known()))
    };
    let mut mode = among(&MEMORY_MODES, "mode", &asked.mode)?;
    for flag in &asked.flags {
        mode |= among(&MEMORY_FLAGS, "flags", flag)?;
    }
    let text = asked.nodes.as_deref().unwrap_or_default();
    let nodes = if text.is_empty() { Some(Vec::new()) } else { numbers(text) };
    Ok((mode, nodes.ok_or_else(|| refuse("nodes", text, "is no list of nodes", "such as 0-3,7".to_owned()))?))
}

/// The modes of a memory policy.
pub const MEMORY_MODES: [(&str, u32); 7] = [
    ("MPOL_BIND", 2),
    ("MPOL_DEFAULT", 0),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_LOCAL", 4),
    ("MPOL_PREFERRED", 1),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];

/// Its flags.
pub const MEMORY_FLAGS: [(&str, u32); 3] =
    [("MPOL_F_NUMA_BALANCING", 1 << 13), ("MPOL_F_RELATIVE_NODES", 1 << 14), ("MPOL_F_STATIC_NODES", 1 << 15)];

/// `0-3,7`
fn numbers(text: &str) -> Option<Vec<usize>> {
    CpuList::parse(text).map(|list| list.numbers().collect())
}
