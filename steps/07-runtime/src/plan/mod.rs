//! From the configuration to what the lessons take: every word of it is turned into one of their plans before anything is
//! made, so that a mistake is told while nothing has to be undone.

use std::path::{Path, PathBuf};

use crate::groups::Cgroup;
use crate::mounts::{CHARACTER_DEVICE, DeviceNode, MountSource, RootPlan};
use crate::sys::namespace;
use anyhow::{Context, Result};
use kernel::sys::clone::CloneFlags;
use kernel::sys::mount::{self, Depth};
use kernel::sys::privilege;
use kernel::{Errno, Failure, Fd, Remedy};
use pivot_root::Place;
use privileges::{IdMaps, Range};

use crate::spec::{self, DeviceKind, IdMapping, Linux, NamespaceKind, Spec};

mod cgroup_view;
pub mod command;
pub mod mounts;
mod task;

pub use task::{Affinity, KEEPS_GROUPS, MEMORY_FLAGS, MEMORY_MODES, Task};

/// An annotation for what the configuration has no word for: the root filesystem is shown with the container's owners, as
/// `idmap` does it for a mount. For `true` only.
pub const IDMAPPED_ROOT: &str = "cellblock.root.idmap";

/// Another: a small init is the first process, and the command its child (step 2's `--init`).
pub const SMALL_INIT: &str = "cellblock.init";

/// All that a container will be.
#[derive(Debug)]
pub struct Plan {
    /// Namespaces that it is born into.
    pub new: CloneFlags,
    /// Namespaces that are there already, and joined.
    pub joined: Vec<(CloneFlags, PathBuf)>,
    /// Who is who, in a new user namespace.
    pub id_maps: Option<IdMaps>,
    /// Its root filesystem, as the host sees it.
    pub rootfs: PathBuf,
    /// All that is mounted in it.
    pub root: RootPlan,
    /// Its name.
    pub hostname: Option<String>,
    /// Its NIS domain.
    pub domainname: Option<String>,
    /// Settings of the kernel, in its own namespaces: name and value.
    pub sysctl: Vec<(String, String)>,
    /// Devices of the host's network that move in: their names there, and in here.
    pub net_devices: Vec<(String, String)>,
    /// Clocks of a new time namespace, as /proc/PID/timens_offsets takes them.
    pub clocks: Vec<String>,
    /// What runs in it.
    pub task: Task,
    /// Whether the command is the child of a small init.
    pub small_init: bool,
    /// Whether root plans it: then what belongs to the host is opened outside of a joined user namespace, in which root has no
    /// rights on it. An ordinary user has rights to mount only inside.
    by_root: bool,
    /// Whether the root filesystem is shown with the container's owners.
    idmapped_root: bool,
}

impl Plan {
    /// Plans a container.
    ///
    /// # Errors
    /// What cannot be done, with the place in the configuration.
    pub fn new(spec: &Spec, bundle: &Path) -> Result<Plan> {
        let nothing = Linux::default();
        let linux = spec.linux.as_ref().unwrap_or(&nothing);
        let (new, joined) = namespaces(linux);
        if !new.contains(CloneFlags::CLONE_NEWNS) && !joined.iter().any(|(kind, _)| *kind == CloneFlags::CLONE_NEWNS) {
            let text =
                "linux.namespaces: a container without a mount namespace of its own could change the host's mounts";
            return Err(Failure::new(text).hint("add {\"type\": \"mount\"}").into());
        }
        let root = spec.root.as_ref().context("config.json: root: missing")?;
        let id_maps = new.contains(CloneFlags::CLONE_NEWUSER).then(|| id_maps(linux));
        let process = spec.process.as_ref().context("config.json: process: missing")?;
        Ok(Plan {
            root: plan_root(spec, linux, bundle, linux.namespace(NamespaceKind::User).is_some())?,
            rootfs: bundle.join(&root.path),
            hostname: spec.hostname.clone(),
            domainname: spec.domainname.clone(),
            sysctl: linux.sysctl.clone().into_iter().collect(),
            clocks: linux.time_offsets.iter().map(|(clock, offset)| clock_line(clock, offset)).collect(),
            task: Task::new("config.json: process", process, spec)?,
            net_devices: linux.net_devices.iter().map(|(name, device)| net_device(name, device)).collect(),
            small_init: has_small_init(spec),
            by_root: privilege::user() == 0,
            idmapped_root: is_root_idmapped(spec, id_maps.is_some())?,
            new,
            joined,
            id_maps,
        })
    }

    /// The user namespace that it joins, if it does: the new ones are to belong to that.
    pub fn joined_users(&self) -> Option<&Path> {
        self.joined.iter().find(|(kind, _)| *kind == CloneFlags::CLONE_NEWUSER).map(|(_, path)| path.as_path())
    }

    /// Shows another pid namespace than this process's in every new /proc of the container: the one in which its command will be.
    pub fn show_pid_namespace(&mut self, namespace: &Fd) {
        for mount in &mut self.root.mounts {
            if let MountSource::New { kind, options } = &mut mount.source
                && kind == "proc"
            {
                options.push(format!("pidns={}", namespace::for_proc(namespace)));
            }
        }
    }

    /// Whether it joins a user namespace in which nothing of the host's can be opened that is needed.
    pub fn joins_users_as_root(&self) -> bool {
        self.by_root && self.joined_users().is_some()
    }

    /// The group is made: what of it is seen in the container is known now.
    ///
    /// # Errors
    /// There is no /proc to read from which trees there are.
    pub fn show_group(&mut self, group: Option<&Cgroup>) -> Result<()> {
        let own_namespace = self.new.contains(CloneFlags::CLONE_NEWCGROUP);
        cgroup_view::expand(&mut self.root, group, own_namespace)
    }

    /// Whether there are mounts that only who is root on the host can make.
    pub fn has_idmapped_mounts(&self) -> bool {
        self.idmapped_root || self.root.binds().any(|(_, _, owners)| owners.is_some())
    }

    /// Shows other owners in the root filesystem, if that is asked for. The child's user namespace must have its tables.
    pub fn show_root_with_other_owners(&self, root: &Fd, child: i32) -> Result<()> {
        if !self.idmapped_root {
            return Ok(());
        }
        mount::map_ids(root, Depth::Recursive, &privilege::user_namespace_of(child)?)
            .hint_on(Errno::EINVAL, "its file system cannot: --userns host, or chown its files to the container's ids")
            .context("cannot show other owners in the root filesystem")
    }
}

/// Whether PID 1 is a small init, which does not execute the command.
pub fn has_small_init(spec: &Spec) -> bool {
    is_noted(spec, SMALL_INIT)
}

fn is_noted(spec: &Spec, key: &str) -> bool {
    spec.annotations.get(key).is_some_and(|value| value == "true")
}

fn is_root_idmapped(spec: &Spec, has_own_users: bool) -> Result<bool> {
    let noted = is_noted(spec, IDMAPPED_ROOT);
    if noted && !has_own_users {
        let text = format!(
            "config.json: annotations[{IDMAPPED_ROOT:?}]: there is no new user namespace to have other owners in"
        );
        return Err(Failure::new(text).hint("add {\"type\": \"user\"} to linux.namespaces").into());
    }
    Ok(noted)
}

/// The flag of a kind of namespace.
pub fn flag(kind: NamespaceKind) -> CloneFlags {
    match kind {
        NamespaceKind::Cgroup => CloneFlags::CLONE_NEWCGROUP,
        NamespaceKind::Ipc => CloneFlags::CLONE_NEWIPC,
        NamespaceKind::Mount => CloneFlags::CLONE_NEWNS,
        NamespaceKind::Network => CloneFlags::CLONE_NEWNET,
        NamespaceKind::Pid => CloneFlags::CLONE_NEWPID,
        NamespaceKind::Time => CloneFlags::from_bits_retain(crate::sys::namespace::NEWTIME),
        NamespaceKind::User => CloneFlags::CLONE_NEWUSER,
        NamespaceKind::Uts => CloneFlags::CLONE_NEWUTS,
    }
}

/// The new ones, and those that are joined: the user namespace first, for it says what we may do to the others.
fn namespaces(linux: &Linux) -> (CloneFlags, Vec<(CloneFlags, PathBuf)>) {
    let (mut new, mut joined) = (CloneFlags::empty(), Vec::new());
    for namespace in &linux.namespaces {
        match &namespace.path {
            None => new |= flag(namespace.kind),
            Some(path) => joined.push((flag(namespace.kind), PathBuf::from(path))),
        }
    }
    joined.sort_by_key(|(kind, _)| *kind != CloneFlags::CLONE_NEWUSER);
    (new, joined)
}

pub(crate) fn ranges(mappings: &[IdMapping]) -> Vec<Range> {
    let range = |map: &IdMapping| Range { inside: map.container_id, outside: map.host_id, count: map.size };
    mappings.iter().map(range).collect()
}

fn id_maps(linux: &Linux) -> IdMaps {
    IdMaps::of(ranges(&linux.uid_mappings), ranges(&linux.gid_mappings))
}

fn net_device(name: &str, asked: &spec::NetDevice) -> (String, String) {
    let inside = asked.name.as_ref().filter(|name| !name.is_empty());
    (name.to_owned(), inside.cloned().unwrap_or_else(|| name.to_owned()))
}

fn clock_line(clock: &str, offset: &spec::TimeOffset) -> String {
    format!("{clock} {} {}", offset.secs.unwrap_or(0), offset.nanosecs.unwrap_or(0))
}

fn plan_root(spec: &Spec, linux: &Linux, bundle: &Path, bind_devices: bool) -> Result<RootPlan> {
    let mut devices = DeviceNode::standard();
    for asked in &linux.devices {
        let device = device(asked)?;
        devices.retain(|other| other.place != device.place);
        devices.push(device);
    }
    let propagation = linux.rootfs_propagation.as_deref().map(|word| {
        mounts::propagation(word)
            .with_context(|| format!("config.json: linux.rootfsPropagation: unknown word {word:?}"))
    });
    let inside = |path: &String| path.trim_start_matches('/').to_owned();
    let all = spec.mounts.iter().enumerate();
    Ok(RootPlan {
        mounts: all
            .map(|(index, mount)| mounts::plan(mount, bundle).with_context(|| format!("config.json: mounts[{index}]")))
            .collect::<Result<_>>()?,
        devices,
        links: Vec::new(),
        bind_devices,
        masked: linux.masked_paths.iter().map(inside).collect(),
        read_only_paths: linux.readonly_paths.iter().map(inside).collect(),
        read_only: spec.root.as_ref().is_some_and(|root| root.readonly),
        propagation: propagation.transpose()?,
    })
}

fn device(asked: &spec::Device) -> Result<DeviceNode> {
    const BLOCK: u32 = 0o060_000;
    const FIFO: u32 = 0o010_000;
    let kind = match asked.kind {
        DeviceKind::Char => CHARACTER_DEVICE,
        DeviceKind::Block => BLOCK,
        DeviceKind::Fifo => FIFO,
    };
    Ok(DeviceNode {
        place: Place::configured(Path::new(&asked.path))?,
        kind,
        numbers: (asked.major.unwrap_or(0) as u64, asked.minor.unwrap_or(0) as u64),
        mode: asked.file_mode.unwrap_or(0o666) & 0o7777,
        owner: (asked.uid.unwrap_or(0), asked.gid.unwrap_or(0)),
    })
}
