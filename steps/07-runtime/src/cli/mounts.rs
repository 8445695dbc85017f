//! What is mounted, as `mounts` of the configuration: step 3's /proc, /dev and /sys, steps 4 and 5's files and groups, and
//! what was asked for.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};
use pivot_root::{Tmpfs, Volume};

use super::{Checked, text};
use crate::spec::Mount;

/// Step 4's: they lie in the bundle, each under its own name. Read-only, for they are files of the host's: a cell that writes
/// would fill its file system.
const FILES: [&str; 3] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];

/// The names that they have in the bundle.
pub(crate) fn file_names() -> impl Iterator<Item = &'static str> {
    FILES.into_iter().map(file_name)
}

/// A file's name in the bundle.
pub(super) fn file_name(path: &'static str) -> &'static str {
    path.rsplit('/').next().unwrap_or(path)
}

impl Checked<'_> {
    /// All mounts: the system's, the files, and then the user's own, the shallow ones first, so that none hides another.
    pub(super) fn mounts(&self) -> Result<Vec<Mount>> {
        let volumes = self.mounts.volumes.iter().map(|volume| Ok((volume.place.depth(), self.volume(volume)?)));
        let tmpfs = self.mounts.tmpfs.iter().map(|tmpfs| Ok((tmpfs.place.depth(), in_memory(tmpfs))));
        let mut asked: Vec<(usize, Mount)> = volumes.chain(tmpfs).collect::<Result<_>>()?;
        asked.sort_by_key(|(depth, _)| *depth);
        let files =
            FILES.into_iter().map(|path| Mount::new(path, "bind", file_name(path), "bind ro nosuid nodev noexec"));
        Ok(standard().into_iter().chain(files).chain(asked.into_iter().map(|(_, mount)| mount)).collect())
    }

    fn volume(&self, volume: &Volume) -> Result<Mount> {
        let source = std::path::absolute(&volume.source).context("--volume: it has no absolute path")?;
        let mut options = "rbind rprivate".to_owned();
        if volume.read_only {
            options += " ro rro";
        }
        if self.must_show_others(&source)? {
            options += " ridmap";
        }
        Ok(Mount::new(&volume.place.to_string(), "bind", &text("--volume", source)?, &options))
    }

    /// Whether a tree of the host's must be shown with other owners, as step 6 does it.
    pub(super) fn must_show_others(&self, path: &Path) -> Result<bool> {
        let owner = path.metadata().with_context(|| format!("cannot open {}", path.display()))?.uid();
        Ok(self.privileges.id_maps.as_ref().is_some_and(|maps| maps.must_show_others(owner)))
    }
}

/// The standard mounts. Where only the host's /sys is to be had, all that is mounted in it is closed as well.
fn standard() -> Vec<Mount> {
    let mut mounts = Mount::standard();
    for sys in mounts.iter_mut().filter(|mount| mount.destination == "/sys") {
        sys.options.extend(["rnosuid", "rnodev", "rnoexec", "rro"].map(str::to_owned));
    }
    mounts
}

fn in_memory(tmpfs: &Tmpfs) -> Mount {
    let options = format!("nosuid nodev {}", tmpfs.options().join(" "));
    Mount::new(&tmpfs.place.to_string(), "tmpfs", "tmpfs", &options)
}
