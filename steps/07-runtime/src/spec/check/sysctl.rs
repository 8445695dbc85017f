//! Rules for settings of the kernel. Most are the whole machine's; a container may set those of its own namespaces.

use std::os::unix::fs::MetadataExt;

use kernel::Failure;
use network::sysctl;

use super::{ensure, entry};
use crate::spec::{Linux, NamespaceKind};

/// Settings that an ipc namespace has for itself (man 7 ipc_namespaces).
const OF_IPC: [&str; 8] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shm_rmid_forced",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
];

/// Checks that each setting is one of a namespace, and that the container has its own.
pub fn check(linux: &Linux) -> Result<(), Failure> {
    for name in linux.sysctl.keys() {
        let path = entry("linux.sysctl", name);
        let file = sysctl::file(name);
        let plain = file.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
        ensure(plain, &path, "not a name such as net.ipv4.ip_forward")?;
        let why = "hostname sets this, in an own uts namespace";
        ensure(file != "kernel/hostname", &path, why)?;
        let Some(kind) = namespace_of(&file) else {
            return ensure(false, &path, "it is the whole machine's: no namespace has it for itself");
        };
        let why = format!("without an own {} namespace it would be the host's that changes", kind.name());
        ensure(has_own(linux, kind), &path, why)?;
    }
    Ok(())
}

/// The kind of namespace that has this setting for itself.
fn namespace_of(file: &str) -> Option<NamespaceKind> {
    match file {
        "kernel/domainname" => Some(NamespaceKind::Uts),
        _ if OF_IPC.contains(&file) || file.starts_with("fs/mqueue/") => Some(NamespaceKind::Ipc),
        _ if file.starts_with("net/") => Some(NamespaceKind::Network),
        _ => None,
    }
}

/// A namespace that is joined by its path can be the host's own after all: `/proc/1/ns/net`.
fn has_own(linux: &Linux, kind: NamespaceKind) -> bool {
    let Some(namespace) = linux.namespace(kind) else { return false };
    let Some(path) = namespace.path.as_deref() else { return true };
    let identity = |path: &str| std::fs::metadata(path).ok().map(|about| (about.dev(), about.ino()));
    identity(path).is_none_or(|joined| Some(joined) != identity(&format!("/proc/self/ns/{}", kind.file())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With new namespaces of all kinds, or those with these paths.
    fn refused(name: &str, kinds: &[(&str, Option<&str>)]) -> bool {
        let namespaces: Vec<_> =
            kinds.iter().map(|(kind, path)| serde_json::json!({"type": kind, "path": path})).collect();
        let linux = serde_json::json!({"namespaces": namespaces, "sysctl": {name: "1"}});
        check(&serde_json::from_value(linux).unwrap()).is_err()
    }

    #[test]
    fn only_what_a_namespace_has_for_itself() {
        let all: Vec<_> = NamespaceKind::ALL.iter().map(|kind| (kind.name(), None)).collect();
        for right in ["net.ipv4.ip_forward", "net/core/somaxconn", "kernel.sem", "fs.mqueue.msg_max", "kernel/shmmax"] {
            assert!(!refused(right, &all), "{right}");
            assert!(refused(right, &[("pid", None)]), "{right}");
        }
        for wrong in [
            "",
            "vm.swappiness",
            "kernel.core_pattern",
            "kernel.hostname",
            "net",
            "net.",
            "net/../kernel/core_pattern",
            "net./.kernel",
            "net.//.x",
            "user.max_user_namespaces",
        ] {
            assert!(refused(wrong, &all), "{wrong}");
        }
        assert!(refused("net.ipv4.ip_forward", &[("network", Some("/proc/self/ns/net"))]));
        assert!(!refused("net.ipv4.ip_forward", &[("network", Some("/run/netns/other"))]));
    }
}
