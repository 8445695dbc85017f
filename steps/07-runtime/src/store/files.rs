//! Files and directories that only their owner reads and writes, whatever the caller's umask is.

use std::fs::{self, DirBuilder, Metadata, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result};
use kernel::Failure;

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

/// Makes a directory that only its owner can enter, whatever the umask is.
pub(super) fn make_directory(directory: &Path) -> std::io::Result<()> {
    DirBuilder::new().mode(0o700).create(directory)?;
    fs::set_permissions(directory, Permissions::from_mode(0o700))
}

/// Refuses a directory whose content another user could have written: what is read there decides which programs root runs.
pub(super) fn refuse_if_open_to_others(directory: &Path) -> Result<(), Failure> {
    let Ok(found) = fs::symlink_metadata(directory) else { return Ok(()) };
    if !found.is_dir() {
        let why = "containers are remembered in a directory, and this is none";
        return Err(Failure::new(format!("{}: {why}", directory.display())).hint("take another --root"));
    }
    refuse_if_of_others(directory, &found)
}

/// Refuses a file that another user could have written, in a directory that is well now: an earlier version made files as the
/// caller's umask said.
pub(super) fn refuse_if_written_by_others(file: &Path) -> Result<(), Failure> {
    fs::symlink_metadata(file).map_or(Ok(()), |found| refuse_if_of_others(file, &found))
}

fn refuse_if_of_others(place: &Path, found: &Metadata) -> Result<(), Failure> {
    let refuse = |why: &str, hint: String| Err(Failure::new(format!("{}: {why}", place.display())).hint(hint));
    if found.uid() != kernel::sys::privilege::user() && found.uid() != 0 {
        let hint = "take another --root".to_owned();
        return refuse("it belongs to another user, and containers are remembered there", hint);
    }
    if found.mode() & 0o022 != 0 {
        let hint = format!("chmod go-w {}, or take another --root", place.display());
        return refuse("others may write to it, and containers are remembered there", hint);
    }
    Ok(())
}
