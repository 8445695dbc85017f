//! Making one mount, without a place: a new file system, or a tree of the host's, with what the configuration says of it.

use anyhow::{Context, Result};
use kernel::sys::mount::{self, Attributes, Depth, Propagation};
use kernel::{Errno, Failure, Fd, Remedy, purpose};
use pivot_root::trees::Trees;
use pivot_root::{file_system, proc};

use super::{MountSource, PlannedMount, RootPlan};

/// What a new file system in a user namespace needs beside it.
const NEEDS_NAMESPACE: &str = "in a user namespace proc needs a new pid namespace too, mqueue a new ipc namespace, sysfs a new \
    network namespace: linux.namespaces";

impl RootPlan {
    /// Makes one mount. A tree of the host's is the next of those that were opened.
    pub(super) fn make(&self, asked: &PlannedMount, trees: &mut Trees) -> Result<Fd> {
        let made = match &asked.source {
            MountSource::New { kind, options } => asked.make_new(kind, options),
            MountSource::Bind { .. } => trees.take_next().and_then(|tree| {
                if self.propagation.is_some() && !asked.is_shared() {
                    purpose("what is mounted in it is told to the host only where that is asked for");
                    mount::propagate_mount(&tree, Depth::Recursive, Propagation::Slave)?;
                }
                asked.bind(tree)
            }),
        };
        made.with_context(|| format!("cannot make the mount for {}", asked.place))
    }
}

impl PlannedMount {
    /// Whether it can be made when the host's root has gone. A new /proc or /sys cannot: the kernel looks whether the old one is
    /// there, and whether anything of it is covered.
    pub(super) fn needs_no_host(&self) -> bool {
        matches!(self.source, MountSource::Bind { .. }) || self.is_new_tmpfs()
    }

    /// A tree of the host's. On /proc it must be the kernel's own: labels and settings are written there (CVE-2019-16884).
    fn bind(&self, tree: Fd) -> Result<Fd> {
        if self.place.is("proc") && !mount::is_procfs(&tree)? {
            let text = "nothing but proc can be mounted on /proc";
            return Err(Failure::new(text).hint("\"type\": \"proc\"").into());
        }
        self.adapt(tree)
    }

    fn make_new(&self, kind: &str, options: &[String]) -> Result<Fd> {
        purpose("a new file system, as the configuration asks for");
        match file_system(kind, options, Attributes::default(), "mount") {
            // Only the network namespace's owner may make a new one: the host's shows the same, read-only.
            Err(refused) if refused.errno() == Some(Errno::EPERM) && kind == "sysfs" => {
                let tree = self.adapt(proc::host_sys()?)?;
                proc::close_sys(&tree)?; // the last word, for the options may say rw
                Ok(tree)
            }
            made => self.adapt(made.hint_on(Errno::EPERM, NEEDS_NAMESPACE)?),
        }
    }

    /// What it forbids, and who is told of what is mounted in it. A new file system in memory stays open until what belongs
    /// into it is there.
    fn adapt(&self, made: Fd) -> Result<Fd> {
        let at_once =
            |asked: Attributes| if self.is_new_tmpfs() { asked.difference(Attributes::RDONLY) } else { asked };
        let (set_below, set) = (at_once(self.set_below), at_once(self.set));
        if !(set_below.is_empty() && self.clear_below.is_empty()) {
            mount::mount_change(&made, Depth::Recursive, set_below, self.clear_below)?;
        }
        if !(set.is_empty() && self.clear.is_empty()) {
            mount::mount_change(&made, Depth::One, set, self.clear)?;
        }
        if let Some((propagation, depth)) = self.propagation {
            mount::propagate_mount(&made, depth, propagation)?;
        }
        Ok(made)
    }

    fn is_shared(&self) -> bool {
        matches!(self.propagation, Some((Propagation::Shared, _)))
    }

    pub(super) fn is_proc(&self) -> bool {
        self.place.is("proc") && matches!(self.source, MountSource::New { .. })
    }

    pub(super) fn is_new_tmpfs(&self) -> bool {
        matches!(&self.source, MountSource::New { kind, .. } if kind == "tmpfs")
    }

    /// A file system in memory that is to be read-only in the end, by `ro` or by `rro`.
    pub(super) fn is_closed_at_last(&self) -> bool {
        let below = self.set_below.contains(Attributes::RDONLY) && !self.clear.contains(Attributes::RDONLY);
        self.is_new_tmpfs() && (below || self.set.contains(Attributes::RDONLY))
    }

    pub(super) fn close(&self, made: &Fd) -> Result<(), Failure> {
        purpose("all is in there: nothing more can be written");
        mount::mount_setattr(made, Depth::One, Attributes::RDONLY)
    }

    pub(super) fn has_option(&self, name: &str) -> bool {
        let MountSource::New { options, .. } = &self.source else { return false };
        options.iter().any(|option| option.split('=').next() == Some(name))
    }
}
