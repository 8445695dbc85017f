//! The list. A hole is a wall taken out: the lines that change, and what must see it.
//!
//! A line is found by a part of it, which is in its function exactly once: so a hole moves with its function, and
//! `variants check` says when it does not fit any more. The order is that of the lessons.

use crate::proof::Probe::{self, Attack, Check, Test};
use crate::{mends, runtime};

/// A wall taken out.
#[derive(Debug, Clone, Copy)]
pub struct Hole {
    /// How it is called.
    pub name: &'static str,
    /// The package that is built, and its program; or a script that is changed.
    pub package: &'static str,
    /// What changes.
    pub edits: &'static [Edit],
    /// What must say ESCAPED or UNSAFE, or be red.
    pub seen_by: &'static [Probe],
}

/// One line that changes.
#[derive(Debug, Clone, Copy)]
pub struct Edit {
    /// From the repository's root.
    pub file: &'static str,
    /// The function, or the constant, in which the line is; nothing in a script.
    pub function: &'static str,
    /// What becomes of it.
    pub change: Change,
}

/// What becomes of a line.
#[derive(Debug, Clone, Copy)]
pub enum Change {
    /// The line with this text goes.
    Without(&'static str),
    /// This text becomes another.
    Instead(&'static str, &'static str),
}

pub(crate) const fn without(file: &'static str, function: &'static str, line: &'static str) -> Edit {
    Edit { file, function, change: Change::Without(line) }
}

pub(crate) const fn instead(file: &'static str, function: &'static str, from: &'static str, to: &'static str) -> Edit {
    Edit { file, function, change: Change::Instead(from, to) }
}

const CHROOT: &str = "steps/01-chroot/src/lib.rs";
const NAMESPACES: &str = "steps/02-namespaces/src/lib.rs";
const PIVOT_ROOT: &str = "steps/03-pivot-root/src/lib.rs";
const PREPARED_ROOT: &str = "steps/07-runtime/src/mounts/root.rs";
const GROUP: &str = "steps/05-cgroups/src/group.rs";
const PRIVILEGES: &str = "steps/06-privileges/src/lib.rs";
const INIT: &str = "steps/07-runtime/src/init.rs";
const EXEC: &str = "steps/07-runtime/src/verbs/exec.rs";
const VISIT: &str = "steps/07-runtime/src/visit.rs";
const FILES: &str = "steps/07-runtime/src/store/files.rs";
const PLACE: &str = "steps/07-runtime/src/store/place.rs";
const SEAL: &str = "steps/00-kernel/src/sys/seal.rs";

/// A cell with nothing but what the attack is about.
const NO_NET: &[&str] = &["--net", "none"];
/// No filter, which would hold what another wall is to hold; root of the host, for a user namespace would hold it too.
const UNFILTERED: &[&str] = &["--net", "none", "--userns", "host", "--seccomp", "unconfined"];
const UNMAPPED: &[&str] = &["--net", "none", "--userns", "host"];

/// Every hole there is.
pub fn all() -> impl Iterator<Item = &'static Hole> {
    HOLES.iter().chain(runtime::HOLES).chain(mends::HOLES)
}

/// Those that an attack or a check sees.
const HOLES: &[Hole] = &[
    Hole {
        name: "chroot-to-nowhere",
        package: "chroot",
        edits: &[instead(CHROOT, "enter", "sys::process::chroot(rootfs)", "sys::process::chroot(Path::new(\"/\"))")],
        seen_by: &[Attack("host-files", &[])],
    },
    Hole {
        name: "variables-of-the-caller",
        package: "chroot",
        edits: &[instead(
            CHROOT,
            "environment",
            "\"/root\".into())",
            "\"/root\".into())]; variables.extend(std::env::vars_os()); let _ = [()",
        )],
        seen_by: &[Attack("environment", &[])],
    },
    Hole {
        name: "descriptors-of-the-caller",
        package: "chroot",
        edits: &[without(CHROOT, "close_inherited", "sys::process::close_from(3)?;")],
        seen_by: &[Attack("descriptors", &[])],
    },
    Hole {
        name: "no-pid-namespace",
        package: "namespaces",
        edits: &[instead(NAMESPACES, "flags", "CloneFlags::CLONE_NEWPID | ", "")],
        seen_by: &[Attack("host-processes", &[]), Attack("ptrace", &[])],
    },
    Hole {
        name: "no-uts-namespace",
        package: "namespaces",
        edits: &[instead(NAMESPACES, "flags", "CloneFlags::CLONE_NEWUTS | ", "")],
        seen_by: &[Attack("hostname", &[])],
    },
    Hole {
        name: "no-ipc-namespace",
        package: "namespaces",
        edits: &[instead(NAMESPACES, "flags", "CloneFlags::CLONE_NEWIPC | ", "")],
        seen_by: &[Attack("shared-memory", &[])],
    },
    Hole {
        name: "mounts-are-shared",
        package: "namespaces",
        edits: &[instead(
            NAMESPACES,
            "make_mounts_private",
            "sys::mount::make_mounts_private().context(\"cannot make the mounts private\")",
            "Ok(())",
        )],
        seen_by: &[Attack("mount-leak", &[])],
    },
    Hole {
        name: "old-root-stays",
        package: "pivot-root",
        edits: &[without(PIVOT_ROOT, "pivot", "mount::detach_here()")],
        seen_by: &[Attack("chroot", &[])],
    },
    Hole {
        name: "settings-can-be-written",
        package: "pivot-root",
        edits: &[without(PIVOT_ROOT, "attach_mounts", "proc::make_read_only(&self.mount")],
        seen_by: &[Attack("proc-sys", &[])], // sysrq is one more of these settings, on kernels that have it
    },
    Hole {
        name: "init-runs-the-launcher",
        package: "pivot-root",
        edits: &[instead(NAMESPACES, "seal_init", "if self.init { go_on_sealed() } else { Ok(()) }", "Ok(())")],
        seen_by: &[Attack("init", &["--init"])],
    },
    Hole {
        name: "no-network-namespace",
        package: "network",
        edits: &[instead(
            "steps/04-network/src/lib.rs",
            "flags",
            "CloneFlags::CLONE_NEWNET }",
            "CloneFlags::empty() }",
        )],
        seen_by: &[Attack("host-port", NO_NET), Attack("abstract-socket", NO_NET)],
    },
    Hole {
        name: "init-keeps-descriptors",
        package: "cgroups",
        edits: &[without(
            "steps/02-namespaces/src/report.rs",
            "close_all_but",
            "process::close_all_but(&kept, first)?;",
        )],
        seen_by: &[Attack("init", &["--net", "none", "--init"])],
    },
    Hole {
        name: "limits-are-not-written",
        package: "cgroups",
        edits: &[instead(GROUP, "write_limits", "in settings {", "in settings.into_iter().take(0) {")],
        seen_by: &[
            Attack("fork-bomb", &["--net", "none", "--pids", "64"]),
            Attack("memory", &["--net", "none", "--memory", "64m"]),
        ],
    },
    Hole {
        name: "devices-are-not-guarded",
        package: "cgroups",
        edits: &[without(GROUP, "try_to_make", "group.guard_devices()?;")],
        seen_by: &[Attack("mknod", NO_NET)],
    },
    Hole {
        name: "no-cgroup-namespace",
        package: "cgroups",
        edits: &[instead(GROUP, "join", "Ok(kernel::sys::clone::unshare_cgroup()?)", "Ok(())")],
        seen_by: &[Attack("release-agent", NO_NET)],
    },
    Hole {
        name: "all-capabilities",
        package: "privileges",
        edits: &[instead(
            "steps/06-privileges/src/capabilities.rs",
            "for_user",
            "if is_root {",
            "let kept = Set::to_be_had().unwrap_or(kept); if is_root {",
        )],
        seen_by: &[Attack("remount", UNFILTERED), Attack("mount", UNFILTERED), Attack("file-handle", UNFILTERED)],
    },
    Hole {
        name: "calls-are-not-filtered",
        package: "privileges",
        edits: &[without("steps/06-privileges/src/lib.rs", "apply_filter", "self.filter_calls()"), {
            instead(
                PRIVILEGES,
                "apply_filter",
                "privilege::no_new_privileges()?;",
                "privilege::no_new_privileges()?; Ok(None)",
            )
        }],
        seen_by: &[Attack("tiocsti", UNMAPPED)],
    },
    Hole {
        name: "keyring-of-the-caller",
        package: "privileges",
        edits: &[without(PRIVILEGES, "drop_privileges", "leave_keyring()?;")],
        seen_by: &[Attack("keyring", UNFILTERED)],
    },
    Hole {
        name: "new-privileges",
        package: "privileges",
        edits: &[without(PRIVILEGES, "apply_filter", "privilege::no_new_privileges()?;")],
        seen_by: &[Attack("setuid", UNFILTERED)],
    },
    // The runtime.
    Hole {
        name: "nothing-is-closed",
        package: "cellblock",
        edits: &[
            without("steps/07-runtime/src/handed_on.rs", "take", "handed_on.close_others()?;"),
            without("steps/02-namespaces/src/report.rs", "close_all_but", "process::close_all_but(&kept, first)?;"),
            without(INIT, "change_root", "make_workdir(&root, &cell.plan.task)?;"),
            instead(
                CHROOT,
                "is_inside",
                "sys::process::getcwd().map(drop).hint(\"it lies outside of the root filesystem\")",
                "Ok(())",
            ),
        ],
        seen_by: &[
            Check("cwd-is-descriptor"),
            Check("cwd-links-to-descriptor"),
            Check("exec-cwd-is-descriptor"),
            Check("program-is-behind-descriptor"),
            Check("descriptors-leak"),
            Check("created-holds-directory"),
            Check("last-exec-of-run"),
            Check("last-exec-of-exec"),
            Check("last-exec-on-terminal"),
            Check("init-holds-the-host"),
            Check("exec-is-watched"),
        ],
    },
    Hole {
        name: "exec-is-born-with-all",
        package: "cellblock",
        edits: &[instead(VISIT, "enter", "if !visit.traced {", "if true {"), {
            instead(VISIT, "enter", "if visit.traced {", "if false {")
        }],
        seen_by: &[Check("exec-is-watched")],
    },
    Hole {
        name: "runtime-runs-its-file",
        package: "cellblock",
        edits: &[without("steps/07-runtime/src/main.rs", "run", "own_program::go_on_sealed()?;")],
        seen_by: &[Check("runtime-is-written"), Check("runtime-lends-its-pages"), Check("copy-is-sealed")],
    },
    Hole {
        name: "copy-is-not-sealed",
        package: "cellblock",
        edits: &[
            instead(SEAL, "is_sealed", " | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;", ";"),
            instead(SEAL, "sealed_copy", " | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;", ";"),
        ],
        seen_by: &[Check("copy-is-sealed")],
    },
    Hole {
        name: "host-root-stays",
        package: "cellblock",
        edits: &[
            without(PIVOT_ROOT, "pivot", "mount::detach_here()"),
            without(PREPARED_ROOT, "pivot", "mount::detach_here()"),
        ],
        seen_by: &[Check("old-root-remains"), Check("chroot")],
    },
    Hole {
        name: "places-in-proc",
        package: "cellblock",
        edits: &[instead(
            "steps/03-pivot-root/src/place.rs",
            "configured",
            "|| IN_PROC.iter().any(",
            "|| true || IN_PROC.iter().any(",
        )],
        seen_by: &[Check("proc-is-covered-in-part")],
    },
    Hole {
        name: "settings-of-the-host",
        package: "cellblock",
        edits: &[instead(
            "steps/07-runtime/src/spec/check/sysctl.rs",
            "check",
            "for name in linux.sysctl.keys() {",
            "for name in linux.sysctl.keys().take(0) {",
        )],
        seen_by: &[Check("sysctl-of-the-host")],
    },
    Hole {
        name: "nothing-is-masked",
        package: "cellblock",
        edits: &[without(PREPARED_ROOT, "attach_mounts", "proc::mask_paths(&self.root,")],
        seen_by: &[Check("masks-come-off")],
    },
    Hole {
        name: "runtime-gives-all",
        package: "cellblock",
        edits: &[instead(
            "steps/07-runtime/src/plan/task.rs",
            "capabilities",
            "let Some(asked) = asked else { return Capabilities::default() };",
            "let all = Set::to_be_had().unwrap_or(to_be_had); let Some(asked) = asked.filter(|_| all == Set::default()) else { \
             return Capabilities { bounding: all, effective: all, permitted: all, ..Capabilities::default() } };",
        )],
        seen_by: &[Check("remount"), Check("release-agent")],
    },
    Hole {
        name: "nothing-is-read-only",
        package: "cellblock",
        edits: &[instead(PREPARED_ROOT, "attach_mounts", "closed.iter().map(", "closed.iter().take(0).map(")],
        seen_by: &[Check("masks-come-off")],
    },
    Hole {
        name: "no-device-rules",
        package: "cellblock",
        edits: &[instead(
            "steps/07-runtime/src/resources.rs",
            "guard_devices",
            "if kernel::sys::privilege::user() != 0 {",
            "if true {",
        )],
        seen_by: &[Check("disk-by-mknod"), Check("disk-after-update")],
    },
    Hole {
        name: "capabilities-are-inherited",
        package: "cellblock",
        edits: &[instead(
            "steps/06-privileges/src/capabilities.rs",
            "set_with",
            "inheritable: self.inheritable.0",
            "inheritable: self.permitted.0",
        )],
        seen_by: &[Check("inheritable-capabilities")],
    },
    Hole {
        name: "no-new-privs-is-ignored",
        package: "cellblock",
        edits: &[instead(PRIVILEGES, "apply_filter", "if !self.no_new_privileges {", "if true {")],
        seen_by: &[Check("no-new-privs"), Check("seccomp-lets-through")],
    },
    Hole {
        name: "exec-is-not-locked",
        package: "cellblock",
        edits: &[instead(VISIT, "enter", "confinement.apply_filter()?.or(listener)", "listener")],
        seen_by: &[Check("exec-has-more-rights"), Check("seccomp-lets-through")],
    },
    Hole {
        name: "keyring-is-not-left",
        package: "cellblock",
        edits: &[without(PRIVILEGES, "drop_privileges", "leave_keyring()?;")],
        seen_by: &[Check("keyring")],
    },
    Hole {
        name: "keyring-has-a-name",
        package: "cellblock",
        edits: &[instead(
            "steps/00-kernel/src/sys/privilege.rs",
            "join_session_keyring",
            "std::ptr::null::<libc::c_char>())",
            "c\"cell\".as_ptr())",
        )],
        seen_by: &[Check("keyring-made-first")],
    },
    Hole {
        name: "runtime-without-namespaces",
        package: "cellblock",
        edits: &[
            instead("steps/07-runtime/src/plan/mod.rs", "flag", "CloneFlags::CLONE_NEWIPC,", "CloneFlags::empty(),"),
            instead("steps/07-runtime/src/plan/mod.rs", "flag", "CloneFlags::CLONE_NEWNET,", "CloneFlags::empty(),"),
            instead("steps/07-runtime/src/plan/mod.rs", "flag", "CloneFlags::CLONE_NEWPID,", "CloneFlags::empty(),"),
            instead("steps/07-runtime/src/plan/mod.rs", "flag", "CloneFlags::CLONE_NEWUTS,", "CloneFlags::empty(),"),
        ],
        seen_by: &[
            Check("host-processes"),
            Check("hostname"),
            Check("shared-memory"),
            Check("host-port"),
            Check("abstract-socket"),
        ],
    },
    Hole {
        name: "variables-come-along",
        package: "cellblock",
        edits: &[instead(
            CHROOT,
            "exec_program",
            "sys::process::execve(program, &command.arguments, &command.environment)",
            "sys::process::execve(program, &command.arguments, &[command.environment.clone(), environment(&std::env::vars_os().map(|(name, value)| [name, value].join(OsStr::new(\"=\"))).collect::<Vec<_>>())?.0].concat())",
        )],
        seen_by: &[Check("environment")],
    },
    Hole {
        name: "any-id",
        package: "cellblock",
        edits: &[instead(
            "steps/07-runtime/src/spec/check.rs",
            "check_id",
            "if !id.is_empty()",
            "if true || !id.is_empty()",
        )],
        seen_by: &[Check("id-climbs")],
    },
    Hole {
        name: "any-group",
        package: "cellblock",
        edits: &[
            instead(
                "steps/07-runtime/src/groups/mod.rs",
                "normal",
                "Component::ParentDir => return refuse(\"it has .. in it\"),",
                "Component::ParentDir => below.push(\"..\"),",
            ),
            without(
                "steps/07-runtime/src/spec/check/linux.rs",
                "check_cgroups_path",
                "ensure(!path.split('/').any(|part| part == \"..\")",
            ),
        ],
        seen_by: &[Check("exec-cgroup-climbs")],
    },
    Hole {
        name: "users-are-cut",
        package: "cellblock",
        edits: &[instead(
            EXEC,
            "user_and_group",
            "part.parse().ok().filter(|id| plain && *id != u32::MAX)",
            "{ let _ = plain; part.trim().parse::<i64>().ok().map(|id| id as u32) }",
        )],
        seen_by: &[Check("exec-user-is-misread")],
    },
    Hole {
        name: "listener-is-looked-up-inside",
        package: "cellblock",
        edits: &[instead(
            VISIT,
            "enter",
            "let terminal = open_terminal(visit)?;",
            "let terminal = open_terminal(visit)?; let _inside = task.listener().map(std::os::unix::net::UnixStream::connect);",
        )],
        seen_by: &[Check("listener-is-planted")],
    },
    Hole {
        name: "links-are-copied-up",
        package: "cellblock",
        edits: &[instead(
            "steps/07-runtime/src/mounts/copy_up.rs",
            "copy_entry",
            "OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC",
            "OFlag::O_PATH | OFlag::O_CLOEXEC",
        )],
        seen_by: &[Check("copy-up-is-exchanged")],
    },
    Hole {
        name: "passwd-is-simply-read",
        package: "cellblock",
        edits: &[instead(
            "steps/06-privileges/src/user.rs",
            "home_of",
            "inside::read(Path::new(\"/etc/passwd\"), inside::MOST)",
            "std::fs::read(\"/etc/passwd\").ok()",
        )],
        seen_by: &[Check("passwd-is-special")],
    },
    Hole {
        name: "sysfs-is-closed-at-its-top",
        package: "cellblock",
        edits: &[instead(
            "steps/03-pivot-root/src/proc.rs",
            "close_sys",
            "mount::mount_setattr(host, Depth::Recursive,",
            "mount::mount_setattr(host, Depth::One,",
        )],
        seen_by: &[Check("sysfs-below-is-written")],
    },
    Hole {
        name: "state-by-the-umask",
        package: "cellblock",
        edits: &[
            instead(FILES, "make_directory", "from_bits_truncate(0o700)", "from_bits_truncate(0o755)"),
            instead(PLACE, "write", "from_bits_truncate(0o600)", "from_bits_truncate(0o644)"),
        ],
        seen_by: &[Check("state-is-open"), Test("cellblock", "step_07_callers", "readiness_is_passed_on")],
    },
    Hole {
        name: "names-can-be-guessed",
        package: "cellblock",
        edits: &[
            instead(
                FILES,
                "write_whole",
                "let new = file.with_file_name(format!(\".{name}.{:08x}\", kernel::sys::process::random()?));",
                "let new = { let _ = &name; file.with_extension(\"new\") };",
            ),
            instead(FILES, "write_whole", ".create_new(true)", ".create(true).truncate(true)"),
        ],
        seen_by: &[Check("pid-files-collide")],
    },
    Hole {
        name: "lock-for-everybody",
        package: "cellblock",
        edits: &[instead(PLACE, "again", "openat(&self.fd, \".\"", "openat(&self.fd, \"..\"")],
        seen_by: &[Check("locks-are-taken")],
    },
    Hole {
        name: "hooks-cannot-fail",
        package: "cellblock",
        edits: &[instead(
            "steps/07-runtime/src/hooks.rs",
            "run_one",
            "if status.success() {",
            "if true || status.success() {",
        )],
        seen_by: &[Check("hook-fails")],
    },
    Hole {
        name: "hooks-have-time",
        package: "cellblock",
        edits: &[instead(
            "steps/07-runtime/src/hooks.rs",
            "run_one",
            "talk(child, state, seconds, gives_up)",
            "talk(child, state, seconds.map(|_| 3600), gives_up)",
        )],
        seen_by: &[Check("hook-never-ends")],
    },
    Hole {
        name: "limits-are-forgotten",
        package: "cellblock",
        edits: &[without("steps/07-runtime/src/resources.rs", "limit", "group.limit(asked)")],
        seen_by: &[Check("memory-runs-out")],
    },
    Hole {
        name: "places-follow-links",
        package: "cellblock",
        edits: &[instead(
            "steps/03-pivot-root/src/place.rs",
            "resolve",
            "ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS",
            "ResolveFlag::RESOLVE_IN_ROOT",
        )],
        seen_by: &[Check("proc-is-link")],
    },
];
