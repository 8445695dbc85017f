//! What is remembered of containers, on disk: a directory for each below `--root`. A command that begins where another was
//! killed finds all there that has to be known.
//!
//! | file | what |
//! |---|---|
//! | `state.json` | the [`Record`], changed by writing a new one and renaming it |
//! | `config.json` | the configuration as it was when the container was made; the bundle may change or go |
//! | `start` | a socket, as long as the container waits for `start` |
//!
//! The directory itself is the name's owner: who makes it has the id. It is locked by whoever changes something.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::groups::Kept;
use crate::systemd::Scope;
use anyhow::{Context, Result};
pub use kernel::sys::clone::begin_of;
use kernel::sys::clone::{self, Process};
pub use kernel::sys::lock::Lock;
use kernel::sys::socket;
use kernel::{Failure, Fd};
use network::Cable;
use serde::{Deserialize, Serialize};

use crate::spec::{self, Spec, State, Status};
use crate::{gate, plan};

mod damaged;
mod files;

pub use damaged::Damaged;
pub use files::write_whole;
use files::{make_directory, refuse_if_open_to_others, refuse_if_written_by_others};

const STATE: &str = "state.json";
const CONFIG: &str = "config.json";
/// The socket at which a created container waits.
pub const START: &str = "start";

// ANCHOR: record
/// What is known of a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
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
    pub scope: Option<Scope>,
    /// Its group, once it is made.
    pub group: Option<Kept>,
    /// Its cable, if it is plugged into a bridge of step 4's.
    pub cable: Option<Cable>,
}
// ANCHOR_END: record

/// All containers of one `--root`.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// A container, as it is remembered.
#[derive(Debug)]
pub struct Container {
    directory: PathBuf,
    /// What is known of it.
    pub record: Record,
}

/// The text that callers look for.
fn does_not_exist(id: &str) -> Failure {
    Failure::new(format!("container {id:?}: container does not exist")).hint("cellblock list shows those that do")
}

impl Store {
    /// Those below a directory, which need not be there yet.
    pub fn at(root: &Path) -> Store {
        Store { root: root.to_owned() }
    }

    // ANCHOR: reserve
    /// Reserves a name: the first thing that a launch makes.
    ///
    /// # Errors
    /// The id is taken, or none.
    pub fn claim(&self, id: &str) -> Result<Claim> {
        spec::check_id(id)?;
        let cannot = || format!("cannot make {}", self.root.display());
        if !self.root.exists() {
            let above = self.root.parent().unwrap_or(Path::new("/"));
            DirBuilder::new().recursive(true).mode(0o755).create(above).with_context(cannot)?;
            make_directory(&self.root)
                .or_else(|error| if self.root.is_dir() { Ok(()) } else { Err(error) })
                .with_context(cannot)?;
        }
        refuse_if_open_to_others(&self.root)?;
        let directory = self.root.join(id);
        match make_directory(&directory) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let text = format!("container {id:?}: container with given ID already exists");
                return Err(Failure::new(text).hint("cellblock delete removes it, or take another id").into());
            }
            made => made.with_context(|| format!("cannot make {}", directory.display()))?,
        }
        // Whoever finds an empty name without a lock may remove it.
        let lock = lock(&directory, id).inspect_err(|_| drop(fs::remove_dir(&directory)))?;
        Ok(Claim { directory: Some(directory), lock: Some(lock) })
    }
    // ANCHOR_END: reserve

    /// A container by its id.
    ///
    /// # Errors
    /// There is none; its record is damaged; others may write to where it lies.
    pub fn open(&self, id: &str) -> Result<Container> {
        spec::check_id(id)?;
        let directory = self.root.join(id);
        self.refuse_if_others_write(&directory)?;
        let text = match fs::read(directory.join(STATE)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(no_record(&directory, id).into()),
            read => read.map_err(|error| damaged(id, STATE, &error.to_string()))?,
        };
        let record = serde_json::from_slice(&text).map_err(|error| damaged(id, STATE, &error.to_string()))?;
        Ok(Container { directory, record })
    }

    /// What is left of a container whose record cannot be read: its directory, locked, and what can be read in it. None if its
    /// record is well, or if there is none.
    ///
    /// # Errors
    /// It is not ours to read, or another command works on it for long.
    pub fn damaged(&self, id: &str) -> Result<Option<Damaged>> {
        match self.open(id) {
            Err(error) if !is_missing(&error, id) => {}
            _ => return Ok(None),
        }
        let directory = self.root.join(id);
        self.refuse_if_others_write(&directory)?;
        let lock = lock_in_time(&directory, id)?;
        let spec = spec::read(&directory.join(CONFIG)).ok();
        let record = fs::read(directory.join(STATE)).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Ok(Some(Damaged { directory, spec, record, _lock: lock }))
    }

    /// What a launch has left that was killed before it could remember anything: an empty name. True if there was one. Whoever
    /// still has it locked is waited for, but not for ever.
    pub fn remove_nameless(&self, id: &str) -> Result<bool> {
        spec::check_id(id)?;
        let directory = self.root.join(id);
        if !directory.is_dir() {
            return Ok(false);
        }
        let _lock = lock_in_time(&directory, id)?;
        if !directory.is_dir() || directory.join(STATE).exists() {
            return Ok(false);
        }
        fs::remove_dir_all(&directory).with_context(|| format!("cannot remove {}", directory.display()))?;
        Ok(true)
    }

    /// What is read of a container decides what root runs and kills.
    fn refuse_if_others_write(&self, directory: &Path) -> Result<(), Failure> {
        refuse_if_open_to_others(&self.root)?;
        refuse_if_open_to_others(directory)?;
        [STATE, CONFIG].iter().try_for_each(|file| refuse_if_written_by_others(&directory.join(file)))
    }

    /// All names that are taken, in order.
    ///
    /// # Errors
    /// Others may write to where they lie.
    pub fn ids(&self) -> Result<Vec<String>> {
        refuse_if_open_to_others(&self.root)?;
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        let mut ids: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        ids.sort();
        Ok(ids)
    }

    /// All that are remembered, by id; `tell` hears of each that cannot be read.
    ///
    /// # Errors
    /// As [`Store::ids`]'s.
    pub fn all(&self, tell: impl Fn(anyhow::Error)) -> Result<Vec<Container>> {
        let mut all = Vec::new();
        for id in self.ids()? {
            match self.open(&id) {
                Ok(container) => all.push(container),
                Err(error) if is_missing(&error, &id) => {} // it is being made, or was just removed
                Err(error) => tell(error),
            }
        }
        Ok(all)
    }
}

fn damaged(id: &str, file: &str, why: &str) -> Failure {
    Failure::new(format!("container {id:?}: its {file} is damaged: {why}"))
        .hint(format!("cellblock delete --force {id} ends its processes and removes what is left"))
}

/// Without a record, a name is being made, or its launch was killed; with a configuration, the record may have been lost.
fn no_record(directory: &Path, id: &str) -> Failure {
    match directory.join(CONFIG).exists() && !is_locked(directory) {
        true => damaged(id, STATE, "it is missing"),
        false => does_not_exist(id),
    }
}

/// Whether an error says that there is no such container.
fn is_missing(error: &anyhow::Error, id: &str) -> bool {
    error.to_string() == does_not_exist(id).to_string()
}

/// A name that is reserved, and nothing remembered yet. Dropped, it is free again.
#[derive(Debug)]
pub struct Claim {
    directory: Option<PathBuf>,
    lock: Option<Lock>,
}

impl Claim {
    /// The container's directory: it can be a bundle itself, for config.json will be in it.
    pub fn directory(&self) -> &Path {
        self.directory.as_deref().expect("it is there until it is remembered")
    }

    /// Remembers what is known so far.
    pub fn remember(mut self, record: Record, config: &[u8]) -> Result<(Container, Lock)> {
        let container = Container { directory: self.directory().to_owned(), record };
        write_whole(&container.directory.join(CONFIG), config, 0o600).and_then(|()| container.save())?;
        self.directory = None;
        Ok((container, self.lock.take().expect("it is there until it is remembered")))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(directory) = &self.directory {
            let _ = fs::remove_dir_all(directory);
        }
    }
}

impl Container {
    /// Waits until nobody else changes it.
    pub fn lock(&self) -> Result<Lock> {
        lock(&self.directory, &self.record.id)
    }

    /// As [`Container::lock`], but does not wait for ever.
    ///
    /// # Errors
    /// Another command works on it, and does not end.
    pub fn lock_in_time(&self) -> Result<Lock> {
        lock_in_time(&self.directory, &self.record.id)
    }

    /// Remembers what is known now.
    pub fn save(&self) -> Result<()> {
        write_whole(&self.directory.join(STATE), &serde_json::to_vec(&self.record)?, 0o600)
    }

    /// Its configuration, as it was made.
    pub fn spec(&self) -> Result<Spec> {
        Ok(spec::read(&self.directory.join(CONFIG))
            .map_err(|why| damaged(&self.record.id, CONFIG, &why.to_string()))?)
    }

    /// Where it is remembered.
    pub fn place(&self) -> &Path {
        &self.directory
    }

    /// The directory, as a descriptor: the socket's path may be longer than a socket's path may be.
    pub fn directory(&self) -> Result<Fd> {
        Ok(kernel::sys::mount::open_path(&self.directory, "container")?)
    }

    /// Forgets it. What cannot be removed at once is tried a second time: nobody else would.
    pub fn remove(&self) -> Result<()> {
        match fs::remove_dir_all(&self.directory).or_else(|_| fs::remove_dir_all(&self.directory)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.directory.display()))
            }
            _ => Ok(()),
        }
    }

    /// It waits no longer.
    pub fn has_started(&self) {
        let _ = fs::remove_file(self.directory.join(START));
    }

    // ANCHOR: status
    /// Where it is in its life, now.
    pub fn status(&self) -> Status {
        match self.record.pid {
            None if self.is_being_made() => Status::Creating,
            Some(pid) if begin_of(pid) == Some(self.record.begun) => {
                if self.record.group.as_ref().is_some_and(Kept::is_frozen) {
                    Status::Paused
                } else if !self.waits_for_start() {
                    Status::Running
                } else if self.is_being_made() {
                    Status::Creating
                } else {
                    Status::Created
                }
            }
            _ => Status::Stopped,
        }
    }
    // ANCHOR_END: status

    /// Whether somebody listens at its socket. A `start` that was killed may have left the file.
    fn waits_for_start(&self) -> bool {
        self.directory.join(START).exists()
            && self.directory().is_ok_and(|directory| socket::connect(&directory, START).is_ok())
    }

    /// Whether the command that makes it still has its lock.
    fn is_being_made(&self) -> bool {
        is_locked(&self.directory)
    }

    /// Its first process, held by a descriptor.
    ///
    /// # Errors
    /// It has ended.
    pub fn process(&self) -> Result<Process> {
        let not_running = || Failure::new(format!("container {:?}: container not running", self.record.id));
        let pid = self.record.pid.ok_or_else(not_running)?;
        let process = Process::open(pid, "process").map_err(|_| not_running())?;
        // The number may be another's by now: looked at after it is held, it is the one that we hold.
        if begin_of(pid) == Some(self.record.begun) { Ok(process) } else { Err(not_running().into()) }
    }

    /// After the sign of [`namespaces::sign_report`]: whether the first process was killed all the same before its exec, as
    /// far as that can be seen. One that has been waited for cannot be seen, and a small init never execs.
    pub fn refuse_if_killed(&self, process: &Process) -> Result<()> {
        let pid = self.record.pid.unwrap_or_default();
        let ends = clone::ends_without_exec(pid) && process.signal(0).is_ok(); // then the number was still its own
        if ends && !plan::has_small_init(&self.spec()?) { Err(gate::was_killed().into()) } else { Ok(()) }
    }

    /// As `state` prints it and hooks read it.
    pub fn state(&self, status: Status) -> State {
        State {
            oci_version: spec::NEWEST.to_owned(),
            id: self.record.id.clone(),
            status,
            bundle: self.record.bundle.display().to_string(),
            pid: if status == Status::Stopped { None } else { self.record.pid },
            annotations: self.record.annotations.clone(),
        }
    }
}

fn lock(directory: &Path, id: &str) -> Result<Lock> {
    let file = File::open(directory).map_err(|_| does_not_exist(id))?;
    Ok(Lock::wait(file)?)
}

fn lock_in_time(directory: &Path, id: &str) -> Result<Lock> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let file = File::open(directory).map_err(|_| does_not_exist(id))?;
    Lock::wait_for(file, PATIENCE)?.ok_or_else(|| {
        let text = format!("container {id:?}: another command works on it, and does not end");
        Failure::new(text)
            .hint(format!("fuser -v {} shows which; end that, then try again", directory.display()))
            .into()
    })
}

fn is_locked(directory: &Path) -> bool {
    File::open(directory).is_ok_and(|file| Lock::is_held(&file))
}
