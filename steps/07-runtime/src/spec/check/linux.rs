//! Rules for what only Linux has; its settings of the kernel and its resources have files of their own.

use std::collections::BTreeSet;

use kernel::Failure;

use super::resources::check_resources;
use super::{absolute, ensure, entry, maps, quoted, refuse};
use crate::spec::{Device, DeviceKind, Linux, NamespaceKind};

/// Checks all of it.
pub fn check(linux: &Linux) -> Result<(), Failure> {
    check_namespaces(linux)?;
    check_users(linux)?;
    check_time(linux)?;
    check_devices(&linux.devices)?;
    check_net_devices(linux)?;
    check_cgroups_path(linux)?;
    linux.resources.as_ref().map_or(Ok(()), |resources| check_resources(resources, "linux.resources."))?;
    check_propagation(linux)?;
    for (list, paths) in [("maskedPaths", &linux.masked_paths), ("readonlyPaths", &linux.readonly_paths)] {
        for (index, path) in paths.iter().enumerate() {
            absolute(format_args!("linux.{list}[{index}]"), path)?;
        }
    }
    let flags = linux.personality.as_ref().is_some_and(|personality| !personality.flags.is_empty());
    ensure(!flags, "linux.personality.flags", "the specification names no flag yet")
}

fn check_namespaces(linux: &Linux) -> Result<(), Failure> {
    for (index, namespace) in linux.namespaces.iter().enumerate() {
        let at = format!("linux.namespaces[{index}]");
        let twice = linux.namespaces[..index].iter().any(|earlier| earlier.kind == namespace.kind);
        ensure(!twice, format_args!("{at}.type"), format_args!("{} is there twice", namespace.kind.name()))?;
        namespace.path.as_deref().map_or(Ok(()), |path| absolute(format_args!("{at}.path"), path))?;
    }
    // Every mount of the container would be made on the host, and its root pivoted there.
    let own_mounts = linux.namespace(NamespaceKind::Mount).is_some();
    ensure(own_mounts, "linux.namespaces", "no mount namespace: what is mounted would be mounted on the host")
}

/// Who joins a user namespace by its path finds maps in it; callers repeat them, and mounts are translated by them.
fn check_users(linux: &Linux) -> Result<(), Failure> {
    let users = linux.namespace(NamespaceKind::User);
    for (name, map) in [("uidMappings", &linux.uid_mappings), ("gidMappings", &linux.gid_mappings)] {
        let path = format!("linux.{name}");
        maps::check(&path, map)?;
        ensure(users.is_some() || map.is_empty(), &path, "there is no user namespace to have it")?;
        let new = users.is_some_and(|namespace| namespace.path.is_none());
        ensure(!new || !map.is_empty(), &path, "missing: in a new user namespace nobody would be anybody")?;
    }
    Ok(())
}

fn check_time(linux: &Linux) -> Result<(), Failure> {
    let new = linux.namespace(NamespaceKind::Time).is_some_and(|namespace| namespace.path.is_none());
    for (clock, offset) in &linux.time_offsets {
        let path = entry("linux.timeOffsets", clock);
        ensure(new, &path, "there is no new time namespace to have it")?;
        let known = clock == "monotonic" || clock == "boottime";
        ensure(known, &path, "the clocks that can differ are monotonic and boottime")?;
        let part = offset.nanosecs.unwrap_or(0) < 1_000_000_000;
        ensure(part, format_args!("{path}.nanosecs"), "must be less than a second, 1000000000")?;
    }
    Ok(())
}

/// The kernel's numbers have 12 and 20 bits.
const MAJORS: i64 = 1 << 12;
const MINORS: i64 = 1 << 20;

fn check_devices(devices: &[Device]) -> Result<(), Failure> {
    for (index, device) in devices.iter().enumerate() {
        let at = format!("linux.devices[{index}]");
        absolute(format_args!("{at}.path"), &device.path)?;
        let twice = devices[..index].iter().any(|earlier| earlier.path == device.path);
        ensure(!twice, format_args!("{at}.path"), format_args!("{} is there twice", quoted(&device.path)))?;
        for (name, number, end) in [("major", device.major, MAJORS), ("minor", device.minor, MINORS)] {
            if device.kind == DeviceKind::Fifo {
                continue; // It has none; callers in Go write zeros.
            }
            let number = number.ok_or_else(|| refuse(format_args!("{at}.{name}"), "missing: only a FIFO has none"))?;
            let why = format!("{number} is not in 0 to {}", end - 1);
            ensure((0..end).contains(&number), format_args!("{at}.{name}"), why)?;
        }
        // The bits above 07777 are the kind of node once more: podman copies them from the host's.
        const KIND: u32 = 0o170_000; // podman gives the whole mode, as stat has it
        let mode = device.file_mode.unwrap_or(0) & !KIND;
        ensure(mode <= 0o177_777, format!("{at}.fileMode"), format_args!("{mode} is more than 65535, octal 177777"))?;
    }
    Ok(())
}

fn check_net_devices(linux: &Linux) -> Result<(), Failure> {
    let own = linux.namespace(NamespaceKind::Network).is_some();
    let mut taken = BTreeSet::new();
    for (name, device) in &linux.net_devices {
        let path = entry("linux.netDevices", name);
        ensure(own, &path, "there is no network namespace for it to move into")?;
        ensure(is_interface_name(name), &path, "not a name of an interface")?;
        let inside = device.name.as_deref().unwrap_or(name);
        let inside_path = if device.name.is_some() { format!("{path}.name") } else { path };
        ensure(is_interface_name(inside), &inside_path, format_args!("{} is no interface's name", quoted(inside)))?;
        ensure(taken.insert(inside), &inside_path, format_args!("{} is there twice", quoted(inside)))?;
    }
    Ok(())
}

/// The kernel's own rule (`dev_valid_name`): at most 15 bytes, and a file's name in /sys/class/net.
fn is_interface_name(name: &str) -> bool {
    let allowed = |c: char| c != '/' && c != ':' && !c.is_whitespace();
    (1..=15).contains(&name.len()) && name != "." && name != ".." && name.chars().all(allowed)
}

fn check_cgroups_path(linux: &Linux) -> Result<(), Failure> {
    let Some(path) = linux.cgroups_path.as_deref() else { return Ok(()) };
    let why = format!("{} could leave its tree: write it without ..", quoted(path));
    ensure(!path.split('/').any(|part| part == ".."), "linux.cgroupsPath", why)?;
    ensure(!path.contains('\n'), "linux.cgroupsPath", "a cgroup's name has no line break")
}

/// The specification's four, and these with an `r`, which callers write as well.
const PROPAGATIONS: [&str; 8] =
    ["shared", "slave", "private", "unbindable", "rshared", "rslave", "rprivate", "runbindable"];

fn check_propagation(linux: &Linux) -> Result<(), Failure> {
    let Some(propagation) = linux.rootfs_propagation.as_deref() else { return Ok(()) };
    let why = format!("{} is not one of shared, slave, private, unbindable", quoted(propagation));
    ensure(PROPAGATIONS.contains(&propagation), "linux.rootfsPropagation", why)
}
