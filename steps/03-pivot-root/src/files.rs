//! Single files, made for one cell and mounted over the root filesystem's own, which stay as they are. The lesson does
//! not need this file; step 4's /etc/hosts does.

use std::path::Path;

use anyhow::{Context, Result};
use kernel::sys::mount::{self, Attributes, Depth, ResolveFlag};
use kernel::{Fd, purpose};

use crate::file_systems::{QUIET, file_system};
use crate::place::Place;

/// A small file system in memory with the files in it, and where each belongs.
#[derive(Debug)]
pub struct Files {
    mount: Fd,
    places: Vec<Place>,
}

impl Files {
    /// Makes the files, in a mount that has no place. `None` if there are none.
    pub fn make(files: &[(&'static str, String)]) -> Result<Option<Files>> {
        if files.is_empty() {
            return Ok(None);
        }
        purpose("files of the cell's own, in memory");
        let mount = file_system("tmpfs", &["mode=755", "size=1m"], QUIET, "files")?;
        for (index, (_, content)) in files.iter().enumerate() {
            mount::write_fileat(&mount, &index.to_string(), content)?;
        }
        let places = files.iter().map(|(path, _)| Place::asked(Path::new(path))).collect::<Result<_, _>>()?;
        Ok(Some(Files { mount, places }))
    }

    /// Mounts each file onto its place.
    ///
    /// Before Linux 6.15 nothing can be copied out of a mount that has no place. So it gets one for a moment, where /proc
    /// will be.
    pub fn place(&self, root: &Fd) -> Result<()> {
        purpose("place the files, each over the root filesystem's own");
        let here = Place::system("proc").open(root, true)?;
        mount::move_mount(&self.mount, &here)?;
        for (index, place) in self.places.iter().enumerate() {
            let name = index.to_string();
            let file = mount::openat2(&self.mount, Path::new(&name), ResolveFlag::RESOLVE_NO_SYMLINKS, "file")?;
            let copy = mount::open_tree(&file, Depth::One, "copy")?;
            mount::mount_setattr(&copy, Depth::One, Attributes::RDONLY)?;
            let target = place.open(root, false)?;
            mount::move_mount(&copy, &target).with_context(|| format!("cannot mount {place}"))?;
        }
        Ok(mount::detach(Path::new("proc"))?)
    }
}
