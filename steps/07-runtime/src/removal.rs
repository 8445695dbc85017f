//! What was made goes: of a launch that has failed, and of a container that is deleted.

use std::time::Duration;

use crate::groups::Cgroup;
use crate::systemd::Scope;
use anyhow::Result;
use kernel::sys::signal::SIGKILL;
use kernel::{Failure, purpose};

use crate::second_try::twice;
use crate::spec::{Spec, Status};
use crate::store::{Container, Damaged, Locked, Record};
use crate::{hooks, log, resources};

/// A container that is not whole yet. Dropped before it is, all that was made is removed.
#[derive(Debug)]
pub struct Undo<'a> {
    container: Option<Locked>,
    spec: &'a Spec,
}

impl Undo<'_> {
    /// Guards a container that is not whole yet: dropped without `keep`, it removes what was made.
    pub fn new(container: Locked, spec: &Spec) -> Undo<'_> {
        Undo { container: Some(container), spec }
    }

    /// What is being made.
    pub fn container(&mut self) -> &mut Locked {
        self.container.as_mut().expect("it is not kept yet")
    }

    /// It is whole.
    pub fn keep(mut self) -> Locked {
        self.container.take().expect("it is kept once")
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if let Some(container) = &mut self.container {
            purpose("the launch has failed: remove what was made");
            container.record.cable = None; // its network is still ours, and gives that back by itself
            let _ = remove(container, Some(self.spec), Strangers::None);
        }
    }
}

/// What becomes of processes in the group of a container that has ended, if they are not its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strangers {
    /// There are none: the container lived until we ended it.
    None,
    /// The container stays, too, until they have gone.
    Refuse,
    /// They stay, and so does the group; the container is forgotten.
    Leave,
}

/// Removes all that is left of a container: the group, with all processes in it that are its own, its place in the network,
/// what is remembered, and last of all the caller's own things, by the poststop hooks.
///
/// # Errors
/// The first thing that cannot be removed. While its group is there, it is remembered, so that it can be tried again.
pub fn remove(container: &Locked, spec: Option<&Spec>, strangers: Strangers) -> Result<()> {
    container.record.cable.as_ref().map_or(Ok(()), network::Cable::check_here)?;
    let among_strangers = match strangers {
        Strangers::None => Ok(()),
        Strangers::Refuse | Strangers::Leave => refuse_strangers(&container.record, spec),
    };
    let group = match among_strangers {
        Err(why) if strangers == Strangers::Leave => {
            log::warn(&format!("{why}; the group stays as it is"));
            Ok(())
        }
        Err(why) => return Err(why.into()),
        Ok(()) => remove_group(&container.record),
    };
    let unplugged = container.record.cable.as_ref().map_or(Ok(()), network::unplug);
    if group.is_err() {
        return group.and(unplugged);
    }
    let forgotten = container.forget();
    if spec.and_then(|spec| spec.linux.as_ref()).is_some_and(|linux| !linux.uid_mappings.is_empty()) {
        let _ = privileges::remove_old_reservations(); // what stays, the next one that chooses ids removes
    }
    let state = container.state(Status::Stopped);
    if let Some(hooks) = spec.and_then(|spec| spec.hooks.as_ref()) {
        // A hook that fails must not keep the others, nor the container, from going (runtime.md, Lifecycle).
        hooks::run_all("poststop", &hooks.poststop, &state);
    }
    group.and(unplugged).and(forgotten)
}

/// Runs the poststart hooks of a command that runs. From version 1.3.0 of the specification on, one that fails is an error, and
/// the container must end and be removed; to an older configuration it is a warning (runtime.md, Lifecycle).
///
/// # Errors
/// A hook has failed.
pub fn poststart(container: &Container, spec: &Spec) -> Result<()> {
    let Some(asked) = spec.hooks.as_ref().filter(|asked| !asked.poststart.is_empty()) else { return Ok(()) };
    let state = container.state(Status::Running);
    if spec.is_at_least(3) {
        return hooks::run("poststart", &asked.poststart, &state);
    }
    hooks::run_all("poststart", &asked.poststart, &state);
    Ok(())
}

/// Ends and removes a container whose poststart hook has failed. What cannot be removed is a warning.
pub fn after_failed_poststart(container: &Locked, spec: &Spec) {
    if let Err(error) = end(container).and_then(|strangers| remove(container, Some(spec), strangers)) {
        log::warn(&format!("{error:#}"));
    }
}

/// Kills its first process, and waits until it is gone. The group sees to the others.
///
/// # Errors
/// It does not end.
pub fn end(container: &Container) -> Result<Strangers> {
    const PATIENCE: u16 = 10_000; // milliseconds
    purpose("end it, and wait until it has");
    let Ok(process) = container.process() else { return Ok(Strangers::Refuse) };
    if let Some(group) = &container.record.group {
        group.still_ours().kill_all()?;
    }
    let _ = process.send_signal(SIGKILL);
    if process.wait_for_end(PATIENCE)? {
        return Ok(Strangers::None);
    }
    let text = format!("container {:?}: its first process does not end", container.record.id);
    Err(Failure::new(text).hint("the kernel waits for a disk, or a network drive: ps -o stat,wchan").into())
}

// ANCHOR: strangers
/// Of a container that has ended: refuses to take the processes in its group for its own where they cannot be. With its first
/// process all others in its pid namespace have ended; what has come since is another's. Without such a namespace its own may
/// live on, in a group that it has made and signed.
///
/// # Errors
/// Processes are in the group, and stay.
pub fn refuse_strangers(record: &Record, spec: Option<&Spec>) -> Result<(), Failure> {
    const UNTIL_A_VISITOR_HAS_LEFT: Duration = Duration::from_secs(2); // of `exec`, for one
    let Some(group) = record.group.as_ref().map(Cgroup::still_ours) else { return Ok(()) };
    let ends_with_its_first = spec.is_some_and(Spec::has_pid_namespace);
    let may_be_its_own = group.is_signed() && group.found.is_empty() && !ends_with_its_first;
    if may_be_its_own || twice(|| group.is_empty_within(UNTIL_A_VISITOR_HAS_LEFT)).unwrap_or(false) {
        return Ok(());
    }
    let text =
        format!("container {:?} has ended, and in its group are others' processes: {:?}", record.id, group.processes());
    Err(Failure::new(text).hint("end them first; delete --force forgets the container, and leaves them where they are"))
}
// ANCHOR_END: strangers

/// Removes what can be known of a container whose record is damaged: its group, by the record, the configuration or its
/// name, with all processes in it; its first process; its directory.
///
/// # Errors
/// The first thing that cannot be removed. The directory stays then, so that it can be tried again.
pub fn remove_damaged(id: &str, damaged: Damaged) -> Result<()> {
    purpose("its record is damaged: end and remove what can be found");
    if let Some(process) = damaged.process() {
        let _ = process.send_signal(SIGKILL);
    }
    let group = group_of_damaged(id, &damaged)?;
    if let Some(group) = &group {
        group.kill_all()?;
        group.wait_until_empty()?;
        group.remove()?;
        damaged.field::<Scope>("scope").map_or(Ok(()), |scope| scope.stop())?;
    }
    if let Some(cable) = damaged.field("cable") {
        network::unplug(&cable)?;
    }
    if group.is_none() && !damaged.has_no_record() {
        log::warn(&format!("container {id:?}: no group has its note; processes of it may live on"));
    }
    damaged.forget()
}

/// The group of a container whose record is damaged, if it is there: by the record, the configuration or its name. None of
/// these is proof, for another's group can lie there: only what has the container's token on it is its own.
///
/// # Errors
/// There is no /proc.
pub fn group_of_damaged(id: &str, damaged: &Damaged) -> Result<Option<Cgroup>> {
    let noted =
        |group: Cgroup| Some(Cgroup { owner: damaged.token.clone(), ..group }.noted_as_ours()).filter(Cgroup::exists);
    if let Some(group) = damaged.field::<Cgroup>("group").and_then(noted) {
        return Ok(Some(group));
    }
    let path = damaged.spec.as_ref().map_or_else(|| id.to_owned(), |spec| resources::path(spec, id));
    Ok(Cgroup::find(&path)?.and_then(noted))
}

fn remove_group(record: &Record) -> Result<()> {
    match (&record.group, &record.group_path) {
        (Some(group), _) => {
            // Where another's group has its path, a scope of its name is another's, too.
            let is_anothers = group.refuse_if_anothers().is_err();
            let group = group.still_ours();
            let _ = twice(|| group.kill_all()).and_then(|()| group.wait_until_empty()); // if either fails, the removal will tell
            let scope = record.scope.as_ref().filter(|_| !is_anothers).map_or(Ok(()), |scope| twice(|| scope.stop()));
            scope.and(twice(|| group.remove()))
        }
        (None, Some(path)) if !record.group_was_there => twice(|| remove_half_made(path, &record.token)),
        (None, _) => record.scope.as_ref().map_or(Ok(()), |scope| twice(|| scope.stop_unless_in_use())),
    }
}

/// The launch was killed when it had made directories of the group and not yet said so. They are empty, and have its note, or
/// none yet.
fn remove_half_made(path: &str, token: &str) -> Result<()> {
    let group = Cgroup { owner: Some(token.to_owned()), ..Cgroup::at(path)? };
    group.remove_without_note();
    group.noted_as_ours().remove()
}
