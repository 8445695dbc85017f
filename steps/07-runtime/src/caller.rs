//! What a caller is handed: which process was born.

use std::path::Path;

use anyhow::{Context, Result};
use kernel::Fd;
use kernel::sys::socket;
use namespaces::Child;

use crate::store::write_whole;

/// As a whole, as the caller may look for it at any moment.
pub fn write_pid_file(file: Option<&Path>, pid: i32) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    write_whole(file, pid.to_string().as_bytes(), 0o644).context("the pid file")
}

/// Connects to the caller's socket: before anything is made.
pub fn connect_pidfd_socket(path: &Path) -> Result<Fd> {
    socket::connect_path(path).with_context(|| format!("--pidfd-socket {}: nobody takes it there", path.display()))
}

/// Hands out what a signal can be sent by, and the end be waited for, without a number that another may have by then.
pub fn send_pidfd(socket: &Fd, child: &Child) -> Result<()> {
    Ok(socket::send_fd(socket, b"pidfd", child.watch().0.descriptor())?)
}
