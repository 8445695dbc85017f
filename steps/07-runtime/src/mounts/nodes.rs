//! Device nodes of a container that may make none.
//!
//! Bound from the host, they are the host's: a root that is the host's by number takes their permissions away from the whole
//! machine, and that they are mounted read-only holds only a root that may not mount.

use std::path::Path;

use anyhow::{Context, Result};
use kernel::sys::mount::{self, Attributes, Depth, ResolveFlag};
use kernel::{Errno, Failure, Fd, purpose};

use pivot_root::{dev, file_system};

use super::{Device, Furniture};

/// Where the device nodes come from.
#[derive(Debug)]
pub(crate) enum Nodes {
    /// They are made in the container.
    Made,
    /// The host's, bound.
    Host(Vec<Fd>),
    /// From a file system of the container's own, made outside by [`make`].
    Own(Fd),
}

/// Makes the nodes of a container that may make none, in its user namespace: a file system without a place, in which they are
/// called by their number in the list; and one to cover files with. `outside` gives the host's numbers of an owner in there. None if
/// this process may not make them either.
///
/// # Errors
/// A device that the kernel refuses for another reason.
pub fn make(furniture: &Furniture, outside: impl Fn((u32, u32)) -> (u32, u32)) -> Result<Option<Fd>> {
    purpose("device nodes of the container's own: of the host's it could take the permissions away");
    let nodes = file_system(
        c"tmpfs",
        &[(c"mode", c"755"), (c"size", c"4k")],
        Attributes::NOSUID.union(Attributes::NOEXEC),
        "nodes",
    )?;
    let cover = Device { owner: (0, 0), ..Device::harmless().swap_remove(0) };
    let all = furniture.devices.iter().enumerate().map(|(index, device)| (index.to_string(), device));
    for (name, device) in all.chain([(COVER.to_owned(), &cover)]) {
        match make_node(&nodes, Path::new(&name), device) {
            Err(refused) if refused.errno() == Some(Errno::EPERM) => return Ok(None),
            made => made.with_context(|| format!("cannot make {}", device.place))?,
        }
        mount::chownat(&nodes, Path::new(&name), outside(device.owner))?;
    }
    Ok(Some(nodes))
}

/// Makes one node with the permissions that are asked for.
pub(crate) fn make_node(parent: &Fd, name: &Path, device: &Device) -> Result<(), Failure> {
    mount::unmasked(|| mount::make_node(parent, name, device.kind, device.mode, device.numbers))
}

/// What the null device among the nodes is called that covers files.
const COVER: &str = "cover";

/// Puts each node onto its place, and returns the one that covers files. Before Linux 6.15 only what has a place can be mounted a
/// second time: so the nodes lie over the root meanwhile, where no path leads, for all places are looked up below it.
pub(crate) fn place_nodes<'a>(root: &Fd, nodes: &Fd, devices: impl Iterator<Item = (usize, &'a Device)>) -> Result<Fd> {
    mount::move_mount(nodes, root)?;
    let open = |name: &str| {
        let node = mount::openat2(nodes, Path::new(name), ResolveFlag::RESOLVE_NO_SYMLINKS, "node")?;
        mount::open_tree(&node, Depth::One, "device")
    };
    for (index, Device { place, .. }) in devices {
        purpose("a device");
        mount::move_mount(&open(&index.to_string())?, &place.open(root, false)?)
            .with_context(|| format!("cannot make {place}"))?;
    }
    let cover = open(COVER)?;
    dev::protect(&cover)?;
    mount::detach_here()?; // the last that was mounted where we stand
    Ok(cover)
}
