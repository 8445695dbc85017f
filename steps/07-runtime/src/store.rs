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
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cgroups::Kept;
use cgroups::systemd::Scope;
pub use kernel::sys::lock::Lock;
use kernel::sys::{namespace, socket};
use kernel::{Failure, Fd};
use network::Cable;
use serde::{Deserialize, Serialize};

use crate::spec::{self, Spec, State, Status};

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
    /// There is none.
    pub fn open(&self, id: &str) -> Result<Container> {
        spec::check_id(id)?;
        let directory = self.root.join(id);
        refuse_if_open_to_others(&self.root)?;
        refuse_if_open_to_others(&directory)?;
        let text = match fs::read(directory.join(STATE)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(does_not_exist(id).into()),
            read => read.map_err(|error| damaged(id, &error.to_string()))?,
        };
        let record = serde_json::from_slice(&text).map_err(|error| damaged(id, &error.to_string()))?;
        Ok(Container { directory, record })
    }

    /// What is left of a container whose record cannot be read: its directory, locked, and the configuration if that can be
    /// read. None if its record is well, or if there is none.
    ///
    /// # Errors
    /// It is not ours to read.
    pub fn damaged(&self, id: &str) -> Result<Option<Damaged>> {
        let directory = self.root.join(id);
        if fs::symlink_metadata(directory.join(STATE)).is_err() || self.open(id).is_ok() {
            return Ok(None);
        }
        refuse_if_open_to_others(&self.root)?;
        refuse_if_open_to_others(&directory)?;
        let lock = lock(&directory, id)?;
        let spec = spec::read(&directory.join(CONFIG)).ok();
        Ok(Some(Damaged { directory, spec, _lock: lock }))
    }

    /// What a launch has left that was killed before it could remember anything: an empty name. True if there was one. Whoever
    /// still has it locked is waited for.
    pub fn remove_nameless(&self, id: &str) -> Result<bool> {
        spec::check_id(id)?;
        let directory = self.root.join(id);
        let Ok(_lock) = lock(&directory, id) else { return Ok(false) };
        if !directory.is_dir() || directory.join(STATE).exists() {
            return Ok(false);
        }
        fs::remove_dir_all(&directory).with_context(|| format!("cannot remove {}", directory.display()))?;
        Ok(true)
    }

    /// All names that are taken, in order.
    pub fn ids(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        let mut ids: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        ids.sort();
        ids
    }

    /// All that are remembered, by id.
    pub fn all(&self) -> Vec<Container> {
        self.ids().iter().filter_map(|id| self.open(id).ok()).collect()
    }
}

fn damaged(id: &str, why: &str) -> Failure {
    Failure::new(format!("container {id:?}: its {STATE} is damaged: {why}"))
        .hint(format!("cellblock delete --force {id} ends its processes and removes what is left"))
}

/// A container whose record cannot be read.
#[derive(Debug)]
pub struct Damaged {
    directory: PathBuf,
    /// Its configuration, if that can be read.
    pub spec: Option<Spec>,
    _lock: Lock,
}

impl Damaged {
    /// Forgets it.
    pub fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.directory).with_context(|| format!("cannot remove {}", self.directory.display()))
    }
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

    /// Remembers what is known now.
    pub fn save(&self) -> Result<()> {
        write_whole(&self.directory.join(STATE), &serde_json::to_vec(&self.record)?, 0o600)
    }

    /// Its configuration, as it was made.
    pub fn spec(&self) -> Result<Spec> {
        Ok(spec::read(&self.directory.join(CONFIG))?)
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
        File::open(&self.directory).is_ok_and(|file| Lock::is_held(&file))
    }

    /// Its first process, held by a descriptor.
    ///
    /// # Errors
    /// It has ended.
    pub fn process(&self) -> Result<Fd> {
        let not_running = || Failure::new(format!("container {:?}: container not running", self.record.id));
        let pid = self.record.pid.ok_or_else(not_running)?;
        let process = namespace::open_process(pid).map_err(|_| not_running())?;
        // The number may be another's by now: looked at after it is held, it is the one that we hold.
        if begin_of(pid) == Some(self.record.begun) { Ok(process) } else { Err(not_running().into()) }
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

/// When a process began; `None` if it has ended, or is a zombie (man 5 proc, /proc/PID/stat).
pub fn begin_of(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit(')').next()?.split_whitespace().collect(); // the name may have anything in it
    let is_dead = matches!(*fields.first()?, "Z" | "X");
    if is_dead { None } else { fields.get(19)?.parse().ok() }
}

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
fn make_directory(directory: &Path) -> std::io::Result<()> {
    DirBuilder::new().mode(0o700).create(directory)?;
    fs::set_permissions(directory, Permissions::from_mode(0o700))
}

/// Refuses a directory whose content another user could have written: what is read there decides which programs root runs.
fn refuse_if_open_to_others(directory: &Path) -> Result<(), Failure> {
    let Ok(found) = fs::symlink_metadata(directory) else { return Ok(()) };
    let refuse = |why: &str, hint: String| Err(Failure::new(format!("{}: {why}", directory.display())).hint(hint));
    let owner = kernel::sys::privilege::user();
    if !found.is_dir() {
        return refuse("containers are remembered in a directory, and this is none", "take another --root".to_owned());
    }
    if found.uid() != owner && found.uid() != 0 {
        return refuse(
            "it belongs to another user, and containers are remembered there",
            "take another --root".to_owned(),
        );
    }
    if found.mode() & 0o022 != 0 {
        let hint = format!("chmod go-w {}, or take another --root", directory.display());
        return refuse("others may write to it, and containers are remembered there", hint);
    }
    Ok(())
}
