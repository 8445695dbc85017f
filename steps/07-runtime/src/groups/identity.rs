//! Which group it is. A path is no identity: a group can have gone and another be there under its path, or a container that
//! has stopped has left it empty and another has taken it over. So two things are remembered: the inode of each directory, and
//! a token, which is also noted on the group itself ([`kernel::sys::group_owner`]).

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use kernel::Failure;
use kernel::sys::{cgroup, group_owner};

use super::Cgroup;

impl Cgroup {
    /// Notes on each of its directories whose they are, and remembers which they are.
    pub fn sign(&mut self, owner: &str) {
        self.owner = Some(owner.to_owned());
        let directories: Vec<PathBuf> = self.directories.all().map(Path::to_owned).collect();
        for directory in directories {
            let Some(inode) = inode(&directory) else { continue };
            group_owner::note(&directory, owner);
            self.inodes.insert(directory, inode);
        }
    }

    /// Whether it was made by a version that remembers which directories they were.
    pub fn is_signed(&self) -> bool {
        !self.inodes.is_empty()
    }

    /// What of it is still this group, or gone: without the directories that are another's by now.
    pub fn still_ours(&self) -> Cgroup {
        self.with(self.directories.only(|directory| !self.is_anothers(directory)))
    }

    /// What of it carries its owner's note: nothing else proves whose a group is that was found by its path.
    pub fn noted_as_ours(&self) -> Cgroup {
        let noted = |directory: &Path| self.owner.is_some() && group_owner::noted(directory) == self.owner;
        self.with(self.directories.only(noted))
    }

    /// Removes what a launcher has made of it and not yet noted.
    pub fn remove_without_note(&self) {
        let new = |directory: &&Path| cgroup::is_ours(directory) && group_owner::noted(directory).is_none();
        self.directories.all().filter(new).for_each(|directory| drop(fs::remove_dir(directory))); // unless processes or groups are in it
    }

    /// # Errors
    /// Another group has its path.
    pub fn refuse_if_anothers(&self) -> Result<(), Failure> {
        let Some(directory) = self.directories.all().find(|directory| self.is_anothers(directory)) else {
            return Ok(());
        };
        let text = format!("the group {} is another's by now", directory.display());
        Err(Failure::new(text).hint("its own group was removed, or left empty and taken over by another container"))
    }

    fn is_anothers(&self, directory: &Path) -> bool {
        let Some(now) = inode(directory) else { return false };
        let is_new = self.inodes.get(directory).is_some_and(|then| *then != now);
        is_new || group_owner::noted(directory).is_some_and(|owner| self.owner.as_ref() != Some(&owner))
    }
}

/// The number of a directory; the kernel gives no group that of another one before the machine is started anew.
pub(super) fn inode(directory: &Path) -> Option<u64> {
    fs::symlink_metadata(directory).ok().filter(fs::Metadata::is_dir).map(|found| found.ino())
}
