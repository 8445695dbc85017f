//! The profile where none is given: what Docker's default allows, and what it lets through for capabilities.

use super::profile::{Action, Architecture, Condition, Profile, Rule};

/// The profile, without what capabilities add.
pub const TEXT: &str = include_str!("default.json");

// ANCHOR: held
/// What a capability opens. Without it, the kernel would refuse most of these calls anyhow; but by then the call is
/// in, and has run some of the kernel's code. In a user namespace, which anybody can make, it is not refused at all.
#[rustfmt::skip]
const HELD: [(&str, &[&str]); 14] = [
    ("CAP_BPF", &["bpf"]),
    ("CAP_DAC_READ_SEARCH", &["open_by_handle_at"]),
    ("CAP_PERFMON", &["perf_event_open"]),
    ("CAP_SYSLOG", &["syslog"]),
    ("CAP_SYS_ADMIN", &[
        "bpf", "clone", "clone3", "fanotify_init", "fsconfig", "fsmount", "fsopen", "fspick", "lookup_dcookie",
        "lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr", "mount", "mount_setattr", "move_mount",
        "open_tree", "perf_event_open", "quotactl", "quotactl_fd", "setdomainname", "sethostname", "setns", "syslog",
        "umount", "umount2", "unshare",
    ]),
    ("CAP_SYS_BOOT", &["reboot"]),
    ("CAP_SYS_CHROOT", &["chroot"]),
    ("CAP_SYS_MODULE", &["delete_module", "finit_module", "init_module"]),
    ("CAP_SYS_NICE", &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    ("CAP_SYS_PACCT", &["acct"]),
    ("CAP_SYS_PTRACE", &["kcmp", "pidfd_getfd", "process_madvise"]),
    ("CAP_SYS_RAWIO", &["ioperm", "iopl"]),
    ("CAP_SYS_TIME", &["clock_settime", "clock_settime64", "settimeofday", "stime"]),
    ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
];
// ANCHOR_END: held

/// The default profile, for a process that holds such capabilities (by name, with CAP_).
pub fn default_profile(holds: impl Fn(&str) -> bool) -> Profile {
    let mut profile = Profile::parse(TEXT).expect("default.json is a profile");
    let opened = HELD.iter().filter(|(capability, _)| holds(capability)).map(|(_, calls)| Rule {
        names: calls.iter().map(|name| String::from(*name)).collect(),
        action: Action::Allow,
        errno_ret: None,
        args: Vec::new(),
        includes: Condition::default(),
        excludes: Condition::default(),
        errno: None,
    });
    // Before the others: who may mount may also clone into a new namespace, which a rule below refuses.
    profile.syscalls.splice(0..0, opened);
    profile
}

/// The default profile for programs of the machine's own kind alone: a call by one of the other doors, 32-bit programs' among
/// them, kills. No rule can look at what `socketcall` is asked for; a cell without 32-bit programs does without that door.
pub fn native_profile(holds: impl Fn(&str) -> bool) -> Profile {
    let architectures = if cfg!(target_arch = "x86") { vec![Architecture::X86] } else { Vec::new() };
    Profile { architectures, ..default_profile(holds) }
}
