//! What runs in the container: `process` (config.md, Process).

use serde::{Deserialize, Serialize};

use super::object::object;

object! {
    /// The process that `start` begins, or that `exec` adds.
    #[derive(Default)]
    Process {
        required {
            /// Where it starts: an absolute path in the container.
            cwd: String,
        }
        optional {
            /// Whether it has a terminal. Default: false.
            terminal: bool,
            /// The terminal's size; without a terminal it means nothing.
            console_size: Option<ConsoleSize>,
            /// Whom it runs as. Default: user and group 0 of the container.
            user: Option<User>,
            /// The program and its arguments, as for `execvp` (man 3 exec); at least the program.
            args: Vec<String>,
            /// Variables, each as NAME=VALUE.
            env: Vec<String>,
            /// Its capabilities. Default: none at all.
            capabilities: Option<Capabilities>,
            /// Its resource limits (man 2 setrlimit); those not named here are the runtime's own.
            rlimits: Vec<Rlimit>,
            /// Whether execve may never again give it privileges (man 2 prctl, PR_SET_NO_NEW_PRIVS). Default: false.
            no_new_privileges: bool,
            /// How soon the kernel kills it when memory is short, -1000 to 1000. Default: as the runtime.
            oom_score_adj: Option<i64>,
            /// How the kernel's scheduler treats it (man 2 sched_setattr).
            scheduler: Option<Scheduler>,
            /// How the disk scheduler treats it (man 2 ioprio_set).
            io_priority: Option<IoPriority>,
            /// On which CPUs a process that `exec` adds may run.
            #[serde(rename = "execCPUAffinity")]
            exec_cpu_affinity: Option<CpuAffinity>,
            /// The AppArmor profile that confines it.
            apparmor_profile: Option<String>,
            /// The SELinux context that it runs in.
            selinux_label: Option<String>,
        }
    }
}

object! {
    /// A terminal's size, in characters.
    #[derive(Default)]
    ConsoleSize {
        required {
            /// Rows.
            height: u64,
            /// Columns.
            width: u64,
        }
    }
}

object! {
    /// Whom a process runs as, by the container's own numbers (config.md, POSIX-platform User).
    #[derive(Default)]
    User {
        required {
            /// User.
            uid: u32,
            /// Group.
            gid: u32,
        }
        optional {
            /// Which permissions new files do not get (man 2 umask). Default: the runtime's.
            umask: Option<u32>,
            /// Further groups.
            additional_gids: Vec<u32>,
        }
    }
}

object! {
    /// The five capability sets (man 7 capabilities), by names such as CAP_KILL.
    #[derive(Default)]
    Capabilities {
        optional {
            /// The most that execve can ever give.
            bounding: Vec<String>,
            /// What counts now.
            effective: Vec<String>,
            /// What may pass an execve, where the file's own inheritable set agrees.
            inheritable: Vec<String>,
            /// What it may make effective.
            permitted: Vec<String>,
            /// What passes an execve by itself.
            ambient: Vec<String>,
        }
    }
}

impl Capabilities {
    /// All five sets with their names.
    pub fn sets(&self) -> [(&'static str, &[String]); 5] {
        [
            ("bounding", &self.bounding),
            ("effective", &self.effective),
            ("inheritable", &self.inheritable),
            ("permitted", &self.permitted),
            ("ambient", &self.ambient),
        ]
    }
}

object! {
    /// One resource limit.
    #[derive(Default)]
    Rlimit {
        required {
            /// Which: a name such as RLIMIT_NOFILE.
            #[serde(rename = "type")]
            kind: String,
            /// What counts, in the unit of the resource.
            soft: u64,
            /// How far the process itself may raise it.
            hard: u64,
        }
    }
}

object! {
    /// How the kernel's scheduler treats a process (config.md, Linux Process; man 7 sched).
    Scheduler {
        required {
            /// The policy.
            policy: SchedulerPolicy,
        }
        optional {
            /// Niceness, -20 to 19, for the policies that share time. Default: 0.
            nice: Option<i32>,
            /// Priority, 1 to 99, for FIFO and RR. Default: 0.
            priority: Option<i32>,
            /// Further wishes.
            flags: Vec<SchedulerFlag>,
            /// Nanoseconds of work in each period; for DEADLINE.
            runtime: Option<u64>,
            /// Nanoseconds from the start of the period until when it is done; for DEADLINE.
            deadline: Option<u64>,
            /// Nanoseconds of one period; for DEADLINE.
            period: Option<u64>,
        }
    }
}

/// Scheduling policies; the names are the kernel's (man 7 sched).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)]
pub enum SchedulerPolicy {
    SchedOther,
    SchedFifo,
    SchedRr,
    SchedBatch,
    SchedIso,
    SchedIdle,
    SchedDeadline,
}

/// Scheduling flags; the names are the kernel's (man 2 sched_setattr).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)]
pub enum SchedulerFlag {
    SchedFlagResetOnFork,
    SchedFlagReclaim,
    SchedFlagDlOverrun,
    SchedFlagKeepPolicy,
    SchedFlagKeepParams,
    SchedFlagUtilClampMin,
    SchedFlagUtilClampMax,
}

object! {
    /// How the disk scheduler treats a process (man 2 ioprio_set).
    IoPriority {
        required {
            /// The class.
            class: IoPriorityClass,
        }
        optional {
            /// Within the class: 0, first, to 7, last. Default: 0.
            priority: Option<i64>,
        }
    }
}

/// Classes of disk scheduling (man 2 ioprio_set).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum IoPriorityClass {
    /// Real time: always first.
    IoprioClassRt,
    /// Best effort: as everybody.
    IoprioClassBe,
    /// When nobody else wants the disk.
    IoprioClassIdle,
}

object! {
    /// On which CPUs a process that `exec` adds may run: lists such as 0-3,7 (config.md, Linux Process).
    #[derive(Default)]
    CpuAffinity {
        optional {
            /// While it moves into the container's cgroup.
            initial: Option<String>,
            /// From then on.
            #[serde(rename = "final")]
            last: Option<String>,
        }
    }
}

impl Process {
    /// With what it does not say as the container's own process has it: so `exec --process` of other runtimes.
    pub fn completed_by(self, container: Process) -> Process {
        Process {
            capabilities: self.capabilities.or(container.capabilities),
            rlimits: if self.rlimits.is_empty() { container.rlimits } else { self.rlimits },
            oom_score_adj: self.oom_score_adj.or(container.oom_score_adj),
            scheduler: self.scheduler.or(container.scheduler),
            io_priority: self.io_priority.or(container.io_priority),
            exec_cpu_affinity: self.exec_cpu_affinity.or(container.exec_cpu_affinity),
            apparmor_profile: self.apparmor_profile.or(container.apparmor_profile),
            ..self
        }
    }

    /// Whether it, or a process that it starts, can ever have CAP_SYS_PTRACE.
    pub fn may_trace(&self) -> bool {
        let bounding = self.capabilities.iter().flat_map(|sets| &sets.bounding);
        bounding.into_iter().any(|name| name.trim_start_matches("CAP_").eq_ignore_ascii_case("SYS_PTRACE"))
    }
}
