//! A container whose record cannot be read: what can be known of it all the same.

use std::path::PathBuf;

use anyhow::{Context, Result};
use kernel::sys::clone::Process;

use super::first::{self, Sight};
use super::{CONFIG, Lock, MARK, Place, Refused, STATE};
use crate::spec::{self, Spec};

/// A container whose record cannot be read.
#[derive(Debug)]
pub struct Damaged {
    place: Place,
    /// Its configuration, if that can be read.
    pub spec: Option<Spec>,
    /// Its token, as its mark has it.
    pub token: Option<String>,
    /// What stands in its record, if that is JSON at all: of another version, or with a field too few.
    record: Option<serde_json::Value>,
    _lock: Lock,
}

impl Damaged {
    /// What can be read.
    ///
    /// # Errors
    /// Others may write to it.
    pub(super) fn read(place: Place, lock: Lock) -> Result<Damaged> {
        let text = |name: &str| match place.read(name) {
            Err(Refused::OpenToOthers(failure)) => Err(failure),
            Err(Refused::Damaged(_)) | Ok(None) => Ok(None),
            Ok(text) => Ok(text),
        };
        let spec = text(CONFIG)?.and_then(|text| spec::parse(CONFIG, &text).ok());
        let record = text(STATE)?.and_then(|text| serde_json::from_slice(&text).ok());
        let token = text(MARK)?.and_then(|text| String::from_utf8(text).ok()).filter(|token| !token.is_empty());
        Ok(Damaged { place, spec, token, record, _lock: lock })
    }

    /// Where it is remembered.
    pub fn directory(&self) -> PathBuf {
        self.place.path().to_owned()
    }

    /// Whether there is no record at all: then its launch was killed before its child was born, unless the group tells
    /// otherwise.
    pub fn has_no_record(&self) -> bool {
        !self.place.has(STATE)
    }

    /// A field of the record, if it is there and well.
    pub fn field<T: serde::de::DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_value(self.record.as_ref()?.get(name)?.clone()).ok()
    }

    /// Its first process, held by a descriptor, if that lives and its record still says which it is.
    pub fn process(&self) -> Option<Process> {
        let vantage: Option<first::Vantage> = self.field("vantage");
        match first::look(self.field("pid")?, self.field("begun")?, vantage.as_ref()) {
            Sight::Lives(process) => Some(process),
            Sight::HasEnded | Sight::Unseen(_) => None,
        }
    }

    /// Forgets it.
    pub fn forget(self) -> Result<()> {
        self.place.remove().with_context(|| format!("cannot remove {}", self.place.path().display()))
    }
}
