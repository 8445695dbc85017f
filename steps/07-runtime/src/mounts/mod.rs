//! The mounts that a configuration lists. The order is that of step 3: each mount is made without a place, then the root is
//! pivoted, then each mount is moved to its place.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kernel::sys::mount::{self, Attributes, Depth, Propagation, ResolveFlag};
use kernel::sys::privilege;
use kernel::{Errno, Failure, Fd, Remedy, purpose};

use pivot_root::trees::{self, Trees};
use pivot_root::{Place, dev, proc};
use privileges::IdMaps;

mod copy_up;
pub mod nodes;

use copy_up::copy_up;
use nodes::{Nodes, place_nodes};

/// All that is in a cell.
#[derive(Debug, Default)]
pub struct Furniture {
    /// Placed in this order.
    pub mounts: Vec<Mount>,
    /// Made in the root filesystem's /dev, or in the one that is mounted there.
    pub devices: Vec<Device>,
    /// Symbolic links: where they lead, and where they lie.
    pub links: Vec<(String, Place)>,
    /// Devices are the host's, bound: a user namespace makes none.
    pub bind_devices: bool,
    /// Covered, so that nobody reads them.
    pub masked: Vec<String>,
    /// Cannot be written.
    pub read_only_paths: Vec<String>,
    /// Nothing of the root filesystem can be written.
    pub read_only: bool,
    /// How mounts in the new root propagate. None: the host learns of none of them.
    pub propagation: Option<(Propagation, Depth)>,
}

impl Furniture {
    /// Whether nodes and links may be made at a place: not where /dev is a second mount of one that the host has. That is not
    /// ours to furnish, and what is made in it stays.
    fn may_hold(&self, place: &Place) -> bool {
        let dev = self.mounts.iter().rev().find(|mount| mount.place.is("dev"));
        !(dev.is_some_and(|dev| matches!(dev.what, What::Bind { .. })) && place.lies_in("dev"))
    }
}

/// A mount that is asked for.
#[derive(Debug, Clone)]
pub struct Mount {
    /// What is mounted.
    pub what: What,
    /// Where.
    pub place: Place,
    /// What it forbids, and what it does not (any more).
    pub set: Attributes,
    /// See above.
    pub clear: Attributes,
    /// The same for all mounts below.
    pub set_below: Attributes,
    /// See above.
    pub clear_below: Attributes,
    /// Who is told of what is mounted in it.
    pub propagation: Option<(Propagation, Depth)>,
    /// What the root filesystem has at this place is copied into it (tmpfs only).
    pub copy_up: bool,
}

/// What is mounted.
#[derive(Debug, Clone)]
pub enum What {
    /// A new file system.
    New {
        /// As in /proc/filesystems.
        kind: CString,
        /// What the table of mounts calls its source.
        source: CString,
        /// Options, with a value or without.
        options: Vec<(CString, Option<CString>)>,
    },
    /// A second mount of something that the host has: opened before, in the order of the mounts.
    Bind {
        /// On the host.
        source: PathBuf,
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

/// A node in /dev.
#[derive(Debug, Clone)]
pub struct Device {
    /// Where.
    pub place: Place,
    /// S_IFCHR, S_IFBLK or S_IFIFO.
    pub kind: u32,
    /// Major and minor number.
    pub numbers: (u64, u64),
    /// Its permissions.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
}

impl Device {
    /// The six devices that no program can do without, as step 3 makes them.
    pub fn harmless() -> Vec<Device> {
        let device = |(name, major, minor): &(&str, u64, u64)| Device {
            place: Place::system(&format!("dev/{name}")),
            kind: CHARACTER_DEVICE,
            numbers: (*major, *minor),
            mode: 0o666,
            owner: (0, 0),
        };
        dev::NODES.iter().map(device).collect()
    }
}

/// S_IFCHR, as in man 7 inode.
pub const CHARACTER_DEVICE: u32 = 0o020_000;

/// A root that is furnished by another plan; nothing of it has a place yet.
#[derive(Debug)]
pub struct Custom<'a> {
    root: Fd,
    null: Fd,
    /// In the order of the furniture's. None: it will be made when it is placed, or has been placed.
    mounts: Vec<Option<Fd>>,
    /// Trees of the host for those that are not made yet.
    trees: Trees,
    nodes: Nodes,
    furniture: &'a Furniture,
}

/// Which trees of the host a furniture asks for, in order.
pub fn binds(furniture: &Furniture) -> impl Iterator<Item = (&Path, Depth, Option<&Owners>)> {
    furniture.mounts.iter().filter_map(|mount| match &mount.what {
        What::Bind { source, depth, owners } => Some((source.as_path(), *depth, owners.as_ref())),
        What::New { .. } => None,
    })
}

/// Makes all mounts, without a place. `trees` are the opened trees of the host, in the order of [`binds`]. When there are many
/// mounts, the later ones are made when they are placed, for a process may not have as many descriptors. `nodes` are those of
/// [`nodes::make`].
///
/// # Errors
/// A file system or an option that the kernel does not know; one that a user namespace may not mount.
pub fn prepare(root: Fd, mut trees: Trees, nodes: Option<Fd>, furniture: &Furniture) -> Result<Custom<'_>> {
    let mut mounts = Vec::with_capacity(furniture.mounts.len());
    for (index, asked) in furniture.mounts.iter().enumerate() {
        let is_late = index >= trees::BATCH && asked.needs_no_host();
        mounts.push(if is_late { None } else { Some(furniture.make(asked, &mut trees)?) });
    }
    purpose("the null device, to cover files with: the host's, for nobody in here has made that one (CVE-2025-31133)");
    let null = mount::open_tree(&mount::open_path(Path::new("/dev/null"), "host's null")?, Depth::One, "null")?;
    // A device can be written to all the same; but nobody may take its permissions away from the whole machine.
    mount::mount_setattr(&null, Depth::One, Attributes::RDONLY.union(Attributes::NOEXEC).union(Attributes::NOSUID))?;
    let nodes = match nodes {
        Some(nodes) => Nodes::Own(nodes),
        None if furniture.bind_devices => Nodes::Host(host_nodes(furniture)?),
        None => Nodes::Made,
    };
    Ok(Custom { root, null, mounts, trees, nodes, furniture })
}

/// Opens the place on the host where a root filesystem lies. `parts` says that a propagation was asked for: then the mount above
/// may be shared with the host, and no longer is.
///
/// # Errors
/// This user cannot reach it.
pub fn open_place(rootfs: &Path, parts: bool) -> Result<Fd> {
    purpose("where the root filesystem lies on the host: there createContainer hooks will see the mounts");
    let rootfs = rootfs.canonicalize().with_context(|| format!("cannot reach {}", rootfs.display()))?;
    let above = |path: &&Path| mount::propagate(&path.to_string_lossy(), Depth::One, Propagation::Private).is_ok();
    if parts {
        rootfs.ancestors().find(above); // the first that is a mount
    }
    Ok(mount::open_path(&rootfs, "rootfs")?)
}

impl Furniture {
    /// Makes one mount. A tree of the host's is the next of those that were opened.
    fn make(&self, asked: &Mount, trees: &mut Trees) -> Result<Fd> {
        let made = match &asked.what {
            What::New { .. } => asked.make_new(),
            What::Bind { .. } => trees.take_next().and_then(|tree| {
                if self.propagation.is_some() && !asked.is_shared() {
                    purpose("what is mounted in it is told to the host only where that is asked for");
                    mount::propagate_mount(&tree, Depth::Recursive, Propagation::Slave)?;
                }
                asked.take(tree)
            }),
        };
        made.with_context(|| format!("cannot make the mount for {}", asked.place))
    }
}

impl Mount {
    /// Whether it can be made when the host's root has gone. A new /proc or /sys cannot: the kernel looks whether the old one is
    /// there, and whether anything of it is covered.
    fn needs_no_host(&self) -> bool {
        matches!(self.what, What::Bind { .. }) || self.is_new_tmpfs()
    }

    /// A tree of the host's. On /proc it must be the kernel's own: labels and settings are written there (CVE-2019-16884).
    fn take(&self, source: Fd) -> Result<Fd> {
        if self.place.is("proc") && !mount::is_procfs(&source)? {
            let text = "nothing but proc can be mounted on /proc";
            return Err(Failure::new(text).hint("\"type\": \"proc\"").into());
        }
        self.adapt(source)
    }

    fn make_new(&self) -> Result<Fd> {
        let What::New { kind, source, options } = &self.what else { unreachable!("the caller has looked") };
        purpose("a new file system, as the configuration asks for");
        match self.try_new(kind, source, options) {
            // Only the network namespace's owner may make a new one: the host's shows the same, read-only.
            Err(refused) if refused.errno() == Some(Errno::EPERM) && kind.as_c_str() == c"sysfs" => {
                let host = mount::open_path(Path::new("/sys"), "host's /sys")?;
                let tree = self.adapt(mount::open_tree(&host, Depth::Recursive, "sys")?)?;
                // The last word, for the options may say rw; and to the last mount: cgroups and securityfs could be written
                // otherwise (as in CVE-2023-25809).
                mount::mount_setattr(&tree, Depth::Recursive, Attributes::RDONLY.union(QUIET))?;
                Ok(tree)
            }
            made => self.adapt(made.hint_on(Errno::EPERM, NEEDS_NAMESPACE)?),
        }
    }

    fn try_new(&self, kind: &CString, source: &CString, options: &[(CString, Option<CString>)]) -> Result<Fd, Failure> {
        let new = mount::fsopen(kind, "new")
            .hint_on(Errno::ENODEV, "this kernel has no such file system: cat /proc/filesystems")?;
        if !source.is_empty() {
            mount::fsconfig_set(&new, c"source", source)?;
        }
        for (key, value) in options {
            match value {
                Some(value) => mount::fsconfig_set(&new, key, value)?,
                None => mount::fsconfig_flag(&new, key)?,
            }
        }
        mount::fsmount(&new, Attributes::default(), "mount")
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

    fn is_proc(&self) -> bool {
        self.place.is("proc") && matches!(self.what, What::New { .. })
    }

    fn is_new_tmpfs(&self) -> bool {
        matches!(&self.what, What::New { kind, .. } if kind.as_c_str() == c"tmpfs")
    }

    /// A file system in memory that is to be read-only in the end, by `ro` or by `rro`.
    fn is_closed_at_last(&self) -> bool {
        let below = self.set_below.contains(Attributes::RDONLY) && !self.clear.contains(Attributes::RDONLY);
        self.is_new_tmpfs() && (below || self.set.contains(Attributes::RDONLY))
    }

    fn close(&self, made: &Fd) -> Result<(), Failure> {
        purpose("all is in there: nothing more can be written");
        mount::mount_setattr(made, Depth::One, Attributes::RDONLY)
    }

    fn has_option(&self, name: &str) -> bool {
        let What::New { options, .. } = &self.what else { return false };
        options.iter().any(|(key, _)| key.to_bytes() == name.as_bytes())
    }
}

impl Furniture {
    /// The directories in which something will be made, as far as the paths say.
    fn directories(&self) -> BTreeSet<&Path> {
        let mounts = self.mounts.iter().map(|mount| &mount.place);
        let all = mounts
            .chain(self.devices.iter().map(|device| &device.place))
            .chain(self.links.iter().map(|(_, place)| place));
        all.flat_map(Place::directories).collect()
    }
}

/// What a new file system in a user namespace needs beside it.
const NEEDS_NAMESPACE: &str = "in a user namespace proc needs a new pid namespace too, mqueue a new ipc namespace, sysfs a new \
    network namespace: linux.namespaces";

/// What no mount of the host's in a container needs.
const QUIET: Attributes = Attributes::NOSUID.union(Attributes::NODEV).union(Attributes::NOEXEC);

fn host_nodes(furniture: &Furniture) -> Result<Vec<Fd>> {
    purpose("devices are not ours to make here: the host's, to be bound");
    let open = |device: &Device| {
        let path = PathBuf::from(device.place.to_string());
        let node = mount::open_path(&path, "node").with_context(|| format!("the host has no {}", path.display()))?;
        let node = mount::open_tree(&node, Depth::One, "device")?;
        dev::protect(&node)?;
        Ok(node)
    };
    furniture.devices.iter().map(open).collect()
}

impl Custom<'_> {
    /// Sees to it that the host learns of no mount in the new root, and not of the old root's end: to be called before the first
    /// is made. It changes something only with a propagation of one's own, for else all is a slave already.
    pub fn part_from_host(&self) -> Result<()> {
        if self.furniture.propagation.is_none() {
            return Ok(());
        }
        purpose("nothing of the exchange may be seen by the host");
        mount::propagate("/", Depth::One, Propagation::Private)?;
        Ok(mount::propagate_mount(&self.root, Depth::Recursive, Propagation::Slave)?)
    }

    /// Shows the new root at its place on the host, which [`open_place`] has opened, in this mount namespace alone: for programs
    /// of the host's that are to see what is mounted in it.
    ///
    /// # Errors
    /// EINVAL: the mount above is shared, so that the host would see it as well.
    pub fn show_at(&self, place: &Fd) -> Result<()> {
        purpose("the mounts are made before the root is exchanged, as the createContainer hooks are to see them");
        mount::move_mount(&self.root, place).context("cannot mount the root filesystem at its own place")?;
        Ok(mount::fchdir(&self.root)?) // as after the exchange: what lies over the root meanwhile is taken away from here
    }

    /// Exchanges the root, as in the lesson.
    pub fn pivot(&self) -> Result<()> {
        if self.furniture.propagation.is_none() {
            return pivot_root::pivot(&self.root);
        }
        pivot_root::exchange(&self.root)?;
        mount::propagate(".", Depth::Recursive, Propagation::Slave)?;
        mount::detach_here().context("cannot let go of the old root")?;
        Ok(mount::fchdir(&self.root)?)
    }

    /// Where the terminal is mounted as /dev/console, unless that would have to be made in the host's /dev.
    pub fn console(&self) -> Result<Option<Fd>> {
        let console = Place::system("dev/console");
        if self.furniture.may_hold(&console) {
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
    pub fn furnish(&mut self) -> Result<()> {
        // A fresh /proc comes first, wherever it stands in the list: by it what is there is copied into others.
        let (first, others): (Vec<usize>, Vec<usize>) =
            (0..self.mounts.len()).partition(|index| self.furniture.mounts[*index].is_proc());
        let directories = self.furniture.directories();
        for index in first.into_iter().chain(others) {
            let asked = &self.furniture.mounts[index];
            let made = match self.mounts[index].take() {
                Some(made) => made,
                None => self.furniture.make(asked, &mut self.trees)?,
            };
            purpose("place a mount");
            self.place(&made, asked).with_context(|| format!("cannot mount {}", asked.place))?;
            if !asked.is_closed_at_last() {
                continue;
            }
            if index < trees::BATCH || directories.contains(asked.place.path()) {
                self.mounts[index] = Some(made);
            } else {
                asked.close(&made)?;
            }
        }
        self.make_devices()?;
        for (target, place) in &self.furniture.links {
            mount::symlinkat(target, &place.parent().open(&self.root, true)?, &place.name().to_string_lossy())?;
        }
        let (masked, closed) = (&self.furniture.masked, &self.furniture.read_only_paths);
        proc::mask_paths(&self.root, &self.null, masked.iter().map(String::as_str))?;
        proc::make_read_only(&self.root, closed.iter().map(String::as_str))
    }

    /// The last: from here on the root filesystem may be read only, and so may file systems in memory. The terminal and the
    /// working directory are in there by now.
    pub fn finish(&self) -> Result<()> {
        let left = self.mounts.iter().zip(&self.furniture.mounts);
        left.filter_map(|(made, asked)| made.as_ref().map(|made| asked.close(made))).collect::<Result<(), _>>()?;
        if let Some((propagation, depth)) = self.furniture.propagation {
            purpose("who is told of what is mounted in here");
            mount::propagate_mount(&self.root, depth, propagation)?;
        }
        if self.furniture.read_only { pivot_root::make_read_only(&self.root) } else { Ok(()) }
    }

    // ANCHOR: place
    fn place(&self, made: &Fd, asked: &Mount) -> Result<()> {
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
        Ok(mount::move_mount(made, &target)
            .hint_on(Errno::EINVAL, "a directory goes onto a directory, a file onto a file")?)
    }
    // ANCHOR_END: place

    fn make_devices(&mut self) -> Result<()> {
        let root = &self.root;
        let devices = self.furniture.devices.iter().enumerate();
        let mut devices = devices.filter(|(_, device)| self.furniture.may_hold(&device.place));
        match &self.nodes {
            Nodes::Made => devices.try_for_each(|(_, device)| {
                purpose("a device");
                make_device(root, device).with_context(|| format!("cannot make {}", device.place))
            })?,
            Nodes::Host(nodes) => devices.try_for_each(|(index, device)| {
                purpose("a device");
                anyhow::Ok(mount::move_mount(&nodes[index], &device.place.open(root, false)?)?)
            })?,
            Nodes::Own(nodes) => self.null = place_nodes(root, nodes, devices)?,
        }
        let dev = Place::system("dev");
        let links = dev::LINKS.iter().filter(|_| self.furniture.may_hold(&dev));
        let dev = dev.open(root, true)?;
        for (target, name) in links {
            match mount::symlinkat(target, &dev, name) {
                Err(refused) if refused.errno() == Some(Errno::EEXIST) => {}
                made => made.with_context(|| format!("cannot make /dev/{name}"))?,
            }
        }
        Ok(())
    }
}

/// Makes a node. One that is there already must be the same: the root filesystem may be the host's /dev in disguise.
fn make_device(root: &Fd, device: &Device) -> Result<()> {
    let parent = device.place.parent().open(root, true)?;
    let name = device.place.name();
    match nodes::make_node(&parent, name, device) {
        Err(refused) if refused.errno() == Some(Errno::EEXIST) => {
            let there = mount::openat2(&parent, name, ResolveFlag::RESOLVE_NO_SYMLINKS, "node")?;
            if mount::device_of(&there)? == (device.kind, device.numbers) {
                return Ok(());
            }
            Err(Failure::new(format!("{} is there, and is another device", device.place)).hint("remove it").into())
        }
        made => {
            made?;
            Ok(mount::chownat(&parent, name, device.owner)?)
        }
    }
}
