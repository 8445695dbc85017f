//! What was made goes: of a launch that has failed, and of a container that is deleted.

use anyhow::Result;
use cgroups::Kept;
use cgroups::systemd::Scope;
use kernel::purpose;

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
            let _ = remove(container, self.spec);
        }
    }
}

/// Removes all that is left of a container whose processes need not have ended: the group, with everybody in it, its place
/// in the network, what is remembered, and last of all the caller's own things, by the poststop hooks.
///
/// # Errors
/// The first thing that cannot be removed; the rest is tried all the same.
pub fn remove(container: &Container, spec: &Spec) -> Result<()> {
    let group = remove_group(&container.record);
    let unplugged = container.record.cable.as_ref().map_or(Ok(()), network::unplug);
    let forgotten = container.remove();
    let state = container.state(Status::Stopped);
    if let Some(hooks) = &spec.hooks {
        // A hook that fails must not keep the others, nor the container, from going (runtime.md, Lifecycle).
        for hook in &hooks.poststop {
            if let Err(error) = hooks::run("poststop", std::slice::from_ref(hook), &state) {
                log::warn(&format!("{error:#}"));
            }
        }
    }
    group.and(unplugged).and(forgotten)
}

/// Removes what can be known of a container whose record is damaged: the group that its configuration names, with all processes
/// in it, and its directory.
///
/// # Errors
/// The first thing that cannot be removed. The directory stays then, so that it can be tried again.
pub fn remove_damaged(id: &str, damaged: Damaged) -> Result<()> {
    let path = damaged.spec.as_ref().map_or_else(|| id.to_owned(), |spec| resources::path(spec, id));
    if let Some(group) = Kept::find(&path)? {
        group.kill_all()?;
        group.wait_until_empty()?;
        group.remove()?;
    }
    damaged.remove()
}

fn remove_group(record: &Record) -> Result<()> {
    if let Some(group) = &record.group {
        let _ = group.kill_all().and_then(|()| group.wait_until_empty()); // if either fails, the removal will tell
    }
    let scope = record.scope.as_ref().map_or(Ok(()), Scope::stop);
    let group = match (&record.group, &record.group_path) {
        (Some(group), _) => group.remove(),
        // The launch was killed when it had made the group and not yet said so: it is empty, and ours to take.
        (None, Some(path)) => Kept::make(path, &[]).and_then(|group| group.remove()).or(Ok(())),
        (None, None) => Ok(()),
    };
    scope.and(group)
}
