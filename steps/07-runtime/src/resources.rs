//! The container's group and its limits, as the configuration has them: from its words to step 5's. Where `--systemd-cgroup`
//! asks for it, the group is a scope of systemd's.

use crate::groups::Kept;
use crate::groups::device_rules::{Access, Kind, Rule};
use crate::groups::resources as step5;
use crate::systemd::{self, Scope};
use anyhow::{Context, Result};
use kernel::{Errno, Failure};

use crate::spec::{self, DeviceRuleKind, Spec};

/// Where the group lies: as the configuration says, else named after the container.
pub fn path(spec: &Spec, id: &str) -> String {
    let asked = spec.linux.as_ref().and_then(|linux| linux.cgroups_path.clone());
    asked.unwrap_or_else(|| id.to_owned())
}

/// The scope that systemd shall make, where it makes the groups.
///
/// # Errors
/// It does not run here; a path that names no scope; an annotation that is no property.
pub fn scope(spec: &Spec, id: &str) -> Result<Scope> {
    if !std::path::Path::new("/run/systemd/system").is_dir() {
        let hint = "leave it out; with docker: --exec-opt native.cgroupdriver=cgroupfs";
        return Err(Failure::new("--systemd-cgroup: systemd does not run on this machine").hint(hint).into());
    }
    more_properties(spec)?;
    let path = spec.linux.as_ref().and_then(|linux| linux.cgroups_path.as_deref());
    Scope::parse(path, id).context("--systemd-cgroup: linux.cgroupsPath")
}

/// What the configuration's annotations ask of the unit besides.
fn more_properties(spec: &Spec) -> Result<Vec<systemd::Property>> {
    let all = spec.annotations.iter().filter_map(|(key, value)| systemd::of_annotation(key, value).transpose());
    Ok(all.collect::<Result<_, Failure>>()?)
}

/// Has systemd make the scope, with the child in it: its group.
///
/// # Errors
/// As [`Scope::start`].
pub fn start(scope: &Scope, child: i32, spec: &Spec, id: &str) -> Result<Kept> {
    let resources = resources(&asked_of(spec));
    scope.start(child, &format!("cellblock's container {id}"), &resources, &more_properties(spec)?)?;
    scope.group_of(&child.to_string())
}

/// Makes what is missing of a scope's group, with the child in it, and limits it.
///
/// # Errors
/// As [`make`].
pub fn complete(scope: &Scope, group: &Kept, child: i32, spec: &Spec) -> Result<()> {
    let asked = asked_of(spec);
    let resources = resources(&asked);
    scope.complete(group, child, &resources.controllers())?;
    limit(group, &resources, &asked)
}

fn asked_of(spec: &Spec) -> spec::Resources {
    spec.linux.as_ref().and_then(|linux| linux.resources.clone()).unwrap_or_default()
}

/// Makes it, with its limits. None for an ordinary user who may make no group, and asks for no limit.
///
/// # Errors
/// A group that is not free; a missing controller; a value that the kernel refuses.
pub fn make(path: &str, spec: &Spec) -> Result<Option<Kept>> {
    let nothing = spec::Resources::default();
    let asked = spec.linux.as_ref().and_then(|linux| linux.resources.as_ref()).unwrap_or(&nothing);
    let resources = resources(asked);
    let not_ours = |error: &anyhow::Error| {
        let errno = error.downcast_ref::<Failure>().and_then(Failure::errno);
        matches!(errno, Some(Errno::EACCES | Errno::EPERM | Errno::EROFS))
    };
    let group = match Kept::make(path, &resources.controllers()) {
        Err(error) if resources == step5::Resources::default() && not_ours(&error) => return Ok(None),
        made => made?,
    };
    limit(&group, &resources, asked).inspect_err(|_| drop(group.remove()))?;
    Ok(Some(group))
}

fn limit(group: &Kept, resources: &step5::Resources, asked: &spec::Resources) -> Result<()> {
    group.limit(resources).context("linux.resources")?;
    guard_devices(group, &asked.devices).context("linux.resources.devices")
}

/// In an ordinary user's namespace no node can be made, and none opened but those that are bound: so nothing is to be guarded
/// there. Its root may be us, as where podman starts us for such a user.
fn guard_devices(group: &Kept, asked: &[spec::DeviceRule]) -> Result<()> {
    if kernel::sys::privilege::user() != 0 {
        return Ok(());
    }
    let is_refused = |error: &anyhow::Error| {
        let errno = error.downcast_ref::<Failure>().and_then(Failure::errno);
        errno == Some(Errno::EPERM) && !cgroups::delegated::is_tree_ours()
    };
    match group.guard_devices(&device_rules(asked)?) {
        Err(error) if is_refused(&error) => Ok(()),
        guarded => guarded,
    }
}

/// Changes the limits of a group that is in use.
pub fn update(group: &Kept, scope: Option<&Scope>, asked: &spec::Resources) -> Result<()> {
    match scope {
        Some(scope) => scope.limit(group, &resources(asked))?,
        None => group.limit(&resources(asked))?,
    }
    if asked.devices.is_empty() {
        return Ok(());
    }
    guard_devices(group, &asked.devices)
}

/// The rules, and after them the devices that every container may use, as every runtime adds them.
fn device_rules(asked: &[spec::DeviceRule]) -> Result<Vec<Rule>> {
    let number = |number: Option<i64>| number.and_then(|number| u32::try_from(number).ok());
    let rule = |asked: &spec::DeviceRule| {
        let kind = match asked.kind {
            None | Some(DeviceRuleKind::All) => Kind::All,
            Some(DeviceRuleKind::Block) => Kind::Block,
            Some(DeviceRuleKind::Char) => Kind::Character,
        };
        let access = asked.access.as_deref().map_or(Ok(Access::ALL), Access::parse)?;
        Ok(Rule { allow: asked.allow, kind, major: number(asked.major), minor: number(asked.minor), access })
    };
    let mut rules: Vec<Rule> = asked.iter().map(rule).collect::<Result<_, Failure>>()?;
    if rules.is_empty() {
        let all = Rule { allow: false, kind: Kind::All, major: None, minor: None, access: Access::ALL };
        rules.push(all);
    }
    rules.extend(crate::groups::device_rules::harmless());
    Ok(rules)
}

/// Names are equal on both sides; what is absent there is absent here.
fn resources(asked: &spec::Resources) -> step5::Resources {
    step5::Resources {
        memory: asked.memory.as_ref().map(memory).unwrap_or_default(),
        cpu: asked.cpu.as_ref().map(cpu).unwrap_or_default(),
        pids: asked.pids.as_ref().and_then(|pids| pids.limit),
        block_io: asked.block_io.as_ref().map(block_io).unwrap_or_default(),
        hugepage_limits: asked.hugepage_limits.iter().map(|limit| (limit.page_size.clone(), limit.limit)).collect(),
        network: asked.network.as_ref().map(network).unwrap_or_default(),
        rdma: asked.rdma.iter().map(|(name, limits)| (name.clone(), rdma(limits))).collect(),
        unified: asked.unified.clone(),
    }
}

fn memory(asked: &spec::Memory) -> step5::Memory {
    step5::Memory {
        limit: asked.limit,
        reservation: asked.reservation,
        swap: asked.swap,
        swappiness: asked.swappiness,
        disable_oom_killer: asked.disable_oom_killer,
        check_before_update: asked.check_before_update,
    }
}

fn cpu(asked: &spec::Cpu) -> step5::Cpu {
    step5::Cpu {
        shares: asked.shares,
        quota: asked.quota,
        burst: asked.burst,
        period: asked.period,
        realtime_runtime: asked.realtime_runtime,
        realtime_period: asked.realtime_period,
        cpus: asked.cpus.clone(),
        mems: asked.mems.clone(),
        idle: asked.idle,
    }
}

fn block_io(asked: &spec::BlockIo) -> step5::BlockIo {
    let throttle = |devices: &[spec::ThrottleDevice]| {
        let device = |asked: &spec::ThrottleDevice| step5::ThrottleDevice {
            major: asked.major,
            minor: asked.minor,
            rate: asked.rate,
        };
        devices.iter().map(device).collect()
    };
    let weight = |asked: &spec::WeightDevice| step5::WeightDevice {
        major: asked.major,
        minor: asked.minor,
        weight: asked.weight,
        leaf_weight: asked.leaf_weight,
    };
    step5::BlockIo {
        weight: asked.weight,
        leaf_weight: asked.leaf_weight,
        weight_device: asked.weight_device.iter().map(weight).collect(),
        throttle_read_bps_device: throttle(&asked.throttle_read_bps_device),
        throttle_write_bps_device: throttle(&asked.throttle_write_bps_device),
        throttle_read_iops_device: throttle(&asked.throttle_read_iops_device),
        throttle_write_iops_device: throttle(&asked.throttle_write_iops_device),
    }
}

fn network(asked: &spec::Network) -> step5::Network {
    let priorities = asked.priorities.iter().map(|each| (each.name.clone(), each.priority)).collect();
    step5::Network { class_id: asked.class_id, priorities }
}

fn rdma(asked: &spec::Rdma) -> step5::Rdma {
    step5::Rdma { hca_handles: asked.hca_handles, hca_objects: asked.hca_objects }
}
