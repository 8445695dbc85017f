//! Device nodes, and where they come from.
//!
//! A container in a user namespace may make none. Bound from the host, they are the host's: a root that is the host's by number
//! takes their permissions away from the whole machine, and that they are mounted read-only holds only a root that may not mount.
//! So they are made outside, where that is allowed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kernel::sys::mount::{self, Attributes, Depth, ResolveFlag};
use kernel::{Errno, Failure, Fd, purpose};
use pivot_root::{Place, dev, file_system};

use super::RootPlan;

/// A node in /dev.
#[derive(Debug, Clone)]
pub struct DeviceNode {
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

/// S_IFCHR, as in man 7 inode.
pub const CHARACTER_DEVICE: u32 = 0o020_000;

impl DeviceNode {
    /// The six devices that no program can do without, as step 3 makes them.
    pub fn standard() -> Vec<DeviceNode> {
        let device = |(name, major, minor)| DeviceNode {
            place: Place::system(&format!("dev/{name}")),
            kind: CHARACTER_DEVICE,
            numbers: (major, minor),
            mode: 0o666,
            owner: (0, 0),
        };
        dev::NODES.into_iter().map(device).collect()
    }

    /// Makes the node under a name, with the permissions that are asked for.
    fn make_in(&self, parent: &Fd, name: &Path) -> Result<(), Failure> {
        mount::unmasked(|| mount::make_node(parent, name, self.kind, self.mode, self.numbers))
    }

    /// Makes the node at its place. One that is there already must be the same: the root filesystem may be the host's /dev in
    /// disguise.
    fn make(&self, root: &Fd) -> Result<()> {
        let parent = self.place.parent().open(root, true)?;
        let name = self.place.name();
        match self.make_in(&parent, name) {
            Err(refused) if refused.errno() == Some(Errno::EEXIST) => {
                let there = mount::openat2(&parent, name, ResolveFlag::RESOLVE_NO_SYMLINKS, "node")?;
                if mount::device_of(&there)? == (self.kind, self.numbers) {
                    return Ok(());
                }
                Err(Failure::new(format!("{} is there, and is another device", self.place)).hint("remove it").into())
            }
            made => {
                made?;
                Ok(mount::chownat(&parent, name, self.owner)?)
            }
        }
    }
}

/// Where the device nodes come from.
#[derive(Debug)]
pub(super) enum Nodes {
    /// They are made in the container.
    Made,
    /// The host's, bound.
    Host(Vec<Fd>),
    /// From a file system of the container's own, made outside by [`make`].
    Own(Fd),
}

impl Nodes {
    /// Opens what belongs to the host, unless `own` nodes were made.
    pub(super) fn of(plan: &RootPlan, own: Option<Fd>) -> Result<Nodes> {
        if let Some(own) = own {
            return Ok(Nodes::Own(own));
        }
        if !plan.bind_devices {
            return Ok(Nodes::Made);
        }
        purpose("devices are not ours to make here: the host's, to be bound");
        let open = |device: &DeviceNode| dev::host_node(&PathBuf::from(device.place.to_string()));
        Ok(Nodes::Host(plan.devices.iter().map(open).collect::<Result<_>>()?))
    }

    /// Puts each node onto its place. Returns the null device that covers files, if these nodes have one of their own.
    pub(super) fn place(&self, root: &Fd, plan: &RootPlan) -> Result<Option<Fd>> {
        let devices = plan.devices.iter().enumerate();
        let mut devices = devices.filter(|(_, device)| plan.may_hold(&device.place));
        match self {
            Nodes::Made => devices.try_for_each(|(_, device)| {
                purpose("a device");
                device.make(root).with_context(|| format!("cannot make {}", device.place))
            })?,
            Nodes::Host(nodes) => devices.try_for_each(|(index, device)| {
                purpose("a device");
                anyhow::Ok(mount::move_mount(&nodes[index], &device.place.open(root, false)?)?)
            })?,
            Nodes::Own(nodes) => return place_own(root, nodes, devices).map(Some),
        }
        Ok(None)
    }
}

/// Makes the nodes of a container that may make none, in its user namespace: a file system without a place, in which they are
/// called by their number in the list; and one to cover files with. `outside` gives the host's numbers of an owner in there. None if
/// this process may not make them either.
///
/// # Errors
/// A device that the kernel refuses for another reason.
pub fn make(plan: &RootPlan, outside: impl Fn((u32, u32)) -> (u32, u32)) -> Result<Option<Fd>> {
    purpose("device nodes of the container's own: of the host's it could take the permissions away");
    let attributes = Attributes::NOSUID.union(Attributes::NOEXEC);
    let nodes = file_system("tmpfs", &["mode=755", "size=4k"], attributes, "nodes")?;
    let cover = DeviceNode::standard().swap_remove(0);
    let all = plan.devices.iter().enumerate().map(|(index, device)| (index.to_string(), device));
    for (name, device) in all.chain([(COVER.to_owned(), &cover)]) {
        let made = device.make_in(&nodes, Path::new(&name));
        if !dev::is_allowed(made).with_context(|| format!("cannot make {}", device.place))? {
            return Ok(None);
        }
        mount::chownat(&nodes, Path::new(&name), outside(device.owner))?;
    }
    Ok(Some(nodes))
}

/// What the null device among the nodes is called that covers files.
const COVER: &str = "cover";

/// Puts each node onto its place, and returns the one that covers files. Before Linux 6.15 only what has a place can be mounted a
/// second time: so the nodes lie over the root meanwhile, where no path leads, for all places are looked up below it.
fn place_own<'a>(root: &Fd, nodes: &Fd, devices: impl Iterator<Item = (usize, &'a DeviceNode)>) -> Result<Fd> {
    mount::move_mount(nodes, root)?;
    let open = |name: &str| {
        let node = mount::openat2(nodes, Path::new(name), ResolveFlag::RESOLVE_NO_SYMLINKS, "node")?;
        mount::open_tree(&node, Depth::One, "device")
    };
    for (index, DeviceNode { place, .. }) in devices {
        purpose("a device");
        mount::move_mount(&open(&index.to_string())?, &place.open(root, false)?)
            .with_context(|| format!("cannot make {place}"))?;
    }
    let cover = open(COVER)?;
    dev::protect(&cover)?;
    mount::detach_here()?; // the last that was mounted where we stand
    Ok(cover)
}

/// Makes the links that programs expect in /dev, and those of the plan.
pub(super) fn make_links(root: &Fd, plan: &RootPlan) -> Result<()> {
    let dev = Place::system("dev");
    if plan.may_hold(&dev) {
        dev::make_links(&dev.open(root, true)?)?;
    }
    for (target, place) in &plan.links {
        mount::symlinkat(target, &place.parent().open(root, true)?, &place.name().to_string_lossy())?;
    }
    Ok(())
}
