//! Making a container: the parent's half. What it makes it remembers first, and takes back if anything fails.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cgroups::Kept;
use cgroups::systemd::Scope;
use kernel::sys::clone::{self, CloneFlags};
use kernel::sys::{namespace, privilege, socket};
use kernel::{Failure, Fd, purpose};
use namespaces::Child;
use network::Network;
use network::device::{self, Device, Moved};
use pivot_root::furniture;
use privileges::Hatch;

use crate::bundle::Bundle;
use crate::init::{self, Cell};
use crate::notify::{self, Notify};
use crate::plan::{Plan, Task};
use crate::resources;
use crate::spec::{self, Spec, Status};
use crate::store::{Claim, Container, Lock, Record, START, Store, begin_of};
use crate::terminal::{self, Outlet};
use crate::{clock, hooks, log};

/// What a caller asks for.
#[derive(Debug, Default)]
pub struct Request<'a> {
    /// The container's name.
    pub id: &'a str,
    /// Where its configuration and its root filesystem are.
    pub bundle: PathBuf,
    /// Instead of that: a bundle of our own making. Its place is the container's own directory.
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
    /// Whoever called goes on without it.
    pub detached: bool,
    /// Its group is systemd's to make.
    pub systemd: bool,
    /// So many descriptors of the caller's go on to the command, from 3 on.
    pub preserved: u32,
    /// It gets no group at all.
    pub no_group: bool,
}

impl Request<'_> {
    /// Gives a bundle of our own making its place. Its name must be taken first then, for the place is the container's own.
    fn settle_own(&mut self, store: &Store) -> Result<Option<Claim>> {
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
    /// As it is remembered.
    pub container: Container,
    /// Its first process.
    pub child: Child,
    /// The other end of its terminal, if we sit at it.
    pub terminal: Option<Fd>,
    /// Its configuration.
    pub spec: Spec,
    /// Its network: as long as we hold it, nobody else takes the ports that are published.
    pub network: Option<Network>,
    /// Somebody waits for it to be ready.
    pub notify: Option<Notify>,
    _lock: Lock,
}

/// Makes a container from a bundle, up to where it waits for `start`, or runs.
///
/// # Errors
/// What is wrong in the configuration or its place there; what the kernel refuses. Nothing is left then.
pub fn launch(store: &Store, mut request: Request) -> Result<Launched> {
    let claim = request.settle_own(store)?;
    let text =
        request.own.as_ref().map_or_else(|| read_config(&request.bundle), |own| Ok(own.config().into_bytes()))?;
    let spec: Spec = spec::parse("config.json", &text)?;
    spec::check(&spec, &known())?;
    let mut plan = Plan::new(&spec, &request.bundle)?;
    plan.task.new_keyring = !request.no_new_keyring;
    let scope = if request.systemd { Some(resources::scope(&spec, request.id)?) } else { None };
    terminal::check(plan.task.terminal.is_some(), request.console_socket, request.detached)?;
    let outlet = request.console_socket.map(Outlet::connect).transpose()?;
    let claim = claim.map_or_else(|| store.claim(request.id), Ok)?;
    let (container, lock) = claim.remember(record(&request, &spec, &plan, scope), &text)?;
    let mut undo = Undo { container: Some(container), spec: &spec };
    let container = undo.container.as_mut().expect("it is not kept yet");
    notify::show(&mut plan, container.place())?;
    let notify = if request.waits { None } else { notify::listen(container.place())? };
    let (child, terminal) = make(container, &mut plan, &spec, &mut request, outlet)?;
    let container = undo.keep();
    request.network.iter_mut().for_each(Network::stay); // from here on `remove` gives its place back
    Ok(Launched { container, child, terminal, spec, network: request.network, notify, _lock: lock })
}

/// The names that the lessons' crates take.
pub fn known() -> spec::Known<'static> {
    spec::Known {
        capability: &|_| true, // one that is not to be had is a warning: plan::Task
        rlimit: &|name| privileges::Rlimit::new(name, 0, 0).is_ok(),
    }
}

fn read_config(bundle: &Path) -> Result<Vec<u8>> {
    let file = bundle.join("config.json");
    let hint = "a bundle is a directory with a config.json: cellblock spec writes one";
    let text = fs::read(&file).map_err(|error| {
        let why = error.to_string().to_lowercase();
        Failure::new(format!("cannot read {}: {}", file.display(), why.split(" (os").next().unwrap_or(&why))).hint(hint)
    });
    Ok(text?)
}

fn record(request: &Request, spec: &Spec, plan: &Plan, scope: Option<Scope>) -> Record {
    Record {
        id: request.id.to_owned(),
        oci_version: spec.oci_version.clone(),
        bundle: request.bundle.clone(),
        rootfs: plan.rootfs.clone(),
        pid: None,
        begun: 0,
        created: clock::now(),
        annotations: spec.annotations.clone(),
        group_path: (!request.no_group && scope.is_none()).then(|| resources::path(spec, request.id)),
        scope,
        group: None,
        cable: request.network.as_ref().and_then(Network::cable),
    }
}

/// A container that is not whole yet. Dropped before it is, all that was made is removed.
struct Undo<'a> {
    container: Option<Container>,
    spec: &'a Spec,
}

impl Undo<'_> {
    /// It is whole.
    fn keep(mut self) -> Container {
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

// ANCHOR: make
/// The list of calls.
fn make(
    container: &mut Container,
    plan: &mut Plan,
    spec: &Spec,
    request: &mut Request,
    outlet: Option<Outlet>,
) -> Result<(Child, Option<Fd>)> {
    let group = container.record.group_path.as_deref().map(|path| resources::make(path, spec)).transpose()?.flatten();
    container.record.group.clone_from(&group);
    container.save()?;
    let scope = container.record.scope.clone();
    if scope.is_none() {
        plan.show_group(group.as_ref())?;
    }
    let start = if request.waits { Some(socket::listen(&container.directory()?, START)?) } else { None };
    let hatch = Hatch::new()?;
    let (ours, outlet) = seat(&plan.task, outlet)?;
    let nothing = spec::Hooks::default();
    let asked_hooks = spec.hooks.as_ref().unwrap_or(&nothing);
    let state = container.state(Status::Creating);
    let devices = find_devices(plan)?;
    set_clocks(plan)?;
    join_pid_namespace(plan)?;
    let entrance = group.as_ref().map(Kept::entrance).transpose()?.flatten();
    let mut cell = Cell {
        plan,
        group,
        scope: scope.as_ref(),
        hooks: asked_hooks,
        state,
        hatch: &hatch,
        outlet,
        detached: request.detached,
        preserved: request.preserved,
        start,
        network: request.network.as_ref(),
    };
    let new = cell.plan.new;
    if !new.contains(CloneFlags::CLONE_NEWPID) && privilege::user() == 0 {
        purpose("others are in the child's pid namespace already: they may not look into it (CVE-2016-9962)");
        privilege::not_dumpable()?;
    }
    let child = namespaces::spawn_into(new - plan_time(), entrance.as_ref(), || init::run(&mut cell))?;
    remember(container, &child)?;
    if let Some(scope) = &scope {
        move_into_scope(container, plan, scope, spec)?;
    }
    if let Some(id_maps) = &plan.id_maps {
        id_maps.write(child.pid())?;
    }
    plan.task.raise_limits(child.pid())?;
    hand_in(plan, &hatch, &child)?;
    request.network.as_mut().map_or(Ok(()), |network| network.plug(&child))?;
    let moved = move_devices(plan, &devices, &child)?;
    let state = container.state(Status::Creating);
    hooks::run("prestart", &asked_hooks.prestart, &state)?;
    hooks::run("createRuntime", &asked_hooks.create_runtime, &state)?;
    child.open_gate()?;
    child.read_report()?;
    let terminal = ours.map(|hatch| socket::receive_fd(&hatch, "terminal's master")).transpose()?;
    if request.waits && begin_of(child.pid()).is_none() {
        return Err(was_killed().into());
    }
    write_pid_file(request.pid_file, child.pid())?;
    request.pidfd_socket.as_ref().map_or(Ok(()), |socket| send_pidfd(socket, &child))?;
    moved.into_iter().for_each(Moved::stay);
    Ok((child, terminal))
}
// ANCHOR_END: make

/// The child waits at the gate, and systemd makes a scope around it. In the child's copy of the plan its group is still to
/// be shown: it does so itself, in there.
fn move_into_scope(container: &mut Container, plan: &mut Plan, scope: &Scope, spec: &Spec) -> Result<()> {
    let record = &mut container.record;
    let child = record.pid.expect("it was born");
    let group = resources::start(scope, child, spec, &record.id)?;
    plan.show_group(Some(&group))?;
    record.group = Some(group.clone());
    container.save()?;
    resources::complete(scope, &group, child, spec)
}

/// Time namespaces are made by `set_clocks`: one is entered with the next child, whatever clone says.
fn plan_time() -> CloneFlags {
    CloneFlags::from_bits_retain(namespace::NEWTIME)
}

/// Where the terminal goes, and our end of it if that is us.
pub fn seat(task: &Task, outlet: Option<Outlet>) -> Result<(Option<Fd>, Option<Outlet>)> {
    if task.terminal.is_none() || outlet.is_some() {
        return Ok((None, outlet));
    }
    let (ours, theirs) = socket::pair("hatch", "hatch")?;
    Ok((Some(ours), Some(Outlet::Hatch(theirs))))
}

fn set_clocks(plan: &Plan) -> Result<()> {
    if !plan.new.contains(plan_time()) {
        return Ok(());
    }
    purpose("clocks of its own, set before anyone lives by them");
    clone::unshare_time().context("cannot make a time namespace")?;
    for clock in &plan.clocks {
        clone::write_file("/proc/self/timens_offsets", clock)
            .with_context(|| format!("cannot move a clock: {clock}"))?;
    }
    Ok(())
}

/// Nobody can move into a pid namespace, but one's children can be born into it.
fn join_pid_namespace(plan: &Plan) -> Result<()> {
    let Some((kind, path)) = plan.joined.iter().find(|(kind, _)| *kind == CloneFlags::CLONE_NEWPID) else {
        return Ok(());
    };
    purpose("the child will be born into a pid namespace that is there already");
    let file = namespace::open(path).with_context(|| format!("linux.namespaces: pid: {}", path.display()))?;
    namespace::join(&file, *kind).with_context(|| format!("cannot join the pid namespace {}", path.display()))
}

fn find_devices(plan: &Plan) -> Result<Vec<Device>> {
    let find = |(name, inside): &(String, String)| {
        device::find(name, inside).with_context(|| format!("linux.netDevices.{name}"))
    };
    plan.net_devices.iter().map(find).collect()
}

/// Into the child's network namespace, which may be one that it will only join.
fn move_devices<'a>(plan: &Plan, devices: &'a [Device], child: &Child) -> Result<Option<Moved<'a>>> {
    if devices.is_empty() {
        return Ok(None);
    }
    let joined = plan.joined.iter().find(|(kind, _)| *kind == CloneFlags::CLONE_NEWNET).map(|(_, path)| path.clone());
    let path = joined.unwrap_or_else(|| format!("/proc/{}/ns/net", child.pid()).into());
    device::move_in(devices, &namespace::open(&path)?).map(Some).context("linux.netDevices")
}

/// Connects to the caller's socket: before anything is made.
pub fn connect_pidfd_socket(path: &Path) -> Result<Fd> {
    socket::connect_path(path).with_context(|| format!("--pidfd-socket {}: nobody takes it there", path.display()))
}

/// Hands out what a signal can be sent by, and the end be waited for, without a number that another may have by then.
pub fn send_pidfd(socket: &Fd, child: &Child) -> Result<()> {
    Ok(socket::send_fd(socket, b"pidfd", child.watch().0.descriptor())?)
}

fn was_killed() -> Failure {
    Failure::new("the container's first process was killed").hint("too little memory? --memory")
}

fn remember(container: &mut Container, child: &Child) -> Result<()> {
    container.record.pid = Some(child.pid());
    container.record.begun = begin_of(child.pid()).ok_or_else(was_killed)?;
    container.save()
}

/// In a user namespace the child has no rights on the host: what belongs to the host is opened here, and handed in.
fn hand_in(plan: &Plan, hatch: &Hatch, child: &Child) -> Result<()> {
    if !init::is_handed_in(plan) {
        return Ok(());
    }
    let sources = pivot_root::Sources::open_all(&plan.rootfs, furniture::binds(&plan.furniture))?;
    sources.make_slaves()?;
    plan.show_with_other_owners(&sources, child.pid())?;
    hatch.hand_in(&sources)
}

/// As a whole, as the caller may look for it at any moment.
pub fn write_pid_file(file: Option<&Path>, pid: i32) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    let new = file.with_extension("new");
    let written = fs::write(&new, pid.to_string()).and_then(|()| fs::rename(&new, file));
    written.with_context(|| format!("cannot write the pid file {}", file.display()))
}
