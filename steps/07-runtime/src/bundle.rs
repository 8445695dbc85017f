//! A bundle of our own making: a configuration, and beside it the files that it mounts.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use anyhow::{Context, Result};

use privileges::Reservation;

use crate::spec::{self, Spec};

/// What is in it.
#[derive(Debug)]
pub struct Bundle {
    /// Its config.json.
    pub spec: Spec,
    /// The files, by name.
    pub files: Vec<(&'static str, String)>,
    /// Their owner on the host; none: the user that writes them.
    pub owner: Option<(u32, u32)>,
    /// Its ids on the host, if they were reserved for it.
    pub ids: Option<Reservation>,
}

impl Bundle {
    /// The text of config.json.
    pub fn config(&self) -> String {
        spec::to_json(&self.spec)
    }

    /// Writes the files into a directory, all but config.json, and reserves the ids as long as it is there.
    ///
    /// # Errors
    /// They cannot be written, or not be given away.
    pub fn write_files(&self, directory: &Path) -> Result<()> {
        for (name, text) in &self.files {
            let file = directory.join(name);
            let written = fs::write(&file, text)
                // Whatever umask the caller has: everybody in the container reads them.
                .and_then(|()| fs::set_permissions(&file, Permissions::from_mode(0o644)))
                .and_then(|()| match self.owner {
                    Some((user, group)) => chown(&file, Some(user), Some(group)),
                    None => Ok(()),
                });
            written.with_context(|| format!("cannot write {}", file.display()))?;
        }
        // Those who begin it may end before it does: as long as the directory is there, its ids are nobody else's.
        self.ids.as_ref().map_or(Ok(()), |ids| ids.stays_with(directory))
    }
}
