//! Rules for mounts. Which options the kernel knows is not asked here: any other word belongs to the file system.

use kernel::Failure;

use super::{ensure, maps, quoted};
use crate::spec::{Mount, NamespaceKind, Spec};

/// Checks all mounts.
pub fn check(spec: &Spec) -> Result<(), Failure> {
    let own_users = spec.linux.as_ref().is_some_and(|linux| linux.namespace(NamespaceKind::User).is_some());
    spec.mounts.iter().enumerate().try_for_each(|(index, mount)| {
        let at = format!("mounts[{index}].");
        check_destination(mount, &at)?;
        check_source(mount, &at)?;
        check_id_maps(mount, &at, own_users)
    })
}

/// A destination may be relative (old usage: it counts from `/`), and `..` in it ends at the container's root. The root
/// itself is no place: what is mounted over it hides all mounts before it, and is not where the process then is.
fn check_destination(mount: &Mount, at: &str) -> Result<(), Failure> {
    let path = format!("{at}destination");
    ensure(!mount.destination.is_empty(), &path, "it is empty")?;
    let depth = mount.destination.split('/').fold(0_usize, |depth, part| match part {
        "" | "." => depth,
        ".." => depth.saturating_sub(1),
        _ => depth + 1,
    });
    ensure(depth > 0, path, format_args!("{} is the root itself, which root.path names", quoted(&mount.destination)))
}

fn check_source(mount: &Mount, at: &str) -> Result<(), Failure> {
    if mount.is_bind() {
        return ensure(mount.source.is_some(), format_args!("{at}source"), "missing: a bind mount shows something");
    }
    let named = mount.kind.is_some() || mount.has_option("remount");
    ensure(named, format_args!("{at}type"), "missing, and neither bind nor rbind is among the options")?;
    let copies = mount.has_option("tmpcopyup") && mount.kind.as_deref() != Some("tmpfs");
    ensure(!copies, format_args!("{at}options"), "tmpcopyup is for a tmpfs")
}

/// A mount whose owners are translated needs to know how: by its own maps, or by the container's.
fn check_id_maps(mount: &Mount, at: &str, own_users: bool) -> Result<(), Failure> {
    maps::check(&format!("{at}uidMappings"), &mount.uid_mappings)?;
    maps::check(&format!("{at}gidMappings"), &mount.gid_mappings)?;
    let (uids, gids) = (!mount.uid_mappings.is_empty(), !mount.gid_mappings.is_empty());
    ensure(uids || !gids, format_args!("{at}uidMappings"), "missing, and gidMappings is there: both or none")?;
    ensure(gids || !uids, format_args!("{at}gidMappings"), "missing, and uidMappings is there: both or none")?;
    let asked = mount.has_option("idmap") || mount.has_option("ridmap");
    let known = !asked || uids || own_users;
    ensure(known, format_args!("{at}options"), "idmap needs uidMappings and gidMappings, or an own user namespace")
}
