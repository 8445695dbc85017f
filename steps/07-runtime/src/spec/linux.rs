//! What only Linux has: `linux` (config-linux.md).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::mounts::IdMapping;
use super::object::object;
use super::resources::Resources;

object! {
    /// The walls, beyond the root directory and the process's own.
    #[derive(Default)]
    Linux {
        optional {
            /// The namespaces that are new or joined; of any other kind, the container shares the runtime's.
            namespaces: Vec<Namespace>,
            /// Users of a new user namespace.
            uid_mappings: Vec<IdMapping>,
            /// Groups of a new user namespace.
            gid_mappings: Vec<IdMapping>,
            /// By how much the clocks of a new time namespace differ: `monotonic`, `boottime`.
            time_offsets: BTreeMap<String, TimeOffset>,
            /// Device nodes, beside those that every container has.
            devices: Vec<Device>,
            /// Network interfaces of the host that move into the container, by their names (since 1.3).
            net_devices: BTreeMap<String, NetDevice>,
            /// The container's cgroup, from the top if absolute. Default: the runtime's choice.
            cgroups_path: Option<String>,
            /// How much of the machine it may use.
            resources: Option<Resources>,
            /// Settings of the kernel, as in sysctl(8).
            sysctl: BTreeMap<String, String>,
            /// Which system calls it may make (config-linux.md, Seccomp).
            seccomp: Option<privileges::seccomp::Profile>,
            /// How mounts below the root spread: shared, slave, private, unbindable, or these with an r.
            rootfs_propagation: Option<String>,
            /// Paths in the container that cannot be read.
            masked_paths: Vec<String>,
            /// Paths in the container that cannot be written.
            readonly_paths: Vec<String>,
            /// The SELinux context of its mounts.
            mount_label: Option<String>,
            /// What kind of machine `uname` tells of.
            personality: Option<Personality>,
            /// Shares of the processor's cache and memory bandwidth.
            intel_rdt: Option<IntelRdt>,
            /// From which memory nodes it gets memory (since 1.3).
            memory_policy: Option<MemoryPolicy>,
        }
    }
}

impl Linux {
    /// The namespace of this kind, if the container has its own or joins one.
    pub fn namespace(&self, kind: NamespaceKind) -> Option<&Namespace> {
        self.namespaces.iter().find(|namespace| namespace.kind == kind)
    }
}

object! {
    /// A namespace (config-linux.md, Namespaces; man 7 namespaces).
    Namespace {
        required {
            /// Of which kind.
            #[serde(rename = "type")]
            kind: NamespaceKind,
        }
        optional {
            /// The one to join: an absolute path on the host. Default: a new one.
            path: Option<String>,
        }
    }
}

/// The eight kinds of namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NamespaceKind {
    /// The top of the cgroup tree that can be seen (man 7 cgroup_namespaces).
    Cgroup,
    /// Queues, semaphores and shared memory with names (man 7 ipc_namespaces).
    Ipc,
    /// The tree of mounts (man 7 mount_namespaces).
    Mount,
    /// Interfaces, addresses, ports (man 7 network_namespaces).
    Network,
    /// Process numbers (man 7 pid_namespaces).
    Pid,
    /// Two of the clocks (man 7 time_namespaces).
    Time,
    /// User and group numbers, capabilities (man 7 user_namespaces).
    User,
    /// Host name and domain name (man 7 uts_namespaces).
    Uts,
}

impl NamespaceKind {
    /// All of them, by name.
    pub const ALL: [NamespaceKind; 8] = {
        use NamespaceKind::*;
        [Cgroup, Ipc, Mount, Network, Pid, Time, User, Uts]
    };

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            NamespaceKind::Cgroup => "cgroup",
            NamespaceKind::Ipc => "ipc",
            NamespaceKind::Mount => "mount",
            NamespaceKind::Network => "network",
            NamespaceKind::Pid => "pid",
            NamespaceKind::Time => "time",
            NamespaceKind::User => "user",
            NamespaceKind::Uts => "uts",
        }
    }

    /// Its name as a file in /proc/PID/ns.
    pub fn file(self) -> &'static str {
        match self {
            NamespaceKind::Network => "net",
            NamespaceKind::Mount => "mnt",
            other => other.name(),
        }
    }
}

object! {
    /// By how much a clock differs (config-linux.md, Offset for Time Namespace).
    #[derive(Default)]
    TimeOffset {
        optional {
            /// Seconds. Default: 0.
            secs: Option<i64>,
            /// Nanoseconds, less than a second. Default: 0.
            nanosecs: Option<u32>,
        }
    }
}

object! {
    /// A device node (config-linux.md, Devices; man 2 mknod).
    Device {
        required {
            /// Of which kind.
            #[serde(rename = "type")]
            kind: DeviceKind,
            /// Where: an absolute path in the container.
            path: String,
        }
        optional {
            /// Major number; only a FIFO has none.
            major: Option<i64>,
            /// Minor number; only a FIFO has none.
            minor: Option<i64>,
            /// Permissions, as a decimal number; bits above 07777 say the kind once more. Default: 0666.
            file_mode: Option<u32>,
            /// Owner, in the container. Default: 0.
            uid: Option<u32>,
            /// Group, in the container. Default: 0.
            gid: Option<u32>,
        }
    }
}

/// Kinds of device nodes (man 1 mknod).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum DeviceKind {
    /// A block device: `b`.
    #[serde(rename = "b")]
    Block,
    /// A character device: `c`, or `u`, which meant unbuffered.
    #[serde(rename = "c", alias = "u")]
    Char,
    /// A FIFO: `p`.
    #[serde(rename = "p")]
    Fifo,
}

object! {
    /// An interface that moves in (config-linux.md, Network Devices).
    #[derive(Default)]
    NetDevice {
        optional {
            /// Its name in there. Default: as on the host.
            name: Option<String>,
        }
    }
}

object! {
    /// What kind of machine `uname` tells of (man 2 personality).
    Personality {
        required {
            /// The machine's own, or a 32-bit one.
            domain: PersonalityDomain,
        }
        optional {
            /// The specification names none yet.
            flags: Vec<String>,
        }
    }
}

/// Kinds of machines that `uname` can tell of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum PersonalityDomain {
    /// The machine's own.
    Linux,
    /// A 32-bit one.
    Linux32,
}

object! {
    /// Shares of the processor's cache and memory bandwidth (config-linux.md, IntelRdt).
    #[derive(Default)]
    IntelRdt {
        optional {
            /// The group's name below /sys/fs/resctrl. Default: the container's id.
            #[serde(rename = "closID")]
            clos_id: Option<String>,
            /// Lines for the group's schemata file (since 1.3).
            schemata: Vec<String>,
            /// The line for the third-level cache.
            l3_cache_schema: Option<String>,
            /// The line for the memory bandwidth.
            mem_bw_schema: Option<String>,
            /// Whether the cache's use is watched (until 1.2).
            #[serde(rename = "enableCMT")]
            enable_cmt: bool,
            /// Whether the bandwidth's use is watched (until 1.2).
            #[serde(rename = "enableMBM")]
            enable_mbm: bool,
            /// Whether there is a monitoring group for the container (since 1.3).
            enable_monitoring: bool,
        }
    }
}

object! {
    /// From which memory nodes memory comes (config-linux.md, Memory policy; man 2 set_mempolicy).
    #[derive(Default)]
    MemoryPolicy {
        required {
            /// How: a name such as MPOL_INTERLEAVE.
            mode: String,
        }
        optional {
            /// From which: a list such as 0-3,7.
            nodes: Option<String>,
            /// Further wishes, such as MPOL_F_STATIC_NODES.
            flags: Vec<String>,
        }
    }
}
