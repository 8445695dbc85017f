//! Step 3, the floor: no old root to climb back to.
//!
//! `chroot` leaves the old root mounted below our feet, and a process that holds on to it climbs out. `pivot_root`
//! exchanges the root *mount* of the whole mount namespace; the old one is then unmounted. No path leads
//! to what is not mounted; and no descriptor either, for step 1 has closed what came in, and we close our own.
//!
//! What order matters:
//!
//! 1. [`prepare`]: everything that needs the host is opened now: the root filesystem, the volumes, fresh file
//!    systems. These mounts have no place yet; a descriptor is all there is of them.
//! 2. [`Root::pivot`]: the root filesystem becomes the root, and the host goes away.
//! 3. [`Root::attach_mounts`]: each mount is put onto its place *below the new root*, resolved once. Whatever symbolic links
//!    the root filesystem holds, they can lead nowhere else: there is no elsewhere any more.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context, Result};
use kernel::sys::mount::{self, Attributes, Depth};
use kernel::{Errno, Failure, Fd, Remedy, purpose};

pub mod dev;
mod file_systems;
mod files;
mod place;
pub mod proc;
pub mod sources;
pub mod trees;
mod volume;

pub use dev::for_a_cell as dev_for_a_cell;
pub use file_systems::{FileSystem, QUIET, STANDARD, Standard, file_system};
use files::Files;
pub use place::Place;
pub use sources::Sources;
pub use trees::Trees;
pub use volume::{Tmpfs, Volume};

/// What is mounted in the cell.
#[derive(clap::Args, Debug)]
pub struct MountOptions {
    /// Show a directory or file of the host in the cell; may be given again
    #[arg(long, short, value_name = "SRC:DST[:ro]")]
    volume: Vec<OsString>,

    /// An empty file system in memory, gone when the cell is; may be given again
    #[arg(long, value_name = "DST[:size=SIZE]")]
    tmpfs: Vec<OsString>,

    /// Nothing of the root filesystem can be written
    #[arg(long)]
    read_only: bool,
}

/// What will be mounted, as it was asked for and checked.
#[derive(Debug)]
pub struct Mounts {
    /// Of the host's.
    pub volumes: Vec<Volume>,
    /// In memory.
    pub tmpfs: Vec<Tmpfs>,
    files: Vec<(&'static str, String)>,
    more: Vec<FileSystem>,
    /// Nothing of the root filesystem can be written.
    pub read_only: bool,
}

impl MountOptions {
    /// Refuses what cannot work, before anything is made.
    ///
    /// # Errors
    /// A volume without source or destination, a source that is not there, a destination that is not absolute, a
    /// invalid size.
    pub fn check(&self) -> Result<Mounts> {
        Ok(Mounts {
            volumes: self.volume.iter().map(|text| Volume::parse(text)).collect::<Result<_, _>>()?,
            tmpfs: self.tmpfs.iter().map(|text| Tmpfs::parse(text)).collect::<Result<_, _>>()?,
            files: Vec::new(),
            more: Vec::new(),
            read_only: self.read_only,
        })
    }
}

impl Mounts {
    /// Adds files that a later step makes for this cell alone: where, and what is in them.
    pub fn add_files(&mut self, files: Vec<(&'static str, String)>) {
        self.files.extend(files);
    }

    /// How many volumes there are.
    pub fn volume_count(&self) -> usize {
        self.volumes.len()
    }

    /// Adds file systems of a later step, mounted read-only after the lesson's own.
    pub fn add_file_systems(&mut self, more: Vec<FileSystem>) {
        self.more.extend(more);
    }
}

/// The places that the lesson covers, and those that it makes read-only, as paths in the cell (step 7 writes them down).
pub fn closed_paths() -> (Vec<&'static str>, Vec<&'static str>) {
    (proc::MASKED.to_vec(), proc::READ_ONLY.to_vec())
}

/// A mount that has no place yet, and the place where it belongs.
#[derive(Debug)]
pub struct Planned {
    what: &'static str,
    mount: Fd,
    place: Place,
}

/// The new root, and all that will be mounted in it. Nothing of it has a place yet.
#[derive(Debug)]
pub struct Root {
    mount: Fd,
    planned: Vec<Planned>,
    null: Fd,
    files: Option<Files>,
    read_only: bool,
}

// ANCHOR: prepare
/// Makes all mounts, detached: each is a descriptor, and no path leads to it.
///
/// # Errors
/// EPERM where a user namespace may not mount such a file system.
pub fn prepare(rootfs: &Path, mounts: &Mounts) -> Result<Root> {
    prepare_from(Sources::open(rootfs, mounts)?, mounts)
}

/// The same, with what is the host's opened already.
pub fn prepare_from(sources: Sources, mounts: &Mounts) -> Result<Root> {
    let dev = dev::dev(sources.dev)?;
    let mut planned = vec![proc::proc()?, proc::sys()?];
    planned.extend(dev.planned);
    planned.extend(mounts.more.iter().map(FileSystem::mount).collect::<Result<Vec<_>, _>>()?);
    planned.extend(asked(mounts, sources.volumes)?);
    let files = Files::make(&mounts.files)?;
    Ok(Root { mount: sources.root, planned, null: dev.null, files, read_only: mounts.read_only })
}

/// The user's own mounts, the shallow ones first, so that none hides another.
fn asked(mounts: &Mounts, sources: Vec<Fd>) -> Result<Vec<Planned>> {
    let volumes = mounts.volumes.iter().zip(sources).map(|(volume, source)| volume.mount(source));
    let mut asked: Vec<Planned> = volumes.chain(mounts.tmpfs.iter().map(Tmpfs::mount)).collect::<Result<_>>()?;
    asked.sort_by_key(|planned| planned.place.depth());
    Ok(asked)
}
// ANCHOR_END: prepare

// ANCHOR: pivot
/// Exchanges the root, and lets go of the old one.
///
/// # Errors
/// EINVAL if a mount is still shared, or the current root is not a mount (in a chroot, or on the initramfs).
///
/// # Shell: `mount --bind ROOTFS ROOTFS; cd ROOTFS; pivot_root . .; umount -l .`
pub fn pivot(new_root: &Fd) -> Result<()> {
    exchange(new_root)?;
    purpose("let go of the host: nothing of it is mounted from here on");
    mount::detach_here().context("cannot let go of the old root")?;
    Ok(mount::fchdir(new_root)?)
}

/// Exchanges the root: the old one, which is returned, lies on top afterwards, and is still to be let go of.
pub fn exchange(new_root: &Fd) -> Result<Fd> {
    purpose("put it over the old root, stand in it, and exchange them: the old root lies on top now");
    let old_root = mount::open_path(Path::new("/"), "old root")?;
    mount::move_mount(new_root, &old_root).context("cannot mount the root filesystem")?;
    mount::fchdir(new_root)?;
    mount::pivot_root_here()
        .hint_on(Errno::EINVAL, "is / still shared? its mounts must be private first: findmnt -o TARGET,PROPAGATION /")
        .context("cannot move the root")?;
    Ok(old_root)
}
// ANCHOR_END: pivot

impl Root {
    /// As [`pivot`].
    pub fn pivot(&self) -> Result<()> {
        pivot(&self.mount)
    }

    // ANCHOR: attach
    /// Puts each mount onto its place below the new root, then closes what no process in the cell may write or read.
    ///
    /// All our descriptors are closed with it: the root filesystem's place on the host is one of them.
    ///
    /// # Errors
    /// A place that cannot be made; /proc, /sys or /dev being a symbolic link.
    pub fn attach_mounts(self) -> Result<()> {
        if let Some(files) = &self.files {
            files.place(&self.mount)?;
        }
        for Planned { what, mount, place } in &self.planned {
            purpose(what);
            let target = place.open(&self.mount, mount::is_directory(mount)?)?;
            attach(mount, &target).with_context(|| format!("cannot mount {place}"))?;
        }
        purpose("the null device as a mount: a cover for what is no directory");
        let null = mount::open_tree(&self.null, Depth::One, "null")?;
        proc::mask_paths(&self.mount, &null, proc::MASKED.into_iter())?;
        proc::make_read_only(&self.mount, proc::READ_ONLY.into_iter())?;
        if self.read_only { make_read_only(&self.mount) } else { Ok(()) }
    }
    // ANCHOR_END: attach
}

/// Puts a mount onto its place.
pub fn attach(mount: &Fd, target: &Fd) -> Result<(), Failure> {
    mount::move_mount(mount, target).hint_on(Errno::EINVAL, "a directory goes onto a directory, a file onto a file")
}

/// Makes the root read-only, but nothing that is mounted in it.
pub fn make_read_only(root: &Fd) -> Result<()> {
    purpose("nothing of the root filesystem can be written; volumes can");
    mount::mount_setattr(root, Depth::One, Attributes::RDONLY).context("cannot make the root read-only")
}
