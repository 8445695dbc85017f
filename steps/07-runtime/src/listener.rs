//! Calls that the filter leaves to another process (SECCOMP_RET_USER_NOTIF): it is handed a descriptor, with a word on whose
//! calls come out of it (config-linux.md, "The Container Process State").

use anyhow::{Context, Result};
use kernel::sys::socket;
use kernel::{Failure, Fd};
use serde::Serialize;

use crate::plan::Task;
use crate::spec::{self, State};

/// A connection to whoever listens, made while the host's files can still be reached.
pub fn prepare(task: &Task) -> Result<Option<Fd>> {
    let Some(path) = task.listener() else { return Ok(None) };
    let connected = socket::connect_path(path);
    connected.map(Some).with_context(|| format!("linux.seccomp.listenerPath: cannot connect to {}", path.display()))
}

/// What the other end reads beside the descriptor.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ContainerProcessState<'a> {
    oci_version: &'static str,
    fds: [&'static str; 1],
    pid: i32,
    metadata: &'a str,
    state: &'a State,
}

/// How the listener of a process that `exec` adds gets out: the parent holds the connection, made where the path is the
/// host's. The child is in the container already, where a socket at the same path could be anything: it sends what it has to
/// its parent.
#[derive(Debug)]
pub struct Relay {
    outside: Fd,
    inside: Fd,
    connection: Fd,
}

impl Relay {
    /// Connects to the listening socket, in the host's mounts. None if the filter leaves no call to another process.
    pub fn connect(task: &Task) -> Result<Option<Relay>> {
        let Some(connection) = prepare(task)? else { return Ok(None) };
        let (outside, inside) = socket::pair("listener channel", "listener channel")?;
        Ok(Some(Relay { outside, inside, connection }))
    }

    /// The child's end.
    pub fn inside(&self) -> &Fd {
        &self.inside
    }

    /// The child's part: sends the listener to the parent.
    pub fn hand_over(relay: Option<&Relay>, listener: Option<Fd>) -> Result<()> {
        match (relay, listener) {
            (None, None) => Ok(()),
            (Some(relay), Some(listener)) => Ok(socket::send_fd(&relay.inside, b"listener", &listener)?),
            _ => Err(Failure::new("linux.seccomp: a listener without a socket to send it to").into()),
        }
    }

    /// The parent's part: takes the listener, and sends it on. A child that has failed sends none, and says why in its report.
    pub fn pass_on(self, pid: i32, state: State) -> Result<()> {
        drop(self.inside); // held here too, its closing in the child would never be seen
        match socket::receive_fd(&self.outside, "listener") {
            Ok(listener) => send(&self.connection, &listener, pid, &state),
            Err(_) => Ok(()),
        }
    }
}

fn send(connection: &Fd, listener: &Fd, pid: i32, state: &State) -> Result<()> {
    let told = ContainerProcessState { oci_version: spec::NEWEST, fds: ["seccompFd"], pid, metadata: "", state };
    Ok(socket::send_fd(connection, &serde_json::to_vec(&told)?, listener)?)
}

/// Hands the filter's descriptor over.
pub fn hand_over(connection: Option<Fd>, listener: Option<Fd>, state: &State) -> Result<()> {
    match (connection, listener) {
        (None, None) => Ok(()),
        (Some(connection), Some(listener)) => send(&connection, &listener, std::process::id() as i32, state),
        _ => Err(Failure::new("linux.seccomp: a listener without a socket to send it to").into()),
    }
}
