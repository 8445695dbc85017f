//! A container, as it is remembered: looked at by any command, changed and removed only by one that holds its lock.

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use kernel::sys::clone::{self, Process};
use kernel::{Failure, Fd};

use super::first::{self, Sight};
use super::place::{Place, Refused};
use super::{CONFIG, Lock, Record, STATE, damaged, does_not_exist, record_in};
use crate::groups::Cgroup;
use crate::second_try::twice;
use crate::spec::{self, Spec, State, Status};
use crate::{plan, waiting};

/// A container, as it is remembered.
#[derive(Debug)]
pub struct Container {
    place: Place,
    /// What is known of it.
    pub record: Record,
    /// The lock is ours, so no other command makes it at this moment.
    is_locked_by_us: bool,
}

impl Container {
    pub(super) fn new(place: Place, record: Record) -> Container {
        Container { place, record, is_locked_by_us: false }
    }

    /// What lies in a directory of ours.
    pub(super) fn read(place: Place, id: &str) -> Result<Container> {
        match record_in(&place, id)? {
            Some(record) => Ok(Container::new(place, record)),
            // A name that is being made, or whose launch was killed; with a configuration, the record may have been lost.
            None if place.has(CONFIG) && !is_locked(&place) => Err(damaged(id, STATE, "it is missing").into()),
            None => Err(does_not_exist(id).into()),
        }
    }

    // ANCHOR: lock
    /// Waits until no other command changes it, and looks again: it may have been removed meanwhile, and its name be that of a
    /// successor.
    ///
    /// # Errors
    /// It is gone; another command works on it, and does not end.
    pub fn lock(self) -> Result<Locked> {
        let lock = lock(&self.place, &self.record.id)?;
        match twice(|| record_in(&self.place, &self.record.id))? {
            Some(record) if record.token == self.record.token => Ok(Locked::new(Container { record, ..self }, lock)),
            _ => Err(does_not_exist(&self.record.id).into()),
        }
    }
    // ANCHOR_END: lock

    /// Its configuration, as it was made.
    pub fn spec(&self) -> Result<Spec> {
        let damaged = |why: &str| damaged(&self.record.id, CONFIG, why);
        let text = match self.place.read(CONFIG) {
            Err(Refused::Damaged(why)) => return Err(damaged(&why).into()),
            Err(Refused::OpenToOthers(failure)) => return Err(failure.into()),
            Ok(text) => text.ok_or_else(|| damaged("it is missing"))?,
        };
        spec::parse(CONFIG, &text).map_err(|why| damaged(&why.to_string()).into())
    }

    /// Where it is remembered.
    pub fn place(&self) -> &Path {
        self.place.path()
    }

    /// The directory itself: its path can be a successor's, and may be longer than a socket's path may be.
    pub fn directory(&self) -> &Fd {
        self.place.descriptor()
    }

    /// Its group, if it has one.
    ///
    /// # Errors
    /// Another group has its path by now.
    pub fn group(&self) -> Result<Option<&Cgroup>> {
        let Some(group) = &self.record.group else { return Ok(None) };
        group.refuse_if_anothers().with_context(|| format!("container {:?}", self.record.id))?;
        Ok(Some(group))
    }

    /// Where it is in its life, now.
    pub fn status(&self) -> Status {
        self.status_by(self.look().as_ref())
    }

    /// Where it is in its life, and its first process, held by a descriptor: what one look shows.
    pub fn status_and_process(&self) -> (Status, Result<Process>) {
        let sight = self.look();
        (self.status_by(sight.as_ref()), self.process_by(sight))
    }

    // ANCHOR: status
    /// Where it is in its life, by what is seen of its first process, if there is one yet.
    fn status_by(&self, sight: Option<&Sight>) -> Status {
        match sight {
            None if self.is_being_made() => Status::Creating,
            Some(Sight::Lives(_)) => {
                if self.record.group.as_ref().is_some_and(|group| group.still_ours().is_frozen()) {
                    Status::Paused
                } else if !self.waits_for_start() {
                    Status::Running
                } else if self.is_being_made() {
                    Status::Creating
                } else {
                    Status::Created
                }
            }
            Some(Sight::Unseen(_)) if !self.has_left_its_group() => Status::Unknown,
            _ => Status::Stopped,
        }
    }
    // ANCHOR_END: status

    /// What can be said of its first process, if there is one yet.
    fn look(&self) -> Option<Sight> {
        self.record.pid.map(|pid| first::look(pid, self.record.begun, self.record.vantage.as_ref()))
    }

    /// Whether its group is still there, and no process in it: then its first process has ended, even where that is not seen.
    fn has_left_its_group(&self) -> bool {
        let noted = self.record.group.as_ref().map(Cgroup::noted_as_ours).filter(Cgroup::exists);
        noted.is_some_and(|group| group.is_empty_within(Duration::ZERO).unwrap_or(false))
    }

    /// Whether its first process waits at its socket. A `start` that was killed may have left the file.
    fn waits_for_start(&self) -> bool {
        self.place.has(waiting::START) && waiting::is_waited_at(self.directory())
    }

    /// Whether the command that makes it still has its lock.
    fn is_being_made(&self) -> bool {
        !self.is_locked_by_us && is_locked(&self.place)
    }

    /// Its first process, held by a descriptor.
    ///
    /// # Errors
    /// It has ended, or cannot be seen from here.
    pub fn process(&self) -> Result<Process> {
        self.process_by(self.look())
    }

    fn process_by(&self, sight: Option<Sight>) -> Result<Process> {
        match sight {
            Some(Sight::Lives(process)) => Ok(process),
            Some(Sight::Unseen(why)) => Err(why).with_context(|| format!("container {:?}", self.record.id)),
            _ => Err(Failure::new(format!("container {:?}: container not running", self.record.id)).into()),
        }
    }

    /// After the sign of [`namespaces::sign_report`]: whether the first process was killed all the same before its exec, as
    /// far as that can be seen. One that has been waited for cannot be seen, and a small init never execs.
    pub fn refuse_if_killed(&self, process: &Process) -> Result<()> {
        let pid = self.record.pid.unwrap_or_default();
        let ends = clone::ends_without_exec(pid) && process.signal(0).is_ok(); // then the number was still its own
        if ends && !plan::has_small_init(&self.spec()?) { Err(first::was_killed().into()) } else { Ok(()) }
    }

    /// As `state` prints it and hooks read it.
    pub fn state(&self, status: Status) -> State {
        State {
            oci_version: spec::NEWEST.to_owned(),
            id: self.record.id.clone(),
            status,
            bundle: self.record.bundle.display().to_string(),
            pid: if matches!(status, Status::Stopped | Status::Unknown) { None } else { self.record.pid },
            annotations: self.record.annotations.clone(),
        }
    }
}

/// A container whose lock is ours, and whose name still is its own: only so is anything changed, or removed.
#[derive(Debug)]
pub struct Locked {
    container: Container,
    _lock: Lock,
}

impl Locked {
    pub(super) fn new(container: Container, lock: Lock) -> Locked {
        Locked { container: Container { is_locked_by_us: true, ..container }, _lock: lock }
    }

    /// Lets other commands change it.
    pub fn unlock(self) -> Container {
        Container { is_locked_by_us: false, ..self.container }
    }

    /// Remembers what is known now.
    pub fn save(&self) -> Result<()> {
        let written = self.place.write(STATE, &serde_json::to_vec(&self.record)?);
        written.with_context(|| format!("cannot write {}", self.place.path().join(STATE).display()))
    }

    /// Forgets it.
    ///
    /// # Errors
    /// What is not ours is in its directory.
    pub fn forget(&self) -> Result<()> {
        let gone = self.place.remove();
        gone.with_context(|| format!("cannot remove {}", self.place.path().display()))
    }

    /// It waits no longer.
    pub fn has_started(&self) {
        [waiting::START, waiting::ANSWER].iter().for_each(|name| drop(self.place.unlink(name.as_ref())));
    }
}

impl Deref for Locked {
    type Target = Container;

    fn deref(&self) -> &Container {
        &self.container
    }
}

impl DerefMut for Locked {
    fn deref_mut(&mut self) -> &mut Container {
        &mut self.container
    }
}

/// Waits until no other command has the lock of a directory.
///
/// # Errors
/// The directory was removed meanwhile; the command that has it does not end.
pub(super) fn lock(directory: &Place, id: &str) -> Result<Lock> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let wait = || -> Result<Option<Lock>> {
        Ok(Lock::wait_for(directory.again().map_err(|_| does_not_exist(id))?, PATIENCE)?)
    };
    let lock = twice(wait)?.ok_or_else(|| {
        let text = format!("container {id:?}: another command works on it, and does not end");
        Failure::new(text)
            .hint(format!("fuser -v {} shows which; end that, then try again", directory.path().display()))
    })?;
    if directory.has_its_name() { Ok(lock) } else { Err(does_not_exist(id).into()) }
}

fn is_locked(directory: &Place) -> bool {
    directory.again().is_ok_and(|file| Lock::is_held(&file))
}
