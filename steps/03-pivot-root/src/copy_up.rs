//! What the root filesystem has at a place, copied into the file system in memory that will cover it ("tmpcopyup"). The
//! lesson does not need this file; configurations for step 7 ask for it.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use anyhow::Result;
use kernel::Fd;

/// Copies directories, files and symbolic links with owners and permissions; other kinds are left out.
///
/// Both are walked from a descriptor, by names that the kernel gives: a symbolic link is copied, never followed.
pub fn copy_up(from: &Fd, to: &Fd) -> Result<()> {
    Ok(copy_directory(&by_descriptor(from), &by_descriptor(to))?)
}

/// A path that begins at a descriptor: nobody in the cell runs yet who could change what lies below.
fn by_descriptor(fd: &Fd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

fn copy_directory(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let found = source.symlink_metadata()?;
        let kind = found.file_type();
        if kind.is_symlink() {
            symlink(fs::read_link(&source)?, &target)?;
            lchown(&target, Some(found.uid()), Some(found.gid()))?;
            continue;
        } else if kind.is_dir() {
            fs::create_dir(&target)?;
            copy_directory(&source, &target)?;
        } else if kind.is_file() {
            fs::copy(&source, &target)?;
        } else {
            continue;
        }
        chown(&target, Some(found.uid()), Some(found.gid()))?;
        fs::set_permissions(&target, Permissions::from_mode(found.mode() & 0o7777))?;
    }
    Ok(())
}
