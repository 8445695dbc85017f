//! The mounts that a configuration lists, and all else that is made in the new root. The order is that of step 3: each mount is
//! made without a place (`make`), then the root is pivoted, then each mount is attached to its place (`root`).

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kernel::sys::mount::{self, Attributes, Depth, Propagation};
use kernel::sys::privilege;
use kernel::{Errno, Fd, Remedy};
use pivot_root::Place;
use privileges::IdMaps;

mod copy_up;
mod make;
pub mod nodes;
mod root;

pub use nodes::{CHARACTER_DEVICE, DeviceNode};
pub use root::{PreparedRoot, open_place};

/// All that is mounted and made in the new root.
#[derive(Debug, Default)]
pub struct RootPlan {
    /// Placed in this order.
    pub mounts: Vec<PlannedMount>,
    /// Made in the root filesystem's /dev, or in the one that is mounted there.
    pub devices: Vec<DeviceNode>,
    /// Symbolic links: where they lead, and where they lie.
    pub links: Vec<(String, Place)>,
    /// Devices are the host's, bound: a user namespace makes none.
    pub bind_devices: bool,
    /// Covered, so that no process reads them.
    pub masked: Vec<String>,
    /// Cannot be written.
    pub read_only_paths: Vec<String>,
    /// Nothing of the root filesystem can be written.
    pub read_only: bool,
    /// How mounts in the new root propagate. None: the host learns of none of them.
    pub propagation: Option<(Propagation, Depth)>,
}

impl RootPlan {
    /// Whether nodes and links may be made at a place: not where /dev is a second mount of one that the host has. That is not
    /// ours to change, and what is made in it stays.
    fn may_hold(&self, place: &Place) -> bool {
        let dev = self.mounts.iter().rev().find(|mount| mount.place.is("dev"));
        !(dev.is_some_and(|dev| matches!(dev.source, MountSource::Bind { .. })) && place.lies_in("dev"))
    }

    /// Which trees of the host are asked for, in order.
    pub fn binds(&self) -> impl Iterator<Item = (&Path, Depth, Option<&Owners>)> {
        self.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Bind { tree, depth, owners } => Some((tree.as_path(), *depth, owners.as_ref())),
            MountSource::New { .. } => None,
        })
    }
}

/// A mount that is asked for.
#[derive(Debug, Clone)]
pub struct PlannedMount {
    /// What is mounted.
    pub source: MountSource,
    /// Where.
    pub place: Place,
    /// What it forbids.
    pub set: Attributes,
    /// What it does not forbid any more.
    pub clear: Attributes,
    /// What it and all mounts below it forbid.
    pub set_below: Attributes,
    /// What it and all mounts below it do not forbid any more.
    pub clear_below: Attributes,
    /// Which other mounts are told of what is mounted in it.
    pub propagation: Option<(Propagation, Depth)>,
    /// What the root filesystem has at this place is copied into it (tmpfs only).
    pub copy_up: bool,
}

/// What is mounted.
#[derive(Debug, Clone)]
pub enum MountSource {
    /// A new file system.
    New {
        /// As in /proc/filesystems.
        kind: String,
        /// Words as fsconfig(2) takes them: `source=NAME`, which the table of mounts shows, `size=1m`, `pids`.
        options: Vec<String>,
    },
    /// A second mount of something that the host has: opened before, in the order of the mounts.
    Bind {
        /// On the host.
        tree: PathBuf,
        /// With all that is mounted below it.
        depth: Depth,
        /// Whose files it shows; none: the host's own.
        owners: Option<Owners>,
    },
}

/// Whose files a mount shows.
#[derive(Debug, Clone)]
pub struct Owners {
    /// None: as the container's user namespace says.
    pub maps: Option<IdMaps>,
    /// In the mount alone, or in all below it as well.
    pub depth: Depth,
}

impl Owners {
    /// Shows them in a tree of the host's. The child's user namespace must have its tables.
    ///
    /// # Errors
    /// EINVAL: a file system that cannot, or that is mapped already.
    pub fn show(&self, tree: &Fd, child: i32) -> Result<()> {
        let namespace = match &self.maps {
            Some(maps) => maps.namespace()?,
            None => privilege::user_namespace_of(child)?,
        };
        mount::map_ids(tree, self.depth, &namespace)
            .hint_on(Errno::EINVAL, "its file system cannot, or it is mapped already")
            .context("cannot show other owners in a bind mount")
    }
}
