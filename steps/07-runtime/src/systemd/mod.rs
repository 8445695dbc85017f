//! Groups that systemd makes. Where systemd runs, the tree is its own: each group is that of a *unit*,
//! and a program that wants one asks for it, by D-Bus (`bus.rs`, `message.rs`, `manager.rs`). What a container gets is a *scope*: a unit whose
//! processes another program has started. systemd makes the group, moves the container's first process into it, and removes
//! it when it is empty. `Delegate=true` says that what is inside is ours: the limits' files, and the groups below.
//!
//! What order matters: the process must be there before its scope is, so it is not born into its group, as elsewhere, but
//! moved into it while it waits at the gate. Which group that is, the kernel says (/proc/PID/cgroup), and we ask nobody else.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cgroups::hierarchies::{Hierarchies, Hierarchy};
use kernel::sys::cgroup;
use kernel::{Errno, Failure, purpose};
use serde::{Deserialize, Serialize};

use crate::groups::Cgroup;
use crate::spec::Resources;
use cgroups::{Directories, delegated, directories, is_v2, v1, v2};

mod bus;
mod manager;
mod message;
mod properties;

use manager::Manager;
pub use message::{Property, Value};
pub use properties::{ANNOTATION, of_annotation};

/// The longest name of a unit.
const LONGEST: usize = 255;

/// A container's unit. It can be written to a file and read again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// The unit's name, `docker-c0ffee.scope`.
    pub unit: String,
    /// The slice that it lies in, a part of the tree: `system.slice`.
    pub slice: String,
    /// It is the user's own systemd that has it, not the machine's.
    of_user: bool,
}

impl Scope {
    /// From a `cgroupsPath` as callers write it where systemd makes the groups: `system.slice:docker:c0ffee` is the scope
    /// docker-c0ffee.scope in system.slice. Without a slice, that is the system's or the user's; without any path, the
    /// scope is called by the container's id.
    ///
    /// # Errors
    /// Another form; what can be no unit's name.
    pub fn parse(path: Option<&str>, id: &str) -> Result<Scope, Failure> {
        let of_user = !delegated::is_tree_ours();
        let own = if of_user { "user.slice" } else { "system.slice" };
        let Some(path) = path else {
            return Ok(Scope { unit: format!("cellblock-{}.scope", escape(id)), slice: own.to_owned(), of_user });
        };
        let refuse = |why: &str| Failure::new(format!("{path:?}: {why}")).hint("such as system.slice:docker:c0ffee");
        let parts: Vec<&str> = path.split(':').collect();
        let [slice, prefix, name] = parts[..] else {
            return Err(refuse("where systemd makes the groups, this is SLICE:PREFIX:NAME"));
        };
        let slice = if slice.is_empty() { own } else { slice };
        if !is_slice(slice) {
            return Err(refuse(&format!("{slice:?} is no name of a slice")));
        }
        if name.ends_with(".slice") {
            return Err(refuse("a slice has no processes of its own; a container is a scope, without an ending"));
        }
        let unit = if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
        if name.is_empty() || !is_name(&unit) {
            return Err(refuse(&format!("{unit:?} is no name of a unit")));
        }
        Ok(Scope { unit, slice: slice.to_owned(), of_user })
    }

    /// Whether a process of ours is not born into the scope, but must be moved there by systemd: the way from a user's
    /// session into it leads through groups that are root's.
    pub fn is_closed(&self) -> bool {
        self.of_user
    }

    /// Makes the unit, with a process that is there already: the group is that of [`Scope::group_of`] then.
    ///
    /// # Errors
    /// There is no systemd, or it refuses; a unit of that name that is in use.
    // ANCHOR: ask
    pub fn start(&self, pid: i32, description: &str, resources: &Resources, more: &[Property]) -> Result<()> {
        let text = |name: &str, text: &str| (name.to_owned(), Value::Text(text.to_owned()));
        let yes = |name: &str, yes| (name.to_owned(), Value::Bool(yes));
        let mut all = vec![
            text("Description", description),
            text("Slice", &self.slice),
            yes("Delegate", true),
            ("PIDs".to_owned(), Value::Numbers(vec![pid as u32])),
            // Nobody stops it before the engine at a shutdown: that does it in its own order.
            yes("DefaultDependencies", false),
            // It goes as soon as it is empty, also if a process in it was killed for want of memory.
            text("CollectMode", "inactive-or-failed"),
        ];
        // A controller that is taken on later would not count what was used before.
        all.extend(
            ["CPUAccounting", "MemoryAccounting", "IOAccounting", "TasksAccounting"].map(|name| yes(name, true)),
        );
        let trees = Hierarchies::read()?;
        all.extend(properties::of(resources, is_v2(&trees))?);
        all.extend_from_slice(more);
        self.start_with(&all).with_context(|| format!("cannot make the scope {} in {}", self.unit, self.slice))
    }
    // ANCHOR_END: ask

    fn start_with(&self, properties: &[Property]) -> Result<()> {
        let mut systemd = Manager::connect(self.of_user)?;
        let mut refusal = match systemd.start(&self.unit, properties)? {
            Ok(()) => return Ok(()),
            Err(refusal) => refusal,
        };
        if refusal.is("UnitExists") {
            // What has failed is kept for those who want to look at it, and keeps its name.
            let _ = systemd.reset_failed(&self.unit)?;
            refusal = match systemd.start(&self.unit, properties)? {
                Ok(()) => return Ok(()),
                Err(refusal) => refusal,
            };
        }
        if refusal.is("UnitExists") {
            let hint = format!("another container's? each needs a name of its own: systemctl status {}", self.unit);
            return Err(Failure::new("a unit of this name is there already, and in use").hint(hint).into());
        }
        Err(Failure::from(refusal).into())
    }

    /// The unit's group, as the kernel has it for a process that was moved into it; `self` is this one. In v1 systemd does not
    /// know all trees: in the others the group has the same path, and [`Scope::complete`] makes it.
    ///
    /// # Errors
    /// The process is not in it, or no more.
    pub fn group_of(&self, process: &str) -> Result<Cgroup> {
        let trees = Hierarchies::read_of(process).context("the container's first process has ended")?;
        let is_ours = |(_, path): &(&str, &str)| {
            let name = path.rsplit('/').next().unwrap_or_default();
            name == self.unit || name.strip_prefix('_') == Some(&self.unit) // so systemd escapes a directory's name
        };
        let (_, path) = trees.our_groups().find(is_ours).ok_or_else(|| {
            Failure::new(format!("systemd has made {}, but the container's first process is not in it", self.unit))
                .hint(format!("was it killed? journalctl --boot --unit={}", self.unit))
        })?;
        let directory = |tree: &Hierarchy| PathBuf::from(tree.path_of(path));
        let in_unified = trees.our_groups().any(|(controllers, own)| controllers.is_empty() && own == path);
        let unified = trees.unified.as_ref().filter(|_| in_unified).map(directory);
        let group = |directories| Cgroup { directories, ..Cgroup::default() };
        if is_v2(&trees) {
            return Ok(group(Directories { unified, legacy: Vec::new() }));
        }
        let legacy = trees.legacy.iter().filter(|tree| !tree.read_only && !tree.controllers().is_empty());
        let legacy = if self.of_user { Vec::new() } else { legacy.map(directory).collect() };
        Ok(group(Directories { legacy, unified }))
    }

    /// Makes what systemd has not made of the group, with the process in it: directories in v1's trees that it does not
    /// know; controllers of v2 that it does not pass on, but a limit needs.
    ///
    /// # Errors
    /// A controller that is not to be had.
    pub fn complete(&self, group: &Cgroup, pid: i32, needed: &[&str]) -> Result<()> {
        let trees = Hierarchies::read()?;
        for directory in
            group.directories.legacy.iter().filter(|directory| !directories::processes(directory).contains(&pid))
        {
            let tree = trees.legacy.iter().find(|tree| directory.starts_with(&tree.point)).context("it was there")?;
            enter(tree, directory, pid)?;
        }
        match (&group.directories.unified, &trees.unified) {
            (Some(unified), Some(tree)) if group.directories.is_v2() && !self.of_user => pass_on(tree, unified, needed),
            _ => Ok(()),
        }
    }

    /// Limits the group: systemd is told, and then the files are written as exactly as they were asked for.
    ///
    /// # Errors
    /// As [`Cgroup::limit`]; systemd refuses.
    pub fn limit(&self, group: &Cgroup, resources: &Resources) -> Result<()> {
        if group.directories.is_v2() {
            group.check_usage(&resources.memory)?; // systemd would not ask
        }
        let known = properties::of(&with_period(group, resources), group.directories.is_v2())?;
        if !known.is_empty() {
            let refused = |refusal| Failure::from(refusal);
            let set = Manager::connect(self.of_user)?.set(&self.unit, &known)?.map_err(refused);
            set.with_context(|| format!("cannot change the scope {}", self.unit))?;
        }
        group.limit(resources)
    }

    /// Moves a process into the scope, whose group is `whole`: into that, or a group inside of it.
    ///
    /// # Errors
    /// systemd refuses: the process is another user's, or the scope is gone.
    pub fn attach(&self, pid: i32, whole: &Cgroup, group: &Cgroup) -> Result<()> {
        let paths = group.directories.unified.as_ref().zip(whole.directories.unified.as_ref());
        let below =
            paths.and_then(|(group, whole)| group.strip_prefix(whole).ok()).filter(|path| *path != Path::new(""));
        let below = below.map(|path| format!("/{}", path.display())).unwrap_or_default();
        let attached = Manager::connect(self.of_user)?.attach(&self.unit, &below, pid)?.map_err(Failure::from);
        attached.with_context(|| format!("cannot move a process into the scope {}", self.unit))
    }

    /// Ends a unit whose group was not noted, for the launch was killed before. Its own process has ended: so processes that stay
    /// in the group are another's, which has taken the name since, and the unit is left alone.
    ///
    /// # Errors
    /// There is no /proc; systemd does not answer, or does not manage.
    pub fn stop_unless_in_use(&self) -> Result<()> {
        const UNTIL_ITS_OWN_HAS_ENDED: Duration = Duration::from_secs(2);
        const PAUSE: Duration = Duration::from_millis(10); // v1 wakes no process when a group has become empty
        let trees = Hierarchies::read()?;
        let is_in_use =
            || trees.unified.iter().chain(&trees.legacy).any(|tree| is_populated(Path::new(&tree.point), &self.unit));
        let end = Instant::now() + UNTIL_ITS_OWN_HAS_ENDED;
        while is_in_use() {
            if Instant::now() >= end {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
        self.stop()
    }

    /// Ends the unit, with everybody in it, and waits until it has ended. That it is gone already is no error: it mostly is,
    /// for nobody is in it.
    ///
    /// # Errors
    /// systemd does not answer, or does not manage.
    pub fn stop(&self) -> Result<()> {
        purpose("systemd forgets the scope");
        let stop = || {
            let mut systemd = Manager::connect(self.of_user)?;
            let _ = systemd.kill(&self.unit)?; // a first process ignores TERM, and systemd would wait for it
            if let Err(refusal) = systemd.stop(&self.unit)? {
                return if refusal.is("NoSuchUnit") { Ok(()) } else { Err(Failure::from(refusal).into()) };
            }
            let _ = systemd.reset_failed(&self.unit)?; // refused if it has not failed, and is gone
            Ok(())
        };
        let stopped: Result<()> = stop();
        stopped.with_context(|| format!("cannot stop the scope {}", self.unit))
    }
}

/// Whether processes are in the unit's group, anywhere below a directory of a tree.
fn is_populated(directory: &Path, unit: &str) -> bool {
    let Ok(entries) = fs::read_dir(directory) else { return false };
    let below = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    below.into_iter().any(|entry| match entry.file_name() == unit {
        true => !directories::processes(&entry.path()).is_empty(),
        false => is_populated(&entry.path(), unit),
    })
}

/// Makes a group of v1 where systemd has none, and moves a process into it. An empty one systemd takes for its own, and
/// removes, perhaps at this very moment: a few tries.
fn enter(tree: &Hierarchy, group: &Path, pid: i32) -> Result<()> {
    purpose("systemd does not know this tree of v1");
    let below = group.strip_prefix(&tree.point)?.to_string_lossy();
    let mut tries = 1..20;
    loop {
        v1::make_in(Path::new(&tree.point), &below, tree.controllers().contains(&"cpuset"))?;
        match cgroup::write(group, "cgroup.procs", &pid.to_string()) {
            Err(failure) if failure.errno() == Some(Errno::ENOENT) && tries.next().is_some() => {}
            entered => return Ok(entered?),
        }
    }
}

/// The controllers that a limit needs and the group has not, from the top down.
fn pass_on(tree: &Hierarchy, group: &Path, needed: &[&str]) -> Result<()> {
    let there = cgroup::read(group, "cgroup.controllers");
    let missing: Vec<&str> = needed.iter().copied().filter(|name| !cgroups::hierarchies::has(&there, name)).collect();
    let above = group.parent().and_then(|above| above.strip_prefix(&tree.point).ok());
    let (Some(above), false) = (above, missing.is_empty()) else { return Ok(()) };
    v2::make_parent(Path::new(&tree.point), &above.to_string_lossy(), Path::new(""), &missing).map(drop)
}

/// A quota without its period is one of the period that the group has: systemd counts by the second.
fn with_period(group: &Cgroup, resources: &Resources) -> Resources {
    let mut resources = resources.clone();
    if resources.cpu.quota.is_some() && resources.cpu.period.is_none() {
        let own = group.directories.limiting().find_map(|directory| {
            let v1 = cgroup::read(directory, "cpu.cfs_period_us");
            let v2 = cgroup::read(directory, "cpu.max");
            v1.trim().parse().ok().or_else(|| v2.split_whitespace().nth(1)?.parse().ok())
        });
        resources.cpu.period = own;
    }
    resources
}

/// A slice's name tells where it lies: a-b.slice in a.slice (man 5 systemd.slice). `-.slice` is the topmost.
fn is_slice(name: &str) -> bool {
    let Some(parts) = name.strip_suffix(".slice") else { return false };
    is_name(name) && (parts == "-" || parts.split('-').all(|part| !part.is_empty()))
}

/// What a unit may be called (man 5 systemd.unit).
fn is_name(unit: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\".contains(&byte);
    unit.len() <= LONGEST && unit.bytes().all(allowed)
}

/// What of an id can stand in no unit's name, as `systemd-escape` writes it.
fn escape(id: &str) -> String {
    let one = |c: char| {
        if c.is_ascii_alphanumeric() || "-_.".contains(c) { c.to_string() } else { format!("\\x{:02x}", c as u32) }
    };
    id.chars().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_as_callers_write_them() {
        let unit = |path: &str| Scope::parse(Some(path), "id").map(|scope| format!("{} {}", scope.slice, scope.unit));
        assert_eq!(unit("system.slice:docker:c0ffee").unwrap(), "system.slice docker-c0ffee.scope");
        assert_eq!(unit("a-b_1.slice:cri-containerd:x").unwrap(), "a-b_1.slice cri-containerd-x.scope");
        assert_eq!(unit("-.slice::x").unwrap(), "-.slice x.scope");
        assert!(unit(":libpod:x").unwrap().ends_with(".slice libpod-x.scope"));
        for wrong in [
            "",
            "/cellblock/one",
            "a.slice:b",
            "a.slice:b:c:d",
            "a.slice:b:",
            "a.slice:b:c.slice",
            "a:b:c",
            ".slice:b:c",
            "a--b.slice:b:c",
            "-a.slice:b:c",
            "a/b.slice:b:c",
            "a.slice:b:c/d",
            "a.slice:b:c d",
            "a.slice:b:c+d",
            "a.slice:b:c@d",
        ] {
            assert!(unit(wrong).is_err(), "{wrong:?}");
        }
        assert!(unit(&format!("a.slice:b:{}", "x".repeat(250))).is_err());
    }

    #[test]
    fn without_a_path_the_id_names_it() {
        assert_eq!(Scope::parse(None, "one").unwrap().unit, "cellblock-one.scope");
        assert_eq!(Scope::parse(None, "c++").unwrap().unit, "cellblock-c\\x2b\\x2b.scope");
    }
}
