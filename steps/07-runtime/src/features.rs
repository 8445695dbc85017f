//! What this runtime can do, told to callers: the JSON that `features` prints (features.md, features-linux.md).
//!
//! It is about the program, not about the machine it runs on. Whatever has a table in the code is told from that table:
//! each crate hands in its own, and what [`spec::check`](crate::spec::check) always refuses is not promised here.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::spec::{HOOKS, NEWEST, NamespaceKind, OLDEST, is_done};

/// What the crates below know and can do; all lists are sorted as they are printed.
pub struct Tables<'a> {
    /// Options of mounts that are the kernel's, not a file system's.
    pub mount_options: Vec<&'a str>,
    /// Capabilities, with CAP_ in front.
    pub capabilities: Vec<&'a str>,
    /// What a seccomp profile may say.
    pub seccomp: SeccompTables<'a>,
    /// Whether a systemd scope can be made for the container.
    pub systemd: bool,
    /// Whether a user's own systemd can make it.
    pub systemd_user: bool,
    /// Whether a process is put under its AppArmor profile.
    pub apparmor: bool,
    /// Whether a process and its mounts get their SELinux contexts.
    pub selinux: bool,
    /// Whether mounts with translated owners are made.
    pub idmap: bool,
    /// Whether network interfaces are moved into the container.
    pub net_devices: bool,
    /// The modes of memory policies.
    pub memory_modes: Vec<&'a str>,
    /// Their flags.
    pub memory_flags: Vec<&'a str>,
    /// Annotations of a configuration that change what the runtime does; one that ends with a dot stands for all that
    /// begin so. Callers keep their own users from setting these.
    pub unsafe_annotations: Vec<&'a str>,
    /// This program's version.
    pub version: &'a str,
}

/// The words of a seccomp profile.
pub struct SeccompTables<'a> {
    /// Such as SCMP_ACT_ERRNO.
    pub actions: Vec<&'a str>,
    /// Such as SCMP_CMP_EQ.
    pub operators: Vec<&'a str>,
    /// Such as SCMP_ARCH_X86_64.
    pub archs: Vec<&'a str>,
    /// Such as SECCOMP_FILTER_FLAG_LOG.
    pub known_flags: Vec<&'a str>,
    /// Those of them that the filter gets.
    pub supported_flags: Vec<&'a str>,
}

/// The JSON, as the specification names its parts.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Features<'a> {
    oci_version_min: &'a str,
    oci_version_max: &'a str,
    hooks: [&'a str; 6],
    mount_options: Vec<&'a str>,
    linux: Linux<'a>,
    annotations: BTreeMap<&'a str, &'a str>,
    potentially_unsafe_config_annotations: Vec<&'a str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Linux<'a> {
    namespaces: [&'a str; 8],
    capabilities: Vec<&'a str>,
    cgroup: Cgroup,
    seccomp: Seccomp<'a>,
    apparmor: Enabled,
    selinux: Enabled,
    intel_rdt: Enabled,
    memory_policy: MemoryPolicy<'a>,
    mount_extensions: MountExtensions,
    net_devices: Enabled,
}

#[derive(Debug, Serialize)]
struct Enabled {
    enabled: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Cgroup {
    v1: bool,
    v2: bool,
    systemd: bool,
    systemd_user: bool,
    rdma: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Seccomp<'a> {
    enabled: bool,
    actions: Vec<&'a str>,
    operators: Vec<&'a str>,
    archs: Vec<&'a str>,
    known_flags: Vec<&'a str>,
    supported_flags: Vec<&'a str>,
}

#[derive(Debug, Serialize)]
struct MemoryPolicy<'a> {
    modes: Vec<&'a str>,
    flags: Vec<&'a str>,
}

#[derive(Debug, Serialize)]
struct MountExtensions {
    idmap: Enabled,
}

/// What this runtime can do, from the tables of the crates that do it.
pub fn features<'a>(tables: Tables<'a>) -> Features<'a> {
    Features {
        oci_version_min: OLDEST,
        oci_version_max: NEWEST,
        hooks: HOOKS,
        mount_options: tables.mount_options,
        annotations: BTreeMap::from([("cellblock.version", tables.version)]),
        potentially_unsafe_config_annotations: tables.unsafe_annotations,
        linux: Linux {
            namespaces: NamespaceKind::ALL.map(NamespaceKind::name),
            capabilities: tables.capabilities,
            cgroup: Cgroup {
                v1: true,
                v2: true,
                systemd: tables.systemd,
                systemd_user: tables.systemd_user,
                rdma: is_done("linux.resources.rdma"),
            },
            seccomp: Seccomp {
                enabled: true,
                actions: tables.seccomp.actions,
                operators: tables.seccomp.operators,
                archs: tables.seccomp.archs,
                known_flags: tables.seccomp.known_flags,
                supported_flags: tables.seccomp.supported_flags,
            },
            apparmor: Enabled { enabled: tables.apparmor },
            selinux: Enabled { enabled: tables.selinux },
            intel_rdt: Enabled { enabled: is_done("linux.intelRdt") },
            memory_policy: MemoryPolicy { modes: tables.memory_modes, flags: tables.memory_flags },
            mount_extensions: MountExtensions { idmap: Enabled { enabled: tables.idmap } },
            net_devices: Enabled { enabled: tables.net_devices },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables() -> Tables<'static> {
        Tables {
            mount_options: vec!["bind", "ro"],
            capabilities: vec!["CAP_CHOWN"],
            seccomp: SeccompTables {
                actions: vec!["SCMP_ACT_ALLOW"],
                operators: vec!["SCMP_CMP_EQ"],
                archs: vec!["SCMP_ARCH_X86_64"],
                known_flags: vec!["SECCOMP_FILTER_FLAG_LOG"],
                supported_flags: vec![],
            },
            systemd: false,
            systemd_user: false,
            apparmor: true,
            selinux: false,
            idmap: true,
            net_devices: true,
            memory_modes: vec!["MPOL_BIND"],
            memory_flags: vec![],
            unsafe_annotations: vec!["org.systemd.property."],
            version: "7.0.0",
        }
    }

    #[test]
    fn the_names_are_the_specifications() {
        let json = serde_json::to_value(features(tables())).unwrap();
        for (pointer, expected) in [
            ("/ociVersionMin", r#""1.0.0""#),
            ("/hooks/5", r#""poststop""#),
            ("/mountOptions", r#"["bind","ro"]"#),
            ("/linux/namespaces/0", r#""cgroup""#),
            ("/linux/cgroup", r#"{"rdma":true,"systemd":false,"systemdUser":false,"v1":true,"v2":true}"#),
            ("/linux/seccomp/knownFlags/0", r#""SECCOMP_FILTER_FLAG_LOG""#),
            ("/linux/seccomp/supportedFlags", "[]"),
            ("/linux/mountExtensions/idmap/enabled", "true"),
            ("/linux/netDevices/enabled", "true"),
            ("/linux/memoryPolicy", r#"{"flags":[],"modes":["MPOL_BIND"]}"#),
            ("/linux/intelRdt/enabled", "false"),
            ("/potentiallyUnsafeConfigAnnotations/0", r#""org.systemd.property.""#),
        ] {
            assert_eq!(json.pointer(pointer).expect(pointer).to_string(), expected, "{pointer}");
        }
    }
}
