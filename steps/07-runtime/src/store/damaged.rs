//! A container whose record cannot be read: what can be known of it all the same.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use kernel::sys::clone::Process;

use super::{Lock, STATE, begin_of};
use crate::spec::Spec;

/// A container whose record cannot be read.
#[derive(Debug)]
pub struct Damaged {
    pub(super) directory: PathBuf,
    /// Its configuration, if that can be read.
    pub spec: Option<Spec>,
    /// What stands in its record, if that is JSON at all: of another version, or with a field too few.
    pub(super) record: Option<serde_json::Value>,
    pub(super) _lock: Lock,
}

impl Damaged {
    /// Whether there is no record at all: then its launch was killed before its child was born, unless the group tells
    /// otherwise.
    pub fn has_no_record(&self) -> bool {
        fs::symlink_metadata(self.directory.join(STATE)).is_err()
    }

    /// A field of the record, if it is there and well.
    pub fn field<T: serde::de::DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_value(self.record.as_ref()?.get(name)?.clone()).ok()
    }

    /// Its first process, held by a descriptor, if that lives and its record still says which it is.
    pub fn process(&self) -> Option<Process> {
        let (pid, begun) = (self.field("pid")?, self.field::<u64>("begun")?);
        let process = Process::open(pid, "process").ok()?;
        (begin_of(pid) == Some(begun)).then_some(process)
    }

    /// Forgets it.
    pub fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.directory).with_context(|| format!("cannot remove {}", self.directory.display()))
    }
}
