//! The new root: all its mounts are made, without a place; then the root is exchanged, and each mount is attached to its place.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use kernel::sys::mount::{self, Depth, Propagation};
use kernel::{Fd, purpose};
use pivot_root::trees::{self, Trees};
use pivot_root::{Place, dev, proc};

use super::copy_up::copy_up;
use super::nodes::{self, Nodes};
use super::{PlannedMount, RootPlan};

/// A root whose mounts are made, and have no place yet.
#[derive(Debug)]
pub struct PreparedRoot<'a> {
    root: Fd,
    /// The null device, which covers files.
    null: Fd,
    /// In the order of the plan's. None: it will be made when it is attached, or has been attached.
    mounts: Vec<Option<Fd>>,
    /// Trees of the host for those that are not made yet.
    trees: Trees,
    nodes: Nodes,
    plan: &'a RootPlan,
}

/// Opens the place on the host where a root filesystem lies, and behind it the directories above.
///
/// # Errors
/// This user cannot reach it.
pub fn open_place(rootfs: &Path) -> Result<Vec<Fd>> {
    purpose("where the root filesystem lies on the host: there createContainer hooks will see the mounts");
    let rootfs = rootfs.canonicalize().with_context(|| format!("cannot reach {}", rootfs.display()))?;
    rootfs.ancestors().map(|path| Ok(mount::open_path(path, "rootfs")?)).collect()
}

impl RootPlan {
    /// Makes all mounts, without a place. `trees` are the opened trees of the host, in the order of [`RootPlan::binds`]. Where
    /// there are many, the later ones are made when they are attached, because a process may not have as many descriptors.
    /// `nodes` are those of [`nodes::make`].
    ///
    /// # Errors
    /// A file system or an option that the kernel does not know; one that a user namespace may not mount.
    pub fn prepare(&self, root: Fd, mut trees: Trees, nodes: Option<Fd>) -> Result<PreparedRoot<'_>> {
        let mut mounts = Vec::with_capacity(self.mounts.len());
        for (index, asked) in self.mounts.iter().enumerate() {
            let is_late = index >= trees::BATCH && asked.needs_no_host();
            mounts.push(if is_late { None } else { Some(self.make(asked, &mut trees)?) });
        }
        purpose("the null device, to cover files with: the host's, which no process in here has made (CVE-2025-31133)");
        let null = dev::host_node(Path::new("/dev/null"))?;
        let nodes = Nodes::of(self, nodes)?;
        Ok(PreparedRoot { root, null, mounts, trees, nodes, plan: self })
    }

    /// The directories in which something will be made, as far as the paths say.
    fn directories(&self) -> BTreeSet<&Path> {
        let mounts = self.mounts.iter().map(|mount| &mount.place);
        let all = mounts
            .chain(self.devices.iter().map(|device| &device.place))
            .chain(self.links.iter().map(|(_, place)| place));
        all.flat_map(Place::directories).collect()
    }
}

impl PreparedRoot<'_> {
    /// Sees to it that the host learns of no mount in the new root, and not of the old root's end: to be called before the first
    /// is made. It changes something only with a propagation of one's own, for else all is a slave already.
    pub fn part_from_host(&self) -> Result<()> {
        if self.plan.propagation.is_none() {
            return Ok(());
        }
        purpose("nothing of the exchange may be seen by the host");
        mount::propagate("/", Depth::One, Propagation::Private)?;
        Ok(mount::propagate_mount(&self.root, Depth::Recursive, Propagation::Slave)?)
    }

    /// Shows the new root at its place on the host, in this mount namespace alone: for programs of the host's that are to see what
    /// is mounted in it. `places` is what [`open_place`] has opened.
    ///
    /// # Errors
    /// EINVAL: the mount above is shared, so that the host would see it as well.
    pub fn show_at(&self, places: &[Fd]) -> Result<()> {
        purpose("the mounts are made before the root is exchanged, as the createContainer hooks are to see them");
        if self.plan.propagation.is_some() {
            // Not before the binds are made: those from the same mount keep what they share with the host.
            let part = |above: &&Fd| mount::propagate_mount(above, Depth::One, Propagation::Private).is_ok();
            places.iter().find(part); // the first that is a mount
        }
        mount::move_mount(&self.root, &places[0]).context("cannot mount the root filesystem at its own place")?;
        Ok(mount::fchdir(&self.root)?) // as after the exchange: what lies over the root meanwhile is taken away from here
    }

    /// Exchanges the root, as in the lesson.
    pub fn pivot(&self) -> Result<()> {
        if self.plan.propagation.is_none() {
            return pivot_root::pivot(&self.root);
        }
        let old_root = pivot_root::exchange(&self.root)?;
        // The old root alone: the new one may have its mounts by now, and they keep what they share with the host.
        mount::propagate_mount(&old_root, Depth::Recursive, Propagation::Slave)?;
        mount::detach_here().context("cannot let go of the old root")?;
        Ok(mount::fchdir(&self.root)?)
    }

    /// Where the terminal is mounted as /dev/console, unless that would have to be made in the host's /dev.
    pub fn console(&self) -> Result<Option<Fd>> {
        let console = Place::system("dev/console");
        if self.plan.may_hold(&console) {
            return console.open(&self.root, false).map(Some);
        }
        Ok(console.find(&self.root)?)
    }

    /// The new root: where programs and files of the cell are found.
    pub fn root(&self) -> &Fd {
        &self.root
    }

    /// Puts everything onto its place, then closes what nobody may write or read.
    ///
    /// # Errors
    /// A place that cannot be made; /proc, /sys or /dev being a symbolic link.
    pub fn attach_mounts(&mut self) -> Result<()> {
        // A fresh /proc comes first, wherever it stands in the list: by it what is there is copied into others.
        let (first, others): (Vec<usize>, Vec<usize>) =
            (0..self.mounts.len()).partition(|index| self.plan.mounts[*index].is_proc());
        let directories = self.plan.directories();
        for index in first.into_iter().chain(others) {
            let asked = &self.plan.mounts[index];
            let made = match self.mounts[index].take() {
                Some(made) => made,
                None => self.plan.make(asked, &mut self.trees)?,
            };
            purpose("place a mount");
            self.attach(&made, asked).with_context(|| format!("cannot mount {}", asked.place))?;
            if !asked.is_closed_at_last() {
                continue;
            }
            if index < trees::BATCH || directories.contains(asked.place.path()) {
                self.mounts[index] = Some(made);
            } else {
                asked.close(&made)?;
            }
        }
        if let Some(null) = self.nodes.place(&self.root, self.plan)? {
            self.null = null;
        }
        nodes::make_links(&self.root, self.plan)?;
        let (masked, closed) = (&self.plan.masked, &self.plan.read_only_paths);
        proc::mask_paths(&self.root, &self.null, masked.iter().map(String::as_str))?;
        proc::make_read_only(&self.root, closed.iter().map(String::as_str))
    }

    /// The last: from here on the root filesystem may be read only, and so may file systems in memory. The terminal and the
    /// working directory are in there by now.
    pub fn finish(&self) -> Result<()> {
        let left = self.mounts.iter().zip(&self.plan.mounts);
        left.filter_map(|(made, asked)| made.as_ref().map(|made| asked.close(made))).collect::<Result<(), _>>()?;
        if let Some((propagation, depth)) = self.plan.propagation {
            purpose("who is told of what is mounted in here");
            mount::propagate_mount(&self.root, depth, propagation)?;
        }
        if self.plan.read_only { pivot_root::make_read_only(&self.root) } else { Ok(()) }
    }

    // ANCHOR: place
    fn attach(&self, made: &Fd, asked: &PlannedMount) -> Result<()> {
        let root = &self.root;
        let before = asked.place.find(root)?;
        let target = asked.place.open(root, mount::is_directory(made)?)?;
        if let (true, Some(before)) = (asked.is_new_tmpfs(), &before) {
            if !asked.has_option("mode") {
                mount::chmod_top(made, mount::mode(before)?)?;
            }
            if asked.copy_up {
                copy_up(before, made).context("cannot copy what is there")?;
            }
        }
        Ok(pivot_root::attach(made, &target)?)
    }
    // ANCHOR_END: place
}
