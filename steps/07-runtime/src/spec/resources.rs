//! How much of the machine the container may use: `linux.resources` (config-linux.md, Control groups).
//!
//! The terms and scales are those of cgroup v1, whichever version the machine has. `update` reads the same object. A
//! number that is 0 asks for nothing, unless it says otherwise: callers in older Go write zeros for what is not set.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::object::{Optional, Part, object};

object! {
    /// All limits of one container.
    #[derive(Default)]
    Resources {
        optional {
            /// Rules for device nodes; of those that fit, the last counts (config-linux.md, Allowed Device list).
            devices: Vec<DeviceRule>,
            /// Memory and swap.
            memory: Memory,
            /// CPU time, and which CPUs.
            cpu: Cpu,
            /// The number of processes.
            pids: Option<Pids>,
            /// Disks.
            #[serde(rename = "blockIO")]
            block_io: BlockIo,
            /// Huge pages, by their size.
            hugepage_limits: Vec<HugepageLimit>,
            /// Marks and priorities of network packets.
            network: Network,
            /// Remote memory access, by the adapter's name.
            rdma: BTreeMap<String, Rdma>,
            /// Files of cgroup v2 and what is written to them.
            unified: BTreeMap<String, String>,
        }
    }
}

object! {
    /// Whether some device nodes may be used.
    #[derive(Default)]
    DeviceRule {
        required {
            /// Allowed, or not.
            allow: bool,
        }
        optional {
            /// Of which kind. Default: all.
            #[serde(rename = "type")]
            kind: Option<DeviceRuleKind>,
            /// Major number. Default: all; -1 says the same.
            major: Option<i64>,
            /// Minor number. Default: all; -1 says the same.
            minor: Option<i64>,
            /// For what: r to read, w to write, m to make the node. Default: all three.
            access: Option<String>,
        }
    }
}

/// Kinds of device nodes that a rule can be about, with the kernel's numbers (BPF_DEVCG_DEV_*).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum DeviceRuleKind {
    /// All: `a`.
    #[serde(rename = "a")]
    All = 0,
    /// Block devices: `b`.
    #[serde(rename = "b")]
    Block = 1,
    /// Character devices: `c`.
    #[serde(rename = "c")]
    Character = 2,
}

impl Part for DeviceRuleKind {}

/// An object in which nothing is set is as good as none.
macro_rules! absent_when_empty {
    ($($kind:ty),+) => {
        $(impl Optional for $kind {
            fn is_absent(&self) -> bool {
                *self == <$kind>::default()
            }
        })+
    };
}

absent_when_empty!(Memory, Cpu, BlockIo, Network);

object! {
    /// Memory, in bytes; -1 is no limit (config-linux.md, Memory).
    #[derive(Default)]
    Memory {
        optional {
            /// The most, in bytes.
            limit: Option<i64>,
            /// What is left to it when memory is short, in bytes.
            reservation: Option<i64>,
            /// The most of memory and swap together, in bytes.
            swap: Option<i64>,
            /// The kernel's own memory; no kernel limits it any more.
            kernel: Option<i64>,
            /// The kernel's buffers for TCP; cgroup v1 only.
            #[serde(rename = "kernelTCP")]
            kernel_tcp: Option<i64>,
            /// How readily it is swapped out, 0 to 100, where 0 counts; cgroup v1 only.
            swappiness: Option<u64>,
            /// Whether a process waits, and is not killed, when there is no more; cgroup v1 only.
            #[serde(rename = "disableOOMKiller")]
            disable_oom_killer: Option<bool>,
            /// Whether groups below count too; they always do by now.
            use_hierarchy: Option<bool>,
            /// Whether `update` refuses a limit below what is in use.
            check_before_update: Option<bool>,
        }
    }
}

object! {
    /// CPU time, and which CPUs (config-linux.md, CPU).
    #[derive(Default)]
    Cpu {
        optional {
            /// The share against others that want the CPU too, 2 to 262144; 1024 is usual.
            shares: Option<u64>,
            /// Microseconds of CPU time in each period; -1 is no limit.
            quota: Option<i64>,
            /// Microseconds that may be saved up and used beside the quota.
            burst: Option<u64>,
            /// Microseconds of one period. The kernel's default: 100000.
            period: Option<u64>,
            /// Microseconds for real-time processes in each of their periods; cgroup v1 only.
            realtime_runtime: Option<i64>,
            /// Microseconds of such a period; cgroup v1 only.
            realtime_period: Option<u64>,
            /// Which CPUs: a list such as 0-3,7. Default: all.
            cpus: Option<String>,
            /// Which memory nodes: a list. Default: all.
            mems: Option<String>,
            /// 1: only when nobody else wants the CPU; 0: as usual.
            idle: Option<i64>,
        }
    }
}

object! {
    /// The number of processes and threads (config-linux.md, PIDs).
    #[derive(Default)]
    Pids {
        optional {
            /// The most; -1 is no limit.
            limit: Option<i64>,
        }
    }
}

object! {
    /// Disks (config-linux.md, Block IO).
    #[derive(Default)]
    BlockIo {
        optional {
            /// The share against others, 10 to 1000.
            weight: Option<u16>,
            /// The same against groups below; the disk scheduler that knew it is gone.
            leaf_weight: Option<u16>,
            /// The share on one disk.
            weight_device: Vec<WeightDevice>,
            /// Bytes read per second.
            throttle_read_bps_device: Vec<ThrottleDevice>,
            /// Bytes written per second.
            throttle_write_bps_device: Vec<ThrottleDevice>,
            /// Reads per second.
            #[serde(rename = "throttleReadIOPSDevice")]
            throttle_read_iops_device: Vec<ThrottleDevice>,
            /// Writes per second.
            #[serde(rename = "throttleWriteIOPSDevice")]
            throttle_write_iops_device: Vec<ThrottleDevice>,
        }
    }
}

impl BlockIo {
    /// The four lists of limits with their names.
    pub fn throttles(&self) -> [(&'static str, &[ThrottleDevice]); 4] {
        [
            ("throttleReadBpsDevice", &self.throttle_read_bps_device),
            ("throttleWriteBpsDevice", &self.throttle_write_bps_device),
            ("throttleReadIOPSDevice", &self.throttle_read_iops_device),
            ("throttleWriteIOPSDevice", &self.throttle_write_iops_device),
        ]
    }
}

object! {
    /// The share on one disk.
    #[derive(Default)]
    WeightDevice {
        required {
            /// Major number.
            major: i64,
            /// Minor number.
            minor: i64,
        }
        optional {
            /// 10 to 1000.
            weight: Option<u16>,
            /// The same against groups below.
            leaf_weight: Option<u16>,
        }
    }
}

object! {
    /// A limit on one disk.
    #[derive(Default)]
    ThrottleDevice {
        required {
            /// Major number.
            major: i64,
            /// Minor number.
            minor: i64,
            /// Bytes or operations per second.
            rate: u64,
        }
    }
}

object! {
    /// Huge pages of one size (config-linux.md, Huge page limits).
    #[derive(Default)]
    HugepageLimit {
        required {
            /// The size, such as 2MB.
            page_size: String,
            /// The most, in bytes.
            limit: u64,
        }
    }
}

object! {
    /// Marks and priorities of network packets; cgroup v1 only (config-linux.md, Network).
    #[derive(Default)]
    Network {
        optional {
            /// The class that its packets are marked with.
            #[serde(rename = "classID")]
            class_id: Option<u32>,
            /// Priorities, by interface.
            priorities: Vec<InterfacePriority>,
        }
    }
}

object! {
    /// The priority of packets that leave by one interface.
    #[derive(Default)]
    InterfacePriority {
        required {
            /// The interface's name, on the host.
            name: String,
            /// Its priority.
            priority: u32,
        }
    }
}

object! {
    /// Remote memory access by one adapter (config-linux.md, RDMA).
    #[derive(Default)]
    Rdma {
        optional {
            /// The most handles.
            hca_handles: Option<u32>,
            /// The most objects.
            hca_objects: Option<u32>,
        }
    }
}
