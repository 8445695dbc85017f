//! What is remembered of containers, on disk: a directory for each below `--root`. A command that begins where another was
//! killed finds all there that has to be known.
//!
//! | file | what |
//! |---|---|
//! | `.cellblock` | the mark of a directory of ours, the first thing in it: the container's token |
//! | `state.json` | the [`Record`], changed by writing a new one and renaming it |
//! | `config.json` | the configuration as it was when the container was made; the bundle may change or go |
//! | `start` | a socket, as long as the container waits for `start` |
//!
//! The directory itself is the name's owner: the command that makes it has the id. What changes something locks it first
//! ([`Locked`]), and looks again: the name may be a successor's by then.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::groups::Cgroup;
use crate::systemd::Scope;
use anyhow::{Context, Result};
pub use kernel::sys::lock::Lock;
use kernel::{Errno, Failure, outside};
use network::Cable;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::Mode;
use serde::{Deserialize, Serialize};

use crate::spec;

mod claim;
mod container;
mod damaged;
mod files;
mod first;
mod place;

pub use claim::Claim;
pub use container::{Container, Locked};
pub use damaged::Damaged;
pub use files::write_whole;
pub use first::{Vantage, was_killed};
pub use kernel::sys::clone::begin_of;
use place::{Place, Refused};

const STATE: &str = "state.json";
const CONFIG: &str = "config.json";
const MARK: &str = ".cellblock";
/// How a record is to be read. Version 0.7.0 wrote none, which is 0.
pub const VERSION: u32 = 1;

// ANCHOR: record
/// What is known of a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// How this is to be read: [`VERSION`]. Records of 0.7.0 have none.
    #[serde(default)]
    pub version: u32,
    /// What tells it from another one of the same name; noted on its group, too. Records of 0.7.0 have none.
    #[serde(default)]
    pub token: String,
    /// Its name.
    pub id: String,
    /// Of the specification, as its configuration says.
    pub oci_version: String,
    /// The absolute path of its bundle.
    pub bundle: PathBuf,
    /// Its root filesystem.
    pub rootfs: PathBuf,
    /// Its first process, once there is one.
    pub pid: Option<i32>,
    /// When that began, in the kernel's ticks since boot: a number that is used again begins at another time.
    pub begun: u64,
    /// From where both were seen: elsewhere the number is another process's.
    #[serde(default)]
    pub vantage: Option<Vantage>,
    /// When it was made (RFC 3339).
    pub created: String,
    /// The configuration's.
    pub annotations: BTreeMap<String, String>,
    /// Where its group is to be; none: it gets none.
    pub group_path: Option<String>,
    /// It was there before, and stays.
    #[serde(default)]
    pub group_was_there: bool,
    /// The scope that systemd is to make for it; none: we make the group.
    #[serde(default)]
    pub scope: Option<Scope>,
    /// Its group, once it is made.
    pub group: Option<Cgroup>,
    /// Its cable, if it is plugged into a bridge of step 4's.
    #[serde(default)]
    pub cable: Option<Cable>,
}
// ANCHOR_END: record

/// All containers of one `--root`.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// The text that callers look for.
fn does_not_exist(id: &str) -> Failure {
    Failure::new(format!("container {id:?}: container does not exist")).hint("cellblock list shows those that do")
}

/// What is found under a name.
enum Found {
    /// A container, or what a launch has left that was killed before it could remember anything.
    Ours(Place),
    /// A directory that a launch has made, and nothing in it: it may have been killed before it could leave its mark.
    New(Place),
    /// Nothing, or what is not ours: another runtime's, a user's.
    Nothing,
}

impl Store {
    /// Those below a directory, which need not be there yet.
    pub fn at(root: &Path) -> Store {
        Store { root: root.to_owned() }
    }

    /// The root, if it is there.
    ///
    /// # Errors
    /// It is no directory, or another user could have written what is in it.
    fn open_root(&self) -> Result<Option<Place>> {
        let root = match Place::open(&self.root) {
            Ok(root) => root,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) if [Errno::ENOTDIR, Errno::ELOOP].map(|errno| errno as i32).contains(&os_error(&error)) => {
                let why = "containers are remembered in a directory, and this is none";
                let text = format!("{}: {why}", self.root.display());
                return Err(Failure::new(text).hint("take another --root").into());
            }
            Err(error) => {
                let text = format!("cannot open {}: {}", self.root.display(), outside::reason(error));
                return Err(Failure::new(text).hint("take another --root").into());
            }
        };
        root.refuse_if_open_to_others()?;
        Ok(Some(root))
    }

    /// The root, made if it is missing.
    fn make_root(&self) -> Result<Place> {
        if let Some(root) = self.open_root()? {
            return Ok(root);
        }
        let above = self.root.parent().unwrap_or(Path::new("/"));
        DirBuilder::new().recursive(true).mode(0o755).create(above).map_err(|error| self.cannot_make(error))?;
        match files::make_directory(AT_FDCWD, &self.root, Mode::empty()) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {} // by another launch, at this moment
            made => made.map_err(|error| self.cannot_make(error))?,
        }
        self.open_root()?.with_context(|| format!("{} is gone", self.root.display()))
    }

    fn find(&self, id: &str) -> Result<Found> {
        spec::check_id(id)?;
        self.open_root()?.map_or(Ok(Found::Nothing), |root| find_in(&root, id))
    }

    fn cannot_make(&self, error: std::io::Error) -> Failure {
        let is_refused = error.kind() == ErrorKind::PermissionDenied;
        let failure = Failure::new(format!("cannot make {}: {}", self.root.display(), outside::reason(error)));
        if !is_refused {
            return failure;
        }
        failure.hint(
            "--root names a directory of your own; without it, containers of an ordinary user are remembered below \
                      $XDG_RUNTIME_DIR, which a login sets",
        )
    }

    /// A container by its id.
    ///
    /// # Errors
    /// It does not exist; its record is damaged; others may write to where it lies.
    pub fn open(&self, id: &str) -> Result<Container> {
        match self.find(id)? {
            Found::Ours(place) => Container::read(place, id),
            Found::New(_) | Found::Nothing => Err(does_not_exist(id).into()),
        }
    }

    /// What is left of a container whose record cannot be read: its directory, locked, and what can be read in it. None if its
    /// record is well, or if there is none.
    ///
    /// # Errors
    /// It is not ours to read, or another command works on it for long.
    pub fn damaged(&self, id: &str) -> Result<Option<Damaged>> {
        let Found::Ours(place) = self.find(id)? else { return Ok(None) };
        let lock = container::lock(&place, id)?;
        if record_in(&place, id).is_ok_and(|record| record.is_some()) {
            return Ok(None);
        }
        Damaged::read(place, lock).map(Some)
    }

    /// What a launch has left that was killed before it could leave its mark: a new directory. True if there was one.
    ///
    /// # Errors
    /// Another command works on it for long.
    pub fn remove_new(&self, id: &str) -> Result<bool> {
        let Found::New(place) = self.find(id)? else { return Ok(false) };
        let _lock = match container::lock(&place, id) {
            Err(error) if is_missing(&error, id) => return Ok(false),
            locked => locked?,
        };
        let is_new = place.is_new()?;
        if is_new {
            place.remove().with_context(|| format!("cannot remove {}", place.path().display()))?;
        }
        Ok(is_new)
    }

    /// All names that a container could have, in order.
    ///
    /// # Errors
    /// Others may write to where they lie; it cannot be read.
    pub fn ids(&self) -> Result<Vec<String>> {
        let Some(root) = self.open_root()? else { return Ok(Vec::new()) };
        let names = root.names().with_context(|| format!("cannot read {}", self.root.display()))?;
        let mut ids: Vec<String> = names.into_iter().filter_map(|name| name.into_string().ok()).collect();
        ids.retain(|id| spec::check_id(id).is_ok());
        Ok(ids)
    }

    /// Shows each that is remembered, by id; `tell` hears of each that cannot be read.
    ///
    /// # Errors
    /// As [`Store::ids`]'s.
    pub fn each(&self, mut show: impl FnMut(&Container), tell: impl Fn(anyhow::Error)) -> Result<()> {
        for id in self.ids()? {
            match self.open(&id) {
                Ok(container) => show(&container),
                Err(error) if is_missing(&error, &id) => {} // another's, or being made, or just removed
                Err(error) => tell(error),
            }
        }
        Ok(())
    }
}

fn os_error(error: &std::io::Error) -> i32 {
    error.raw_os_error().unwrap_or_default()
}

/// What is another user's, or has neither our mark nor a record of ours, is not ours.
fn find_in(root: &Place, id: &str) -> Result<Found> {
    const NOT_OURS: [Errno; 4] = [Errno::ENOENT, Errno::ENOTDIR, Errno::ELOOP, Errno::EACCES];
    let place = match root.inside(id) {
        Err(error) if NOT_OURS.contains(&Errno::from_raw(os_error(&error))) => return Ok(Found::Nothing),
        opened => opened.with_context(|| format!("cannot open {}", root.path().join(id).display()))?,
    };
    if !place.is_own()? {
        return Ok(Found::Nothing);
    }
    let is_marked = place.has(MARK);
    if !is_marked && place.is_new()? {
        return Ok(Found::New(place));
    }
    if !is_marked && !record_in(&place, id).is_ok_and(|record| record.is_some_and(|record| record.version == 0)) {
        return Ok(Found::Nothing);
    }
    place.refuse_if_open_to_others()?;
    Ok(Found::Ours(place))
}

/// The record, if it has one.
///
/// # Errors
/// It cannot be read, or was written by a newer version, or others may write to it.
fn record_in(place: &Place, id: &str) -> Result<Option<Record>> {
    let damaged = |why: &str| damaged(id, STATE, why);
    let text = match place.read(STATE) {
        Err(Refused::Damaged(why)) => return Err(damaged(&why).into()),
        Err(Refused::OpenToOthers(failure)) => return Err(failure.into()),
        Ok(None) => return Ok(None),
        Ok(Some(text)) => text,
    };
    let record: Record = serde_json::from_slice(&text).map_err(|error| damaged(&error.to_string()))?;
    match () {
        () if record.version > VERSION => {
            let text = format!("container {id:?}: it was made by a newer version of cellblock");
            Err(Failure::new(text).hint("take that version for it: cellblock --version").into())
        }
        () if record.id != id => Err(damaged(&format!("it is that of {:?}", record.id)).into()),
        () => Ok(Some(record)),
    }
}

fn damaged(id: &str, file: &str, why: &str) -> Failure {
    Failure::new(format!("container {id:?}: its {file} is damaged: {why}"))
        .hint(format!("cellblock delete --force {id} ends its processes and removes what is left"))
}

/// Whether an error says that there is no such container.
pub fn is_missing(error: &anyhow::Error, id: &str) -> bool {
    error.to_string() == does_not_exist(id).to_string()
}
