//! The container's group and its limits, as the configuration has them: in the configuration's own words. Where `--systemd-cgroup`
//! asks for it, the group is a scope of systemd's.

use crate::groups::Cgroup;
use crate::groups::device_rules;
use crate::systemd::{self, Scope};
use anyhow::{Context, Result};
use cgroups::directories::is_not_ours;
use kernel::{Errno, Failure};

use crate::spec::{self, Spec};

/// Where the group lies: as the configuration says, else named after the container.
pub fn path(spec: &Spec, id: &str) -> String {
    let asked = spec.linux.as_ref().and_then(|linux| linux.cgroups_path.clone());
    asked.unwrap_or_else(|| id.to_owned())
}

/// The scope that systemd is to make, where it makes the groups.
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
pub fn start(scope: &Scope, child: i32, spec: &Spec, id: &str) -> Result<Cgroup> {
    let resources = asked_of(spec);
    scope.start(child, &format!("cellblock's container {id}"), &resources, &more_properties(spec)?)?;
    scope.group_of(&child.to_string())
}

/// Makes what is missing of a scope's group, with the child in it, and limits it.
///
/// # Errors
/// As [`make`].
pub fn complete(scope: &Scope, group: &Cgroup, child: i32, spec: &Spec) -> Result<()> {
    let asked = asked_of(spec);
    scope.complete(group, child, &asked.controllers())?;
    limit(group, &asked)
}

/// What is asked for. Before version 1.3 of the specification a limit of 0 processes was "not set"; now it is a limit.
fn asked_of(spec: &Spec) -> spec::Resources {
    let mut asked = spec.linux.as_ref().and_then(|linux| linux.resources.clone()).unwrap_or_default();
    if !spec.is_at_least(3) {
        asked.pids = asked.pids.filter(|pids| pids.limit != Some(0));
    }
    asked
}

/// Makes it, with its limits, and its owner's token on it. None for an ordinary user who may make no group, and asks for no limit.
///
/// # Errors
/// A group that is not free; a missing controller; a value that the kernel refuses.
pub fn make(path: &str, spec: &Spec, owner: &str) -> Result<Option<Cgroup>> {
    let asked = &asked_of(spec);
    let group = match Cgroup::make_for(path, &asked.controllers(), Some(owner)) {
        Err(error) if !asked.limits_anything() && is_not_ours(&error) => return Ok(None),
        made => made?,
    };
    limit(&group, asked).inspect_err(|_| drop(group.remove()))?;
    Ok(Some(group))
}

fn limit(group: &Cgroup, asked: &spec::Resources) -> Result<()> {
    group.limit(asked).context("linux.resources")?;
    guard_devices(group, &asked.devices).context("linux.resources.devices")
}

/// In an ordinary user's namespace no node can be made, and none opened but those that are bound: so nothing is to be guarded
/// there. Its root may be us, as where podman starts us for such a user.
fn guard_devices(group: &Cgroup, asked: &[spec::DeviceRule]) -> Result<()> {
    if kernel::sys::privilege::user() != 0 {
        return Ok(());
    }
    let is_refused =
        |error: &anyhow::Error| Failure::errno_in(error) == Some(Errno::EPERM) && !cgroups::delegated::is_tree_ours();
    match group.guard_devices(&device_rules::of_configuration(asked)?) {
        Err(error) if is_refused(&error) => Ok(()),
        guarded => guarded,
    }
}

/// Changes the limits of a group that is in use.
pub fn update(group: &Cgroup, scope: Option<&Scope>, asked: &spec::Resources) -> Result<()> {
    let pids = asked.pids.clone().filter(|pids| pids.limit != Some(0)); // in an update 0 is "not given"
    let asked = &spec::Resources { pids, ..asked.clone() };
    match scope {
        Some(scope) => scope.limit(group, asked)?,
        None => group.limit(asked)?,
    }
    if asked.devices.is_empty() {
        return Ok(());
    }
    guard_devices(group, &asked.devices)
}
