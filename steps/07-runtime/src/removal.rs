//! What was made goes: of a launch that has failed, and of a container that is deleted.

use crate::groups::Kept;
use crate::systemd::Scope;
use anyhow::Result;
use kernel::purpose;
use kernel::sys::signal::SIGKILL;

use crate::spec::{Spec, Status};
use crate::store::{Container, Damaged, Record};
use crate::{hooks, log, resources};

/// A container that is not whole yet. Dropped before it is, all that was made is removed.
#[derive(Debug)]
pub struct Undo<'a> {
    container: Option<Container>,
    spec: &'a Spec,
}

impl Undo<'_> {
    /// From here on it is.
    pub fn new(container: Container, spec: &Spec) -> Undo<'_> {
        Undo { container: Some(container), spec }
    }

    /// What is being made.
    pub fn container(&mut self) -> &mut Container {
        self.container.as_mut().expect("it is not kept yet")
    }

    /// It is whole.
    pub fn keep(mut self) -> Container {
        self.container.take().expect("it is kept once")
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if let Some(container) = &mut self.container {
            purpose("the launch has failed: remove what was made");
            container.record.cable = None; // its network is still ours, and gives that back by itself
            let _ = remove(container, Some(self.spec));
        }
    }
}

/// Removes all that is left of a container whose processes need not have ended: the group, with everybody in it, its place
/// in the network, what is remembered, and last of all the caller's own things, by the poststop hooks.
///
/// # Errors
/// The first thing that cannot be removed. While its group is there, it is remembered, so that it can be tried again.
pub fn remove(container: &Container, spec: Option<&Spec>) -> Result<()> {
    container.record.cable.as_ref().map_or(Ok(()), network::Cable::check_here)?;
    let group = remove_group(&container.record);
    let unplugged = container.record.cable.as_ref().map_or(Ok(()), network::unplug);
    if group.is_err() {
        return group.and(unplugged);
    }
    let forgotten = container.remove();
    if spec.and_then(|spec| spec.linux.as_ref()).is_some_and(|linux| !linux.uid_mappings.is_empty()) {
        let _ = privileges::remove_old_reservations(); // what stays, the next one that chooses ids removes
    }
    let state = container.state(Status::Stopped);
    if let Some(hooks) = spec.and_then(|spec| spec.hooks.as_ref()) {
        // A hook that fails must not keep the others, nor the container, from going (runtime.md, Lifecycle).
        for hook in &hooks.poststop {
            if let Err(error) = hooks::run("poststop", std::slice::from_ref(hook), &state) {
                log::warn(&format!("{error:#}"));
            }
        }
    }
    group.and(unplugged).and(forgotten)
}

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
    }
    if let Some(scope) = damaged.field::<Scope>("scope") {
        scope.stop()?;
    }
    if let Some(cable) = damaged.field("cable") {
        network::unplug(&cable)?;
    }
    if group.is_none() && damaged.spec.is_none() {
        log::warn(&format!("container {id:?}: nothing tells which group was its own; processes of it may live on"));
    }
    damaged.remove()
}

/// The group of a container whose record is damaged, if it is there.
///
/// # Errors
/// There is no /proc.
pub fn group_of_damaged(id: &str, damaged: &Damaged) -> Result<Option<Kept>> {
    if let Some(group) = damaged.field::<Kept>("group").filter(Kept::exists) {
        return Ok(Some(group));
    }
    let path = damaged.spec.as_ref().map_or_else(|| id.to_owned(), |spec| resources::path(spec, id));
    Kept::find(&path)
}

fn remove_group(record: &Record) -> Result<()> {
    if let Some(group) = &record.group {
        let _ = group.kill_all().and_then(|()| group.wait_until_empty()); // if either fails, the removal will tell
    }
    let scope = record.scope.as_ref().map_or(Ok(()), Scope::stop);
    let group = match (&record.group, &record.group_path) {
        (Some(group), _) => group.remove(),
        // The launch was killed when it had made the group and not yet said so: it is empty, and ours to take.
        (None, Some(path)) if !record.group_was_there => {
            let group = Kept::make(path, &[]).map(|group| Kept { found: Vec::new(), ..group });
            group.and_then(|group| group.remove()).or(Ok(()))
        }
        (None, _) => Ok(()),
    };
    scope.and(group)
}
