//! What a caller is handed: which process was born.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kernel::Fd;
use kernel::sys::socket;
use namespaces::Child;
use nix::fcntl::OFlag;

use crate::handed_on::HandedOn;
use crate::store::write_whole;
use crate::sys::descriptor;

/// Writes the number of a process to a file: as a whole, because the caller may look for it at any moment. A pipe, a device or
/// a descriptor is written to as it is: a new file would take its place, even that of /dev/null.
pub fn write_pid_file(file: Option<&Path>, pid: i32, handed_on: &HandedOn) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    let text = pid.to_string();
    match stream(file, handed_on) {
        None => write_whole(file, text.as_bytes(), 0o644).context("the pid file")?,
        Some((stream, flags)) => {
            let opened = OpenOptions::new().write(true).custom_flags(flags.bits()).open(stream);
            let written = opened.and_then(|mut opened| opened.write_all(text.as_bytes()));
            written.with_context(|| format!("the pid file: cannot write to {}", file.display()))?;
        }
    }
    Ok(handed_on.let_go(file)?)
}

/// What is written to as it is, and how it is opened: without waiting for a process that reads it. A link is followed only where
/// it leads to a descriptor that the caller has opened, as /dev/stdout does: another one may be a stranger's, or the runtime's.
fn stream(file: &Path, handed_on: &HandedOn) -> Option<(PathBuf, OFlag)> {
    let is_descriptor = |path: &Path| {
        descriptor::named_by(path)
            .is_some_and(|(number, below)| below.as_os_str().is_empty() && handed_on.is_callers(number))
    };
    let target = fs::read_link(file).ok();
    if let Some(descriptor) = [Some(file), target.as_deref()].into_iter().flatten().find(|path| is_descriptor(path)) {
        return Some((descriptor.to_owned(), OFlag::O_NONBLOCK | OFlag::O_TRUNC));
    }
    let kind = fs::symlink_metadata(file).ok()?.file_type();
    let is_other = !kind.is_file() && !kind.is_dir() && !kind.is_symlink();
    is_other.then(|| (file.to_owned(), OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW))
}

/// Connects to the caller's socket: before anything is made.
pub fn connect_pidfd_socket(path: &Path) -> Result<Fd> {
    socket::connect_path(path).with_context(|| format!("--pidfd-socket {}: nobody takes it there", path.display()))
}

/// Hands out what a signal can be sent by, and the end be waited for, without a number that another may have by then.
pub fn send_pidfd(socket: &Fd, child: &Child) -> Result<()> {
    Ok(socket::send_fd(socket, b"pidfd", child.watch().0.descriptor())?)
}
