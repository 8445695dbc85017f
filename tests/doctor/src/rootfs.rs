//! What a container is made of: a root filesystem, or the static busybox of which `scripts/rootfs` makes one.

use std::path::{Path, PathBuf};

use crate::check::{Check, LAUNCHERS, Lack, NOBODY};
use crate::find_program;

/// The lines about the root filesystem: busybox is needed only to make one.
pub fn checks() -> Vec<Check> {
    let rootfs = rootfs();
    let needed_by = if rootfs.is_ok() { NOBODY } else { LAUNCHERS };
    vec![Check::new("busybox", needed_by, busybox()), Check::new("rootfs", NOBODY, rootfs)]
}

/// The root filesystem, or what of its path is there already: on whose file system it lies, or will.
pub fn place() -> PathBuf {
    let named = std::env::var_os("CELLBLOCK_ROOTFS").map(PathBuf::from);
    let path = named.unwrap_or_else(chroot::default_rootfs);
    path.ancestors().find(|part| part.exists()).unwrap_or(Path::new("/")).to_owned()
}

/// The default, as it is shown: below the repository.
const OWN: &str = "target/rootfs/busybox";

/// Where the launchers look: what CELLBLOCK_ROOTFS names, else the workspace's own.
fn rootfs() -> Result<String, Lack> {
    let (path, shown) = match std::env::var_os("CELLBLOCK_ROOTFS").map(PathBuf::from) {
        Some(named) => (named.clone(), named.display().to_string()),
        None => (chroot::default_rootfs(), OWN.to_owned()),
    };
    if path.is_dir() {
        Ok(shown)
    } else {
        Err(Lack::new(format!("{shown} is not there yet"), "scripts/rootfs busybox"))
    }
}

/// A busybox that needs no loader, because the cell has no loader.
fn busybox() -> Result<String, Lack> {
    let named = std::env::var_os("BUSYBOX").map(PathBuf::from);
    let Some(path) = named.or_else(|| find_program("busybox")) else {
        return Err(Lack::new("the program busybox is not installed", "scripts/bootstrap"));
    };
    match chroot::interpreter(&path).is_none() {
        true => Ok(format!("{}, a static program", path.display())),
        false => {
            let remedy = "scripts/rootfs busybox # fetches a static one, unless you have it: BUSYBOX=FILE";
            Err(Lack::new(format!("{} is not a static program", path.display()), remedy))
        }
    }
}
