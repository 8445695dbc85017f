//! Control groups: which version, which controllers, and whether we may make groups.

use std::path::Path;

use nix::unistd::{AccessFlags, access};

use crate::check::{Check, Lack};
use crate::rights::{PRIVILEGED, Rights, Way, refused};
use crate::{modules, read};
use cgroups::hierarchies::{Hierarchies, Hierarchy, has};

const NEEDED_BY: &[&str] = &["cgroups", "cellblock"];

/// A controller that the lessons set limits with.
struct Controller {
    check: &'static str,
    name: &'static str,
    /// Its name in v1.
    legacy: &'static str,
    option: &'static str,
}

const CONTROLLERS: [Controller; 5] = [
    Controller { check: "cpu-controller", name: "cpu", legacy: "cpu", option: "CONFIG_CGROUP_SCHED" },
    Controller { check: "cpuset-controller", name: "cpuset", legacy: "cpuset", option: "CONFIG_CPUSETS" },
    Controller { check: "memory-controller", name: "memory", legacy: "memory", option: "CONFIG_MEMCG" },
    Controller { check: "pids-controller", name: "pids", legacy: "pids", option: "CONFIG_CGROUP_PIDS" },
    Controller { check: "io-controller", name: "io", legacy: "blkio", option: "CONFIG_BLK_CGROUP" },
];

/// The lines about control groups.
pub fn checks(rights: &Rights) -> Vec<Check> {
    let all = Hierarchies::parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
    let mut checks = vec![
        Check::new("cgroup", NEEDED_BY, version(&all).ok_or_else(|| not_mounted(rights))),
        Check::new("cgroup-write", NEEDED_BY, writable(&all, rights)),
    ];
    for controller in &CONTROLLERS {
        checks.push(Check::new(controller.check, NEEDED_BY, look_for(controller, &all, rights)));
    }
    checks
}

fn version(all: &Hierarchies) -> Option<String> {
    let legacy = CONTROLLERS.iter().filter(|each| all.legacy_with(each.legacy).is_some());
    let names: Vec<_> = legacy.map(|each| each.name).collect();
    match &all.unified {
        Some(unified) if names.is_empty() => Some(format!("v2, at {}", unified.point)),
        Some(unified) => Some(format!("hybrid: v1 for {}; v2 at {}", names.join(", "), unified.point)),
        None if names.is_empty() => None,
        None => Some(format!("v1, for {}", names.join(", "))),
    }
}

const NOT_MOUNTED: &str = "no control groups are mounted";

fn not_mounted(rights: &Rights) -> Lack {
    if !Path::new("/proc/cgroups").exists() {
        return modules::lack("CONFIG_CGROUPS");
    }
    Lack::new(NOT_MOUNTED, rights.sudo("mount -t cgroup2 cgroup2 /sys/fs/cgroup"))
}

/// Whether groups can be made below the one that we are in. To make one would show it too; to ask leaves nothing
/// behind, whatever happens to us meanwhile.
fn writable(all: &Hierarchies, rights: &Rights) -> Result<String, Lack> {
    let mut hierarchies: Vec<(&Hierarchy, &str)> =
        CONTROLLERS.iter().filter_map(|each| Some((all.legacy_with(each.legacy)?, each.legacy))).collect();
    if hierarchies.is_empty() {
        let unified = all.unified.as_ref().ok_or_else(|| Lack::unknown(NOT_MOUNTED))?;
        hierarchies.push((unified, ""));
    }
    for (hierarchy, controller) in hierarchies {
        let directory = all.our_directory(hierarchy, controller);
        if hierarchy.read_only {
            return Err(Lack::new(format!("{} is mounted read-only", hierarchy.point), PRIVILEGED));
        }
        match access(directory.as_str(), AccessFlags::W_OK) {
            Err(errno) if rights.way != Way::Sudo => {
                return Err(Lack::new(
                    format!("{directory}: {}", refused(errno).found),
                    from_systemd(OWN_GROUP, controller.is_empty()),
                ));
            }
            _ => {}
        }
    }
    Ok("groups can be made".to_owned())
}

/// systemd gives its users groups of their own, in v2 only. Otherwise they are root's.
fn from_systemd(remedy: &'static str, unified: bool) -> &'static str {
    let systemd = Path::new("/run/systemd/system").exists();
    if systemd && unified { remedy } else { "log in as root, or as a user whom sudo trusts" }
}

const OWN_GROUP: &str = "systemd-run --user --scope -p Delegate=yes bash # a shell with its own group";

/// It hands cpu, memory and pids down to them, unless told to hand down all.
const DELEGATE: &str = "\
d=/etc/systemd/system/user@.service.d
sudo mkdir -p $d
printf '[Service]\\nDelegate=yes\\n' | sudo tee $d/delegate.conf
sudo systemctl daemon-reload # then log in again
systemd-run --user --scope -p Delegate=yes bash # a shell with its own group";

fn look_for(controller: &Controller, all: &Hierarchies, rights: &Rights) -> Result<String, Lack> {
    if let Some(hierarchy) = all.legacy_with(controller.legacy) {
        return Ok(format!("v1, at {}", hierarchy.point));
    }
    let Some(unified) = &all.unified else { return Err(why_not(controller, all, rights)) };
    let offered = |directory: &str| has(&read(&format!("{directory}/cgroup.controllers")), controller.name);
    // Root hands a controller down from the top. Another user has what was handed down to the own group.
    let topmost = offered(&unified.point);
    let from_the_top = matches!(rights.way, Way::Root | Way::Sudo);
    if topmost && from_the_top {
        Ok("v2".to_owned())
    } else if !from_the_top && offered(&all.our_directory(unified, "")) {
        Ok("v2, delegated to us".to_owned())
    } else if topmost {
        Err(Lack::new("v2, but not delegated to us", from_systemd(DELEGATE, true)))
    } else {
        Err(why_not(controller, all, rights))
    }
}

/// Why a controller is in no hierarchy that is mounted here. /proc/cgroups tells: its name, the number of its v1
/// hierarchy or 0, how many groups, whether it is enabled.
fn why_not(controller: &Controller, all: &Hierarchies, rights: &Rights) -> Lack {
    let name = controller.legacy;
    let table = read("/proc/cgroups");
    let row = table.lines().map(|line| line.split('\t').collect::<Vec<_>>()).find(|row| row[0] == name);
    match (row.as_deref(), &all.unified) {
        (None, _) => modules::lack(controller.option),
        (Some([.., "0"]), _) => {
            let remedy = format!("boot with cgroup_enable={name} on the kernel's command line");
            Lack::new("in this kernel, but switched off when it was booted", remedy)
        }
        (Some(_), None) if all.legacy.is_empty() => Lack::unknown(NOT_MOUNTED),
        (Some(_), _) if !all.legacy.is_empty() => {
            let place = format!("/sys/fs/cgroup/{name}");
            let commands = [format!("mkdir -p {place}"), format!("mount -t cgroup -o {name} cgroup {place}")];
            Lack::new("in this kernel, but not mounted", commands.map(|command| rights.sudo(&command)).join("\n"))
        }
        (Some([_, "0", ..]), _) => Lack::new("in this kernel, but not handed down to this group", PRIVILEGED),
        (Some(_), _) => {
            let remedy = "boot with cgroup_no_v1=all on the kernel's command line";
            Lack::new("held by a v1 hierarchy that is not mounted here", remedy)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIFIED: &str = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_version_is_told_by_where_the_controllers_are() {
        let v1 = "33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                  34 31 0:31 / /sys/fs/cgroup/blkio rw - cgroup cgroup rw,blkio\n";
        let named = "35 31 0:32 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n";
        let version = |mountinfo: &str| version(&Hierarchies::parse(mountinfo, ""));
        assert_eq!(version(UNIFIED).unwrap(), "v2, at /sys/fs/cgroup/unified");
        assert_eq!(version(&format!("{named}{UNIFIED}")).unwrap(), "v2, at /sys/fs/cgroup/unified");
        assert_eq!(version(v1).unwrap(), "v1, for memory, io");
        let hybrid = version(&format!("{v1}{UNIFIED}")).unwrap();
        assert_eq!(hybrid, "hybrid: v1 for memory, io; v2 at /sys/fs/cgroup/unified");
        assert_eq!(version(named), None);
        assert_eq!(version(""), None);
    }
}
