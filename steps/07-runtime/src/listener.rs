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

/// Hands the filter's descriptor over.
pub fn hand_over(connection: Option<Fd>, listener: Option<Fd>, state: &State) -> Result<()> {
    match (connection, listener) {
        (None, None) => Ok(()),
        (Some(connection), Some(listener)) => {
            let (pid, metadata) = (std::process::id() as i32, "");
            let told = ContainerProcessState { oci_version: spec::NEWEST, fds: ["seccompFd"], pid, metadata, state };
            socket::send_fd(&connection, &serde_json::to_vec(&told)?, &listener)?;
            Ok(())
        }
        _ => Err(Failure::new("linux.seccomp: a listener without a socket to send it to").into()),
    }
}
