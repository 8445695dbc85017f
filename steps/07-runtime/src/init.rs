//! Making a container: the child's half, its first process, until it becomes the command. It is the lessons' list of calls,
//! with what a configuration may ask for besides.

use std::convert::Infallible;
use std::io::ErrorKind;
use std::path::Path;

use crate::groups::Cgroup;
use crate::handed_on::HandedOn;
use crate::listener::Relay;
use crate::mounts::{PreparedRoot, open_place};
use crate::sys::{namespace, schedule, terminal};
use crate::systemd::Scope;
use anyhow::{Context, Result};
use kernel::sys::clone::{self, CloneFlags};
use kernel::sys::inside::HeldLinks;
use kernel::sys::mount::{self, Depth, Propagation};
use kernel::sys::{netlink, privilege};
use kernel::{Fd, purpose};
use network::{Network, sysctl};
use pivot_root::{Place, Trees, sources};
use privileges::{Confinement, DescriptorChannel, UserCommand};

use crate::plan::{Plan, Task};
use crate::spec::{Hooks, State, Status};
use crate::terminal::MasterSocket;
use crate::waiting::Waiting;
use crate::{birth, hooks, label, sibling};

/// All that the child needs of what its parent has planned and made.
#[derive(Debug)]
pub struct Cell<'a> {
    /// What it will be.
    pub plan: &'a mut Plan,
    /// Its group.
    pub group: Option<Cgroup>,
    /// The scope that systemd makes while we wait at the gate: then the group is found in there.
    pub scope: Option<&'a Scope>,
    /// The namespaces that are there already.
    pub joined: &'a [(Fd, CloneFlags)],
    /// Those of them that were joined before this process was born.
    pub joined_at_birth: CloneFlags,
    /// The caller's programs.
    pub hooks: &'a Hooks,
    /// What those read.
    pub state: State,
    /// Through it comes what belongs to the host.
    pub channel: &'a DescriptorChannel,
    /// Its device nodes, if it may make none.
    pub nodes: Option<Fd>,
    /// Where its terminal goes.
    pub master_socket: Option<MasterSocket>,
    /// Descriptors of the caller that go on to the command.
    pub handed_on: &'a HandedOn,
    /// It lives on when its maker ends.
    pub detached: bool,
    /// Where it waits for `start`; none: it does not wait.
    pub start: Option<Waiting>,
    /// The way of the filter's listener to the parent, if it has one.
    pub listener: Option<Relay>,
    /// Step 4's network, for `run --rootfs`.
    pub network: Option<&'a Network>,
    /// Where the number of the process is told that goes on in another container's pid namespace, if one does.
    pub number: Option<Fd>,
}

/// Whether the parent opens what belongs to the host: only it has the rights to.
pub fn is_handed_in(plan: &Plan) -> bool {
    let own_users = plan.id_maps.as_ref().is_some_and(|maps| maps.is_ours_to_choose());
    own_users || plan.joins_users_as_root() || plan.has_idmapped_mounts()
}

// ANCHOR: run
/// The list of calls. Each line is a lesson.
pub fn run(cell: &mut Cell) -> Result<Infallible> {
    find_group(cell)?;
    let (number, start) = (cell.number.take(), cell.start.take());
    let cell = &*cell;
    let task = &cell.plan.task;
    enter_group(cell)?;
    join_namespaces(cell)?;
    let place = place_of_root(cell)?;
    take_on_root(cell.plan)?;
    terminal::new_session()?;
    set_names(cell.plan)?;
    configure_interfaces(cell)?;
    let terminal = change_root(cell, place, number.is_some())?;
    task.schedule()?;
    if number.is_some() {
        birth::prepare(cell.joined)?;
    }
    close_descriptors(cell, start.as_ref(), [&terminal, &number])?;
    let mut command = at_home(task)?;
    command.go_early()?;
    label::confine(task.apparmor.as_deref())?;
    let confinement = task.confinement();
    confinement.drop_privileges()?;
    command.look_for_program()?;
    let born = number.map(|number| be_born(&confinement, number, terminal.as_ref())).transpose()?;
    cell.handed_on.announce_to(&mut command)?;
    live_on(cell)?;
    let state = created(cell); // before the filter, which need not allow getpid
    if task.filters_last() {
        wait_for_start(cell, start, &command, &state)?;
        cell.handed_on.leave_open()?;
        get_ready(&mut command, cell.plan)?;
        confinement.apply_filter()?;
    } else {
        // Before the filter, which need not allow it; but programs of startContainer get none of them.
        let hands_on_early = cell.hooks.start_container.is_empty();
        if hands_on_early {
            cell.handed_on.leave_open()?;
        }
        get_ready(&mut command, cell.plan)?;
        let listener = born.map_or_else(|| confinement.filter_early(), |born| Ok(born.listener))?;
        Relay::hand_over(cell.listener.as_ref(), confinement.apply_filter()?.or(listener))?;
        wait_for_start(cell, start, &command, &state)?;
        if !hands_on_early {
            cell.handed_on.leave_open()?;
        }
    }
    become_command(cell, command)
}
// ANCHOR_END: run

/// Where systemd has moved us while we waited, if it was to make the group.
fn find_group(cell: &mut Cell) -> Result<()> {
    if let Some(scope) = cell.scope {
        cell.group = Some(scope.group_of("self")?);
        cell.plan.show_group(cell.group.as_ref())?;
    }
    Ok(())
}

/// Joins the trees of v1, and sets how early the kernel kills this process when memory is short: while /proc is still the host's.
fn enter_group(cell: &Cell) -> Result<()> {
    if let Some(group) = &cell.group {
        group.join()?;
    }
    schedule::reset_processors();
    write_oom_score(&cell.plan.task)?;
    if cell.plan.new.contains(CloneFlags::CLONE_NEWCGROUP) {
        purpose("a view in which this group is the topmost");
        clone::unshare_cgroup()?;
    }
    Ok(())
}

/// Writes how early the kernel kills this process when memory is short (man 5 proc_pid_oom_score_adj).
pub fn write_oom_score(task: &Task) -> Result<()> {
    let Some(value) = task.oom_score_adj else { return Ok(()) };
    purpose("how early the kernel kills this process when the whole machine is out of memory");
    clone::write_file("/proc/self/oom_score_adj", &value.to_string())
        .map_err(|failure| failure.hint("to lower it takes CAP_SYS_RESOURCE"))
        .context("process.oomScoreAdj")
}

/// All but those that this process was born into.
fn join_namespaces(cell: &Cell) -> Result<()> {
    let at_birth = CloneFlags::CLONE_NEWPID | cell.joined_at_birth;
    for (namespace, kind) in cell.joined.iter().filter(|(_, kind)| !at_birth.contains(*kind)) {
        purpose("a namespace that is there already");
        namespace::join(namespace, *kind).context("linux.namespaces: cannot join a namespace")?;
    }
    Ok(())
}

fn take_on_root(plan: &Plan) -> Result<()> {
    if plan.id_maps.is_some() || plan.joined_users().is_some() {
        purpose("root of this user namespace: until now no user of it");
        plan.task.take_on_root()?;
    } else {
        namespaces::die_with_parent()?;
    }
    purpose("no other process may look into this one while it holds what is the runtime's (CVE-2016-9962)");
    Ok(privilege::not_dumpable()?)
}

fn set_names(plan: &Plan) -> Result<()> {
    purpose("names of its own");
    if let Some(name) = &plan.hostname {
        clone::sethostname(name).context("hostname")?;
    }
    if let Some(name) = &plan.domainname {
        namespace::set_domain_name(name).context("domainname")?;
    }
    Ok(())
}

/// Where createContainer hooks will see the new root. Root of a user namespace may not reach it: so the caller's user opens it.
/// That user may not reach it either, in another user's closed directory: then the hooks run, and see no mounts.
fn place_of_root(cell: &Cell) -> Result<Option<Vec<Fd>>> {
    if cell.hooks.create_container.is_empty() {
        return Ok(None);
    }
    let has_users = cell.plan.id_maps.is_some() || cell.plan.joined_users().is_some();
    let is_closed = |error: &anyhow::Error| {
        error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::PermissionDenied)
    };
    match open_place(&cell.plan.rootfs) {
        Err(error) if has_users && is_closed(&error) => Ok(None),
        opened => opened.map(Some).context("hooks.createContainer: they cannot be shown the mounts"),
    }
}

/// Mounts, terminal, settings of the kernel, and the exchange of the roots. Returns the terminal of a process that will be born
/// later. All descriptors of the new root are closed with it.
fn change_root(cell: &Cell, place: Option<Vec<Fd>>, is_born_later: bool) -> Result<Option<Fd>> {
    let root = prepare_root(cell, place, is_born_later)?;
    let terminal = take_terminal(cell, &root, is_born_later)?;
    set_sysctls(cell.plan)?;
    make_workdir(&root, &cell.plan.task)?;
    root.finish()?;
    Ok(terminal)
}

/// All that is mounted; and the createContainer hooks, which need the new mounts and the host's files.
fn prepare_root<'a>(cell: &'a Cell, place: Option<Vec<Fd>>, is_outside: bool) -> Result<PreparedRoot<'a>> {
    let plan = &*cell.plan;
    purpose("what is mounted in here does not appear on the host");
    match plan.root.propagation {
        // What is shared with the host must stay so, for mounts that ask for it; all others become slaves one by one.
        Some((Propagation::Shared, _)) => {}
        _ => mount::propagate("/", Depth::Recursive, Propagation::Slave)?,
    }
    let (root, trees) = match is_handed_in(plan) {
        true => cell.channel.receive_many()?,
        false => open_sources(plan)?,
    };
    let nodes = cell.nodes.as_ref().map(Fd::duplicate).transpose()?;
    let mut root = plan.root.prepare(root, trees, nodes)?;
    root.part_from_host()?;
    let _links = is_outside.then(HeldLinks::hold).transpose()?; // the new /proc does not show this process
    let state = State { pid: Some(std::process::id() as i32), ..cell.state.clone() };
    let Some(place) = place else {
        hooks::run("createContainer", &cell.hooks.create_container, &state)?; // none, or they cannot be shown the mounts
        root.pivot()?;
        root.attach_mounts()?;
        return Ok(root);
    };
    root.show_at(&place).context("hooks.createContainer: they cannot be shown the mounts")?;
    root.attach_mounts()?;
    hooks::run("createContainer", &cell.hooks.create_container, &state)?;
    root.pivot()?;
    Ok(root)
}

fn open_sources(plan: &Plan) -> Result<(Fd, Trees)> {
    purpose("what belongs to the host, each as a mount of its own");
    let root = sources::open(&plan.rootfs, Depth::Recursive, "root")?;
    let binds = plan.root.binds().map(|(path, depth, _)| sources::open(path, depth, "bind"));
    Ok((root, Trees::keep(binds)?))
}

/// By a /proc that nobody else has ever seen: the container's could be another file system in disguise (CVE-2025-52881).
fn set_sysctls(plan: &Plan) -> Result<()> {
    if plan.sysctl.is_empty() {
        return Ok(());
    }
    purpose("settings of the kernel, in namespaces of its own; by a /proc of ours");
    let proc = mount::fsmount(&mount::fsopen(c"proc", "new")?, mount::Attributes::default(), "own /proc")?;
    for (name, value) in &plan.sysctl {
        let file = format!("sys/{}", sysctl::file(name));
        mount::write_below(&proc, Path::new(&file), value).with_context(|| format!("linux.sysctl: {name}"))?;
    }
    Ok(())
}

/// What is there of a network is switched on, while /proc is still the host's: step 4 makes settings by it.
fn configure_interfaces(cell: &Cell) -> Result<()> {
    if let Some(network) = cell.network {
        return network.configure_interfaces();
    }
    if !cell.plan.new.contains(CloneFlags::CLONE_NEWNET) {
        return Ok(());
    }
    purpose("the loopback: it is there from the start, but switched off");
    Ok(network::link::set_up(&netlink::Netlink::route()?, "lo")?)
}

/// The working directory, if the root filesystem has none.
fn make_workdir(root: &PreparedRoot, task: &Task) -> Result<()> {
    let workdir = &task.command.workdir;
    match Place::configured(workdir) {
        Ok(place) => place.open(root.root(), true).map(drop).context("process.cwd"),
        Err(_) => Ok(()), // the root itself, or in /proc: whether that works chdir will tell
    }
}

// ANCHOR: close
/// From here on paths of the container's are resolved: nothing of the host's may be open, but what the caller hands on.
fn close_descriptors(cell: &Cell, start: Option<&Waiting>, others: [&Option<Fd>; 2]) -> Result<()> {
    let listener = cell.listener.as_ref().map(Relay::inside);
    let start = start.into_iter().flat_map(Waiting::descriptors);
    let needed: Vec<&Fd> = start.chain(listener).chain(others.into_iter().flatten()).collect();
    namespaces::close_all_but(&needed, cell.handed_on.end())
}
// ANCHOR_END: close

/// The container's terminal becomes this session's. A process that will be born later takes it in its own session: then it is
/// returned.
fn take_terminal(cell: &Cell, root: &PreparedRoot, later: bool) -> Result<Option<Fd>> {
    let (Some(size), Some(master_socket)) = (cell.plan.task.terminal, &cell.master_socket) else { return Ok(None) };
    let console = root.console()?;
    let terminal = crate::terminal::open(root.root(), master_socket, size, console.as_ref())?;
    if later {
        return Ok(Some(terminal));
    }
    crate::terminal::attach(&terminal)?;
    Ok(None)
}

/// A process that goes on in another container's pid namespace, and its filter's listener, if that has one.
struct Born {
    listener: Option<Fd>,
}

/// The process that goes on is under the filter already, if the filter takes a right: no process is born there with that right.
fn be_born(confinement: &Confinement, number: Fd, terminal: Option<&Fd>) -> Result<Born> {
    let listener = confinement.filter_early()?;
    sibling::be_born(&number)?;
    drop(number); // the parent reads to its end
    crate::terminal::begin_session(terminal)?;
    Ok(Born { listener })
}

/// The command, with a home: many programs cannot do without.
pub fn at_home(task: &Task) -> Result<UserCommand> {
    UserCommand::new(&task.command, privileges::home_of(task.user.uid).as_deref())
}

/// Lets this process live on when its parent ends, if it is to.
fn live_on(cell: &Cell) -> Result<()> {
    if cell.detached {
        purpose("all is made: our parent may go, we stay");
        namespace::outlive_parent()?;
    }
    Ok(())
}

/// What programs of startContainer are told of the container.
fn created(cell: &Cell) -> State {
    State { status: Status::Created, pid: Some(std::process::id() as i32), ..cell.state.clone() }
}

/// Waits for `start`, if it is to; then come the caller's programs that run inside. The report is closed before the filter, which
/// need not allow to write.
fn wait_for_start(cell: &Cell, start: Option<Waiting>, command: &UserCommand, state: &State) -> Result<()> {
    let waits = start.is_some();
    start.map_or(Ok(()), Waiting::wait)?;
    hooks::run_inside(&cell.hooks.start_container, command.environment(), state)?;
    if waits {
        namespaces::sign_report();
    }
    Ok(())
}

/// What comes before the filter, which need not allow it. A small init still needs its signals.
fn get_ready(command: &mut UserCommand, plan: &Plan) -> Result<()> {
    if plan.small_init { Ok(()) } else { command.reset_signals() }
}

fn become_command(cell: &Cell, mut command: UserCommand) -> Result<Infallible> {
    if !cell.plan.small_init {
        return command.exec();
    }
    namespaces::become_init(|| {
        cell.handed_on.announce_to(&mut command)?; // another process, with another number
        command.exec()
    })
}
