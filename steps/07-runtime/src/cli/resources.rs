//! The limits, as `linux.resources` of the configuration. The options are step 5's; here they get the terms and scales of cgroup
//! v1, because the bundle that is written must be one that every runtime can read.

use cgroups::{IoMax, Limits};

use super::Checked;
use crate::spec::{BlockIo, Cpu, DeviceRule, Memory, Pids, Resources, ThrottleDevice};

impl Checked<'_> {
    pub(super) fn resources(&self) -> Resources {
        let limits = &self.limits;
        Resources {
            // No device but those that every container has.
            devices: vec![DeviceRule { allow: false, access: Some("rwm".to_owned()), ..DeviceRule::default() }],
            memory: memory(limits),
            cpu: cpu(limits),
            pids: limits.pids.map(|pids| Pids { limit: Some(pids as i64) }),
            block_io: block_io(&limits.io),
            ..Resources::default()
        }
    }
}

fn memory(limits: &Limits) -> Memory {
    let bytes = |bytes: Option<u64>| bytes.map(|bytes| bytes as i64);
    // Memory and swap together: what does not fit is not swapped out, beyond the limit.
    let (limit, swap) = (bytes(limits.memory), bytes(limits.memory));
    Memory { limit, swap, reservation: bytes(limits.memory_low), ..Memory::default() }
}

fn cpu(limits: &Limits) -> Cpu {
    Cpu {
        shares: limits.weight.map(shares),
        quota: limits.quota.map(|quota| quota as i64),
        period: limits.quota.map(|_| cgroups::PERIOD),
        cpus: limits.cpuset.clone(),
        ..Cpu::default()
    }
}

/// The shares that become this weight again.
fn shares(weight: u64) -> u64 {
    let is_v1 = cgroups::hierarchies::Hierarchies::read().is_ok_and(|trees| !cgroups::is_v2(&trees));
    if is_v1 { cgroups::v1::shares(weight) } else { crate::groups::resources::v2::shares_of_weight(weight) }
}

fn block_io(devices: &[IoMax]) -> BlockIo {
    let throttle = |what: &str| {
        let limit = |device: &IoMax| {
            let rate = device.limits.iter().find(|(name, _)| name == what)?.1;
            Some(ThrottleDevice { major: device.device.0 as i64, minor: device.device.1 as i64, rate })
        };
        devices.iter().filter_map(limit).collect()
    };
    BlockIo {
        throttle_read_bps_device: throttle("rbps"),
        throttle_write_bps_device: throttle("wbps"),
        throttle_read_iops_device: throttle("riops"),
        throttle_write_iops_device: throttle("wiops"),
        ..BlockIo::default()
    }
}
