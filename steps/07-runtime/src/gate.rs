//! What the parent does for the child that waits at the gate: what only a process outside can do.

use std::path::Path;

use crate::net_devices::{self, Device, Moved};
use crate::sys::namespace;
use crate::systemd::Scope;
use anyhow::{Context, Result};
use kernel::sys::clone::CloneFlags;
use kernel::sys::mount::{self, Depth, Propagation};
use kernel::{Fd, purpose};
use namespaces::Child;
use network::Network;
use pivot_root::sources;
use privileges::DescriptorChannel;

use crate::plan::Plan;
use crate::spec::{Spec, Status};
use crate::store::{Locked, Vantage, begin_of, was_killed};
use crate::{hooks, init, resources};

/// A child that waits at the gate, and what the parent prepares it with.
#[derive(Debug)]
pub struct WaitingChild<'c, 'd> {
    /// The child.
    pub child: &'c Child,
    /// Through it comes what belongs to the host.
    pub channel: &'c DescriptorChannel,
    /// Devices of the host's network that will be its own.
    pub devices: &'d [Device],
}

impl<'d> WaitingChild<'_, 'd> {
    // ANCHOR: set_up
    /// The list of calls, in order: maps of ids, rights, mounts, network, hooks.
    ///
    /// # Errors
    /// Those of each call; the child was killed meanwhile.
    pub fn set_up(
        &self,
        container: &mut Locked,
        plan: &mut Plan,
        spec: &Spec,
        network: Option<&mut Network>,
    ) -> Result<Option<Moved<'d>>> {
        let child = self.child;
        remember(container, child)?;
        if let Some(scope) = container.record.scope.clone() {
            move_into_scope(container, plan, &scope, spec)?;
        }
        if let Some(id_maps) = &plan.id_maps {
            id_maps.write(child.pid())?;
        }
        plan.task.give_standard(child.pid());
        plan.task.raise_limits(child.pid())?;
        self.send_mounts(plan)?;
        network.map_or(Ok(()), |network| network.plug(child))?;
        let moved = self.move_devices(plan)?;
        if let Some(asked) = &spec.hooks {
            let state = container.state(Status::Creating);
            hooks::run("prestart", &asked.prestart, &state)?;
            hooks::run("createRuntime", &asked.create_runtime, &state)?;
        }
        Ok(moved)
    }
    // ANCHOR_END: set_up

    /// In a user namespace the child has no rights on the host: the host's files are opened here, and sent to it.
    fn send_mounts(&self, plan: &Plan) -> Result<()> {
        if !init::is_handed_in(plan) {
            return Ok(());
        }
        purpose("what belongs to the host, each as a mount of its own: no mount made in these may appear on the host");
        let child = self.child.pid();
        let open = |path: &Path, depth, label| -> Result<Fd> {
            let tree = sources::open(path, depth, label)?;
            mount::propagate_mount(&tree, Depth::Recursive, Propagation::Slave)?;
            Ok(tree)
        };
        let root = open(&plan.rootfs, Depth::Recursive, "root")?;
        plan.show_root_with_other_owners(&root, child)?;
        let binds = plan.root.binds().map(|(path, depth, owners)| {
            let tree = open(path, depth, "bind")?;
            owners.map_or(Ok(()), |owners| owners.show(&tree, child))?;
            Ok(tree)
        });
        self.channel.send_many(&root, binds)
    }

    /// Into the child's network namespace, which may be one that it will only join.
    fn move_devices(&self, plan: &Plan) -> Result<Option<Moved<'d>>> {
        if self.devices.is_empty() {
            return Ok(None);
        }
        let joined =
            plan.joined.iter().find(|(kind, _)| *kind == CloneFlags::CLONE_NEWNET).map(|(_, path)| path.clone());
        let path = joined.unwrap_or_else(|| format!("/proc/{}/ns/net", self.child.pid()).into());
        net_devices::move_in(self.devices, &namespace::open(&path)?).map(Some).context("linux.netDevices")
    }
}

/// The child waits at the gate, and systemd makes a scope around it. In the child's copy of the plan its group is still to
/// be shown: it does so itself, in there.
fn move_into_scope(container: &mut Locked, plan: &mut Plan, scope: &Scope, spec: &Spec) -> Result<()> {
    let record = &mut container.record;
    let child = record.pid.expect("it was born");
    let mut group = resources::start(scope, child, spec, &record.id)?;
    group.sign(&record.token);
    plan.show_group(Some(&group))?;
    record.group = Some(group.clone());
    container.save()?;
    resources::complete(scope, &group, child, spec)?;
    group.sign(&container.record.token); // in v1's trees, too, that systemd does not know
    container.record.group = Some(group);
    container.save()
}

fn remember(container: &mut Locked, child: &Child) -> Result<()> {
    write_down(container, child, begin_of(child.pid()).ok_or_else(was_killed)?)
}

/// Another process has taken the child's place. Its command may have come to its end already.
pub fn remember_successor(container: &mut Locked, child: &Child) -> Result<()> {
    write_down(container, child, begin_of(child.pid()).unwrap_or_default())
}

fn write_down(container: &mut Locked, child: &Child, begun: u64) -> Result<()> {
    container.record.pid = Some(child.pid());
    container.record.begun = begun;
    container.record.vantage = Vantage::here().ok();
    container.save()
}
