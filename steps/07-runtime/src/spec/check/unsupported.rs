//! What the specification knows and this runtime, or this machine, does not do: refused by name when it is asked for.
//!
//! One table for the configuration and one for the limits. A row goes when the feature comes; `features` is told from
//! the same facts.

use kernel::Failure;

use super::refuse;
use crate::spec::{Resources, Spec};

/// Something that is not done here.
struct Row<Part> {
    /// Its place.
    path: &'static str,
    /// Whether this configuration asks for it, on this machine.
    asked: fn(&Part) -> bool,
    /// Why it is not done.
    why: &'static str,
}

const CONFIGURATION: [Row<Spec>; 4] = [
    Row {
        path: "process.apparmorProfile",
        asked: |spec| spec.process.as_ref().is_some_and(|process| needs_apparmor(process.apparmor_profile.as_deref())),
        why: "apparmor is not enabled on this machine",
    },
    Row {
        path: "process.selinuxLabel",
        asked: |spec| spec.process.as_ref().is_some_and(|process| process.selinux_label.is_some()),
        why: "not supported: cellblock gives no SELinux labels; engines leave them out with --security-opt label=disable",
    },
    Row {
        path: "linux.mountLabel",
        asked: |spec| spec.linux.as_ref().is_some_and(|linux| linux.mount_label.is_some()),
        why: "not supported: cellblock gives no SELinux labels; engines leave them out with --security-opt label=disable",
    },
    Row {
        path: "linux.intelRdt",
        asked: |spec| spec.linux.as_ref().is_some_and(|linux| linux.intel_rdt.is_some()),
        why: "not supported: cellblock does not use resctrl",
    },
];

const LIMITS: [Row<Resources>; 3] = [
    Row {
        path: "memory.kernel",
        asked: |limits| limits.memory.kernel.unwrap_or(0) > 0,
        why: "not supported: the kernel has not limited its own memory since 5.16",
    },
    Row {
        path: "memory.kernelTCP",
        asked: |limits| limits.memory.kernel_tcp.unwrap_or(0) > 0,
        why: "not supported: TCP buffers count as memory",
    },
    Row {
        path: "memory.useHierarchy",
        asked: |limits| limits.memory.use_hierarchy == Some(false),
        why: "not supported: groups below have always counted since 5.11",
    },
];

/// Refuses what the configuration asks for and nobody here does.
pub fn check(spec: &Spec) -> Result<(), Failure> {
    CONFIGURATION.iter().find(|row| (row.asked)(spec)).map_or(Ok(()), |row| Err(refuse(row.path, row.why)))
}

/// The same for limits; `at` stands before the fields.
pub fn check_resources(limits: &Resources, at: &str) -> Result<(), Failure> {
    let row = LIMITS.iter().find(|row| (row.asked)(limits));
    row.map_or(Ok(()), |row| Err(refuse(format_args!("{at}{}", row.path), row.why)))
}

/// Whether no row here is about this path, which begins with `process.` or `linux.`
pub fn is_done(path: &str) -> bool {
    let limit = path.strip_prefix("linux.resources.");
    CONFIGURATION.iter().all(|row| row.path != path) && LIMITS.iter().all(|row| Some(row.path) != limit)
}

/// The profile "unconfined" asks for nothing, so every machine can do it.
fn needs_apparmor(profile: Option<&str>) -> bool {
    let enabled = || std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"));
    profile.is_some_and(|profile| profile != "unconfined") && !enabled()
}
