//! What a cell takes from the host: the root filesystem and the volumes, each as a second mount that has no place yet.
//!
//! It is all that needs the host. Step 6 does it outside of the cell, where the host's rights are, and hands it in.

use std::path::Path;

use anyhow::{Context, Result};
use chroot::shown;
use kernel::sys::mount::{self, Depth, Propagation};
use kernel::{Fd, purpose};

use crate::Mounts;
use crate::volume::Volume;

/// Mounts of what the host has already, without a place.
#[derive(Debug)]
pub struct Sources {
    /// The root filesystem.
    pub root: Fd,
    /// The volumes, in the order in which they were asked for.
    pub volumes: Vec<Fd>,
    /// A /dev that was made outside, for a cell that may make no device.
    pub dev: Option<Fd>,
}

impl Sources {
    // ANCHOR: open
    /// A second mount of each tree, with all that is mounted below it.
    ///
    /// # Errors
    /// EPERM without CAP_SYS_ADMIN.
    ///
    /// # Shell: `mount --rbind SRC DST`
    pub fn open(rootfs: &Path, mounts: &Mounts) -> Result<Sources> {
        purpose("the root filesystem as a mount of its own, for pivot_root takes nothing else");
        let place = mount::open_path(rootfs, "rootfs").with_context(|| format!("cannot open {}", shown(rootfs)))?;
        let root = mount::open_tree(&place, Depth::Recursive, "root")?;
        let volumes = mounts.volumes.iter().map(Volume::open).collect::<Result<_>>()?;
        Ok(Sources { root, volumes, dev: None })
    }
    // ANCHOR_END: open

    /// Makes them private: opened outside, they are the host's mounts, which tell each other what happens in them.
    pub fn make_private(&self) -> Result<()> {
        purpose("no mount made in these may appear on the host");
        let mut all = std::iter::once(&self.root).chain(&self.volumes);
        Ok(all.try_for_each(|source| mount::propagate_mount(source, Depth::Recursive, Propagation::Private))?)
    }
}

/// A second mount of one tree of the host's, as deep as is said: step 7's bind mounts.
///
/// # Errors
/// The path is not there; EPERM without CAP_SYS_ADMIN.
pub fn open(path: &Path, depth: Depth, label: &'static str) -> Result<Fd> {
    let place = mount::open_path(path, "source").with_context(|| format!("cannot open {}", shown(path)))?;
    Ok(mount::open_tree(&place, depth, label)?)
}
