//! Making a container: the parent's half. What it makes it remembers first, and takes back if anything fails.

use std::path::{Path, PathBuf};

use crate::groups::Cgroup;
use crate::net_devices::{self, Device, Moved};
use crate::sibling;
use crate::sys::namespace;
use crate::systemd::Scope;
use anyhow::{Context, Result};
use kernel::sys::clone::{self, CloneFlags};
use kernel::sys::privilege;
use kernel::{Fd, purpose};
use namespaces::Child;
use network::Network;
use privileges::DescriptorChannel;

use crate::bundle::Bundle;
use crate::gate::{self, WaitingChild};
use crate::handed_on::HandedOn;
use crate::init::{self, Cell};
use crate::notify::{self, Notify};
use crate::plan::Plan;
use crate::relay::Relay;
use crate::removal::Undo;
use crate::spec::{self, Spec, Status};
use crate::store::{Claim, Locked, Record, Store, VERSION, begin_of, was_killed};
use crate::terminal::{self, MasterSocket, PendingRelay};
use crate::waiting::Waiting;
use crate::{birth, caller, clock, listener, resources};

/// What a caller asks for.
#[derive(Debug, Default)]
pub struct Request<'a> {
    /// The container's name.
    pub id: &'a str,
    /// Where its configuration and its root filesystem are.
    pub bundle: PathBuf,
    /// The text of its configuration.
    pub config: Vec<u8>,
    /// Instead of these: a bundle of our own making. Its place is the container's own directory.
    pub own: Option<Bundle>,
    /// Step 4's network, if it is more than the configuration says.
    pub network: Option<Network>,
    /// A socket that takes its terminal.
    pub console_socket: Option<&'a Path>,
    /// A file for the number of its first process.
    pub pid_file: Option<&'a Path>,
    /// A connection that takes a descriptor which holds that process.
    pub pidfd_socket: Option<Fd>,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// It waits for `start`; else its command runs at once.
    pub waits: bool,
    /// The caller goes on without it.
    pub detached: bool,
    /// Its group is systemd's to make.
    pub systemd: bool,
    /// Descriptors of the caller that go on to the command.
    pub handed_on: HandedOn,
    /// It gets no group at all.
    pub no_group: bool,
}

impl Request<'_> {
    /// Writes a bundle of our own making to its place. Its name must be taken first then, for the place is the container's own.
    fn write_own_bundle(&mut self, store: &Store) -> Result<Option<Claim>> {
        let Some(own) = &self.own else { return Ok(None) };
        let claim = store.claim(self.id)?;
        own.write_files(claim.directory())?;
        self.bundle = claim.directory().to_owned();
        Ok(Some(claim))
    }
}

/// A container that has been made.
#[derive(Debug)]
pub struct Launched {
    /// As it is remembered. Until it is unlocked, no other command changes it.
    pub container: Locked,
    /// Its first process.
    pub child: Child,
    /// The way to its terminal, if that is in the foreground.
    pub terminal: Option<Relay>,
    /// Its configuration.
    pub spec: Spec,
    /// Its network: as long as we hold it, nobody else takes the ports that are published.
    pub network: Option<Network>,
    /// A process waits for it to be ready.
    pub notify: Option<Notify>,
}

/// Makes a container from a bundle, up to where it waits for `start`, or runs.
///
/// # Errors
/// What is wrong in the configuration or its place there; what the kernel refuses. Nothing is left then.
pub fn launch(store: &Store, mut request: Request) -> Result<Launched> {
    let claim = request.write_own_bundle(store)?;
    let text = match &request.own {
        Some(own) => own.config().into_bytes(),
        None => std::mem::take(&mut request.config),
    };
    let spec: Spec = spec::parse("config.json", &text)?;
    spec::check(&spec, &known())?;
    let mut plan = Plan::new(&spec, &request.bundle)?;
    plan.task.new_keyring = !request.no_new_keyring;
    let scope = if request.systemd { Some(resources::scope(&spec, request.id)?) } else { None };
    terminal::check(plan.task.terminal.is_some(), request.console_socket, request.detached)?;
    let master_socket = request.console_socket.map(MasterSocket::connect).transpose()?;
    let claim = claim.map_or_else(|| store.claim(request.id), Ok)?;
    let record = record(&request, &spec, &plan, scope, claim.token());
    let container = claim.remember(record, &text)?;
    let mut undo = Undo::new(container, &spec);
    let container = undo.container();
    notify::show(&mut plan, container.place())?;
    let notify = if request.waits { None } else { notify::listen(container.place())? };
    let (child, terminal) = make(container, &mut plan, &spec, &mut request, master_socket)?;
    let container = undo.keep();
    request.network.iter_mut().for_each(Network::stay); // from here on `remove` gives its place back
    Ok(Launched { container, child, terminal, spec, network: request.network, notify })
}

/// The names that the lessons' crates take.
pub fn known() -> spec::Known<'static> {
    spec::Known {
        capability: &|_| true, // one that is not to be had is a warning: plan::Task
        rlimit: &|name| privileges::Rlimit::new(name, 0, 0).is_ok(),
    }
}

fn record(request: &Request, spec: &Spec, plan: &Plan, scope: Option<Scope>, token: &str) -> Record {
    let group_path = (!request.no_group && scope.is_none()).then(|| resources::path(spec, request.id));
    Record {
        version: VERSION,
        token: token.to_owned(),
        id: request.id.to_owned(),
        oci_version: spec.oci_version.clone(),
        bundle: request.bundle.clone(),
        rootfs: plan.rootfs.clone(),
        pid: None,
        begun: 0,
        vantage: None,
        created: clock::now(),
        annotations: spec.annotations.clone(),
        group_was_there: group_path
            .as_deref()
            .is_some_and(|path| Cgroup::find(path).is_ok_and(|found| found.is_some())),
        group_path,
        scope,
        group: None,
        cable: request.network.as_ref().and_then(Network::cable),
    }
}

// ANCHOR: make
/// The list of calls.
fn make(
    container: &mut Locked,
    plan: &mut Plan,
    spec: &Spec,
    request: &mut Request,
    master_socket: Option<MasterSocket>,
) -> Result<(Child, Option<Relay>)> {
    let group = make_group(&container.record, spec)?;
    container.record.group.clone_from(&group);
    container.save()?;
    let scope = container.record.scope.clone();
    if scope.is_none() {
        plan.show_group(group.as_ref())?;
    }
    let start = if request.waits { Some(Waiting::make(container.directory())?) } else { None };
    let listener = listener::Relay::connect(&plan.task)?;
    let channel = DescriptorChannel::new()?;
    let (relay, master_socket) = terminal::prepare(&plan.task, master_socket)?;
    let nothing = spec::Hooks::default();
    let state = container.state(Status::Creating);
    let devices = find_devices(plan)?;
    set_clocks(plan)?;
    let joined = open_namespaces(plan)?;
    let (number, number_entry) = birth::channel(plan, &joined)?;
    let entrance = group.as_ref().map(Cgroup::entrance).transpose()?.flatten();
    let nodes = make_nodes(plan)?;
    let mut cell = Cell {
        plan,
        group,
        joined: &joined,
        scope: scope.as_ref(),
        hooks: spec.hooks.as_ref().unwrap_or(&nothing),
        state,
        channel: &channel,
        nodes,
        master_socket,
        detached: request.detached,
        handed_on: &request.handed_on,
        start,
        listener,
        network: request.network.as_ref(),
        number: number_entry,
        joined_at_birth: CloneFlags::empty(),
    };
    if !cell.plan.new.contains(CloneFlags::CLONE_NEWPID) && privilege::user() == 0 {
        purpose("others are in the child's pid namespace already: they may not look into it (CVE-2016-9962)");
        privilege::not_dumpable()?;
    }
    let mut child = spawn(&mut cell, entrance.as_ref())?;
    let listener = cell.listener.take();
    drop(cell.number.take()); // held here too, its closing in the child would never be seen
    let waiting = WaitingChild { child: &child, channel: &channel, devices: &devices };
    let moved = waiting.set_up(container, plan, spec, request.network.as_mut())?;
    child.open_gate()?;
    if let Some(number) = number {
        sibling::follow(&mut child, &number)?;
        gate::remember_successor(container, &child)?;
    }
    if let Some(listener) = listener {
        listener.pass_on(child.watch().0, container.state(Status::Creating))?;
    }
    child.read_report()?;
    let terminal = relay.map(PendingRelay::start).transpose()?;
    if request.waits && begin_of(child.pid()).is_none() {
        return Err(was_killed().into());
    }
    caller::write_pid_file(request.pid_file, child.pid(), &request.handed_on)?;
    request.pidfd_socket.as_ref().map_or(Ok(()), |socket| caller::send_pidfd(socket, &child))?;
    moved.into_iter().for_each(Moved::stay);
    Ok((child, terminal))
}
// ANCHOR_END: make

fn make_group(record: &Record, spec: &Spec) -> Result<Option<Cgroup>> {
    let path = record.group_path.as_deref();
    path.map(|path| resources::make(path, spec, &record.token)).transpose().map(Option::flatten)
}

/// Time namespaces are made by `set_clocks`: one is entered with the next child, whatever clone says.
fn plan_time() -> CloneFlags {
    CloneFlags::from_bits_retain(namespace::NEWTIME)
}

fn set_clocks(plan: &Plan) -> Result<()> {
    if !plan.new.contains(plan_time()) {
        return Ok(());
    }
    purpose("clocks of its own, set while no process is in its namespace");
    clone::unshare_time().context("cannot make a time namespace")?;
    for clock in &plan.clocks {
        clone::write_file("/proc/self/timens_offsets", clock)
            .with_context(|| format!("cannot move a clock: {clock}"))?;
    }
    Ok(())
}

/// Namespaces that are there already: opened here, because a process in one of them may not reach the others any more.
fn open_namespaces(plan: &Plan) -> Result<Vec<(Fd, CloneFlags)>> {
    let open = |(kind, path): &(CloneFlags, PathBuf)| {
        let opened = namespace::open(path).with_context(|| format!("linux.namespaces: {}", path.display()));
        opened.map(|namespace| (namespace, *kind))
    };
    plan.joined.iter().map(open).collect()
}

/// A process cannot move into a pid namespace, but its children can be born into it: so the child's maker joins it first. That is
/// this process, unless the child has a user namespace: then a first child joins what it may, and a sibling of it goes on.
fn spawn(cell: &mut Cell, entrance: Option<&Fd>) -> Result<Child> {
    let (new, joined) = (cell.plan.new - plan_time(), cell.joined);
    let at_birth = before_birth(joined, cell.plan.id_maps.is_some());
    if !at_birth.is_empty() {
        cell.joined_at_birth = at_birth.iter().map(|(_, kind)| *kind).collect();
        return sibling::spawn_within(&at_birth, new, entrance, || init::run(cell));
    }
    let pid = joined.iter().find(|(_, kind)| *kind == CloneFlags::CLONE_NEWPID);
    if let Some((pid, kind)) = pid.filter(|_| cell.number.is_none()) {
        purpose("the child will be born into a pid namespace that is there already");
        namespace::join(pid, *kind).context("linux.namespaces: cannot join the pid namespace")?;
    }
    namespaces::spawn_into(new, entrance, || init::run(cell))
}

/// What is joined before the child of a user namespace is born, in this order. To join a namespace takes rights in the user
/// namespace that it belongs to, and the child has none in any other than its own: so those of the host come first. What belongs to
/// a user namespace that is joined comes after that: then at the latest there are rights in it. None: only this process's pid
/// namespace for children changes.
fn before_birth(joined: &[(Fd, CloneFlags)], has_own_users: bool) -> Vec<(&Fd, CloneFlags)> {
    let is_pid = |kind: CloneFlags| kind == CloneFlags::CLONE_NEWPID;
    let all = joined.iter().map(|(namespace, kind)| (namespace, *kind));
    let users = all.clone().find(|(_, kind)| *kind == CloneFlags::CLONE_NEWUSER);
    let Some(users) = users else {
        let needed = has_own_users && joined.iter().any(|(_, kind)| !is_pid(*kind));
        return if needed { all.collect() } else { Vec::new() };
    };
    let others = all.filter(|(_, kind)| *kind != CloneFlags::CLONE_NEWUSER);
    let (after, before): (Vec<_>, Vec<_>) =
        others.partition(|(namespace, _)| namespace::belongs_to(namespace, users.0));
    let pid = after.into_iter().filter(|(_, kind)| is_pid(*kind)); // the child joins the others itself
    before.into_iter().chain([users]).chain(pid).collect()
}

/// Device nodes for a container that may make none, where we may.
fn make_nodes(plan: &Plan) -> Result<Option<Fd>> {
    if !plan.root.bind_devices || !init::is_handed_in(plan) {
        return Ok(None);
    }
    // The numbers of a user namespace that is joined are not known here: there the nodes are root's on the host, as its own are.
    let outside = |owner| plan.id_maps.as_ref().and_then(|maps| maps.outside(owner)).unwrap_or((0, 0));
    crate::mounts::nodes::make(&plan.root, outside)
}

fn find_devices(plan: &Plan) -> Result<Vec<Device>> {
    let find = |(name, inside): &(String, String)| {
        net_devices::find(name, inside).with_context(|| format!("linux.netDevices.{name}"))
    };
    plan.net_devices.iter().map(find).collect()
}
