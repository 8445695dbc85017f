//! A channel for descriptors: what belongs to the host is opened outside, where the rights are, and sent to the child.
//!
//! The files of a root filesystem belong to the host's root, who is nobody in the cell. So the cell gets a mount of them
//! that shows other owners (an *idmapped* mount); and only who is root on the host may make one.

use anyhow::{Context, Result};
use kernel::sys::mount::{self, Depth};
use kernel::sys::privilege;
use kernel::sys::socket;
use kernel::{Errno, Fd, Remedy, purpose};
use pivot_root::{Sources, Trees, trees};

use crate::id_maps::IdMaps;

/// A socket with one end outside and one inside, and what is made before the child is born.
#[derive(Debug)]
pub struct DescriptorChannel {
    outside: Fd,
    inside: Fd,
    dev: Option<Fd>,
}

impl DescriptorChannel {
    /// Makes it, before the child is born: both then have it.
    pub fn new() -> Result<DescriptorChannel> {
        purpose("a channel: through it the child gets descriptors of what it cannot open itself");
        let (outside, inside) = socket::pair("channel", "channel")?;
        Ok(DescriptorChannel { outside, inside, dev: None })
    }

    /// A channel for a cell with these users. In its user namespace it may make no device, and one of the host's, bound, would be
    /// at the mercy of a root that is the host's by number and may mount: read-only is not locked. So its /dev is made outside.
    pub fn with_dev(id_maps: Option<&IdMaps>) -> Result<DescriptorChannel> {
        let channel = DescriptorChannel::new()?;
        let Some(owner) = id_maps.filter(|maps| maps.is_ours_to_choose()).and_then(IdMaps::root_outside) else {
            return Ok(channel);
        };
        purpose("a /dev with six harmless devices, which in there nobody may make");
        Ok(DescriptorChannel { dev: pivot_root::dev_for_a_cell(owner)?, ..channel })
    }

    /// Sends the mounts. They wait in the socket until the child takes them.
    pub fn send(&self, sources: &Sources) -> Result<()> {
        purpose("send them to the child");
        socket::send_fd(&self.outside, b"root", &sources.root)?;
        sources.volumes.chunks(trees::BATCH).try_for_each(|volumes| trees::send_batch(&self.outside, volumes))
    }

    /// Receives the mounts: the root, and `volumes` volumes.
    pub fn receive(&self, volumes: usize) -> Result<Sources> {
        purpose("what the parent has sent");
        let root = socket::receive_fd(&self.inside, "root")?;
        let mut received = Vec::new();
        while received.len() < volumes {
            received.extend(trees::receive_batch(&self.inside)?);
        }
        Ok(Sources { root, volumes: received, dev: self.dev.as_ref().map(Fd::duplicate).transpose()? })
    }

    /// Sends a root and mounts of which there may be more than descriptors (step 7).
    pub fn send_many(&self, root: &Fd, many: impl Iterator<Item = Result<Fd>>) -> Result<()> {
        purpose("send them to the child");
        socket::send_fd(&self.outside, b"root", root)?;
        trees::send(&self.outside, many)
    }

    /// Receives the root, and then each of the mounts when it is needed.
    pub fn receive_many(&self) -> Result<(Fd, Trees)> {
        purpose("what the parent has sent");
        Ok((socket::receive_fd(&self.inside, "root")?, Trees::receive(&self.inside)?))
    }
}

// ANCHOR: show_as_theirs
/// Shows the files of each source with the cell's owners: what is root's on disk is root's in the cell.
///
/// A source that belongs to a user of the cell already is left as it is.
///
/// # Errors
/// EINVAL: the file system takes no part in it (overlayfs before Linux 5.19, tmpfs before 6.3).
pub(crate) fn show_as_theirs(sources: &Sources, id_maps: &IdMaps, pid: i32) -> Result<()> {
    if id_maps.changes_nothing() {
        return Ok(());
    }
    let user_namespace = privilege::user_namespace_of(pid)?;
    for (what, source) in std::iter::once(("the root filesystem", &sources.root))
        .chain(sources.volumes.iter().map(|volume| ("a volume", volume)))
    {
        if !id_maps.has_outside(mount::owner(source)?.0) {
            purpose("files of the host, shown with the cell's owners");
            mount::map_ids(source, Depth::Recursive, &user_namespace)
                .hint_on(Errno::EINVAL, "its file system cannot: --userns host, or chown its files to the cell's ids")
                .with_context(|| format!("cannot show other owners in {what}"))?;
        }
    }
    Ok(())
}
// ANCHOR_END: show_as_theirs
