//! A short path to the lab's folder, because the path of a socket has at most 107 bytes (man 7 unix).

use std::path::{Path, PathBuf};

use crate::lab::Lab;
use crate::world::sh;

/// The lab's folder at `/mnt`, in the lab's own mounts, until dropped.
#[derive(Debug)]
pub struct ShortPath;

impl ShortPath {
    /// Mounts the folder there.
    pub fn new(lab: &Lab) -> ShortPath {
        sh(&format!("mount --bind '{}' /mnt", lab.folder.display()));
        ShortPath
    }

    /// The path of a file in the folder.
    pub fn join(&self, name: &str) -> PathBuf {
        Path::new("/mnt").join(name)
    }
}

impl Drop for ShortPath {
    fn drop(&mut self) {
        sh("umount --lazy /mnt"); // a failed test may have left a socket open there
    }
}
