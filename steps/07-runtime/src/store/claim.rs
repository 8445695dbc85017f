//! A name, reserved for a container that is being made.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};
use kernel::Failure;
use kernel::sys::process;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::container::{self, Container, Locked};
use super::files::{OUR_MARK, make_directory};
use super::{CONFIG, Lock, MARK, Place, Record, Store, is_missing};
use crate::spec;

/// A name that is reserved, and nothing remembered yet. Dropped, it is free again.
#[derive(Debug)]
pub struct Claim {
    place: Option<Place>,
    lock: Option<Lock>,
    token: String,
}

impl Store {
    // ANCHOR: reserve
    /// Reserves a name: the first thing that a launch makes.
    ///
    /// # Errors
    /// The id is taken, or none.
    pub fn claim(&self, id: &str) -> Result<Claim> {
        spec::check_id(id)?;
        let root = self.make_root()?;
        let cannot = || format!("cannot make {}", root.path().join(id).display());
        let mut tries = 1..20;
        loop {
            match make_directory(root.descriptor(), Path::new(id), OUR_MARK) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    let text = format!("container {id:?}: container with given ID already exists");
                    return Err(Failure::new(text).hint("cellblock delete removes it, or take another id").into());
                }
                made => made.with_context(cannot)?,
            }
            // `prune` may take an empty name that is not locked for one that a killed launch has left.
            match root.inside(id).map_err(anyhow::Error::from).and_then(|place| Claim::mark(place, id)) {
                Err(error) if is_gone(&error, id) && tries.next().is_some() => {}
                Err(error) => {
                    // Where it could not be locked or marked it is empty, and not ours any more if it is not.
                    let _ = unlinkat(root.descriptor(), id, UnlinkatFlags::RemoveDir);
                    return Err(error).with_context(cannot);
                }
                claimed => return claimed,
            }
        }
    }
    // ANCHOR_END: reserve
}

fn is_gone(error: &anyhow::Error, id: &str) -> bool {
    is_missing(error, id) || error.downcast_ref::<std::io::Error>().is_some_and(|why| why.kind() == ErrorKind::NotFound)
}

impl Claim {
    /// Locks a new directory, and leaves our mark in it.
    fn mark(place: Place, id: &str) -> Result<Claim> {
        let lock = container::lock(&place, id)?;
        let token = format!("{:08x}{:08x}", process::random()?, process::random()?);
        let claim = Claim { place: Some(place), lock: Some(lock), token };
        claim.place().write(MARK, claim.token.as_bytes())?;
        Ok(claim)
    }

    fn place(&self) -> &Place {
        self.place.as_ref().expect("it is there until it is remembered")
    }

    /// The container's directory: it can be a bundle itself, for config.json will be in it.
    pub fn directory(&self) -> &Path {
        self.place().path()
    }

    /// What will tell the container from others of its name.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Remembers what is known so far.
    pub fn remember(mut self, record: Record, config: &[u8]) -> Result<Locked> {
        let cannot = || format!("cannot write {}", self.directory().join(CONFIG).display());
        self.place().write(CONFIG, config).with_context(cannot)?;
        let (place, lock) = (self.place.take(), self.lock.take());
        let (place, lock) = place.zip(lock).expect("it is there until it is remembered");
        let container = Locked::new(Container::new(place, record), lock);
        container.save().inspect_err(|_| drop(container.forget()))?;
        Ok(container)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(place) = &self.place {
            let _ = place.remove();
        }
    }
}
