//! Files and directories that only their owner reads and writes, whatever the caller's umask is.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result};
use kernel::Failure;
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, fchmodat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Writes a file as a whole: another process reads the old one or the new, never half of one. The new one is first written
/// under a name that no other process can have chosen, and never through a symbolic link; `mode` holds whatever the umask is.
///
/// # Errors
/// The directory cannot be written to, or the disk is full. Nothing is left then.
pub fn write_whole(file: &Path, text: &[u8], mode: u32) -> Result<()> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let new = file.with_file_name(format!(".{name}.{:08x}", kernel::sys::process::random()?));
    let write = || {
        let mut opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
        opened.set_permissions(Permissions::from_mode(mode))?;
        opened.write_all(text)?;
        fs::rename(&new, file)
    };
    let written = write().inspect_err(|_| drop(fs::remove_file(&new)));
    written.with_context(|| format!("cannot write {}", file.display()))
}

/// On a container's directory the sticky bit says that we have made it: it is there as soon as the directory is, before anything
/// can be in it. An empty directory without it is another program's.
pub(super) const OUR_MARK: Mode = Mode::S_ISVTX;

/// Makes a directory in another one that only its owner can enter, whatever the umask is, with `mark` in its mode.
pub(super) fn make_directory(above: impl AsFd, name: &Path, mark: Mode) -> std::io::Result<()> {
    let mode = Mode::from_bits_truncate(0o700) | mark;
    mkdirat(&above, name, mode)?;
    let set = fchmodat(&above, name, mode, FchmodatFlags::FollowSymlink);
    if set.is_err() {
        let _ = unlinkat(&above, name, UnlinkatFlags::RemoveDir);
    }
    Ok(set?)
}

/// Refuses what another user could have written: what is read there decides which programs root runs, and kills.
pub(super) fn refuse_if_of_others(place: &Path, found: &FileStat) -> Result<(), Failure> {
    let refuse = |why: &str, hint: String| Err(Failure::new(format!("{}: {why}", place.display())).hint(hint));
    if !is_own(found) {
        let hint = "take another --root".to_owned();
        return refuse("it belongs to another user, and containers are remembered there", hint);
    }
    if found.st_mode & 0o022 != 0 {
        let hint = format!("chmod go-w {}, or take another --root", place.display());
        return refuse("others may write to it, and containers are remembered there", hint);
    }
    Ok(())
}

/// Whether it is this user's, or root's.
pub(super) fn is_own(found: &FileStat) -> bool {
    [kernel::sys::privilege::user(), 0].contains(&found.st_uid)
}
