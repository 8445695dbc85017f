//! Readiness: a service tells its manager that it is up, by a datagram to the socket in $NOTIFY_SOCKET (man 3 sd_notify).
//!
//! The manager's own socket is not shown to the container: a process that can write to it can say anything about the unit. It gets
//! one of ours, and of all that comes there only "ready" goes on, with the number of the container's first process.

use std::fs::{self, Permissions};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use kernel::sys::{mount, socket};
use kernel::{Fd, purpose};

use crate::plan::{Plan, command, mounts};
use crate::spec;

/// The variable by which a manager says where it listens.
const VARIABLE: &str = "NOTIFY_SOCKET";
/// Our directory, beside the container's state; and where it is seen in the container.
pub(crate) const DIRECTORY: &str = "notify";
const INSIDE: &str = "/run/notify";
pub(crate) const SOCKET: &str = "socket";

/// A process waits for the container to be ready.
#[derive(Debug)]
pub struct Notify {
    socket: Fd,
    manager: String,
}

fn manager() -> Option<String> {
    std::env::var(VARIABLE).ok().filter(|name| name.starts_with(['/', '@']))
}

/// Shows the container where it can say that it is ready, if anybody waits for that. `place` is its directory.
pub fn show(plan: &mut Plan, place: &Path) -> Result<()> {
    if manager().is_none() {
        return Ok(());
    }
    let directory = place.join(DIRECTORY);
    // Whatever the caller's umask is: the container's processes go in, of whichever user. On the host they are in the way of
    // no other user, for nobody else gets past the directory above.
    fs::create_dir(&directory)
        .and_then(|()| fs::set_permissions(&directory, Permissions::from_mode(0o755)))
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let asked = spec::Mount::new(INSIDE, "bind", &directory.display().to_string(), "bind ro nosuid nodev noexec");
    plan.root.mounts.push(mounts::plan(&asked, place)?);
    command::add_variable(&mut plan.task.command.environment, VARIABLE, &format!("{INSIDE}/{SOCKET}"))?;
    Ok(())
}

/// Listens, before the command runs. None if nobody waits, or nobody did when the container was made.
pub fn listen(place: &Path) -> Result<Option<Notify>> {
    let directory = place.join(DIRECTORY);
    let Some(manager) = manager().filter(|_| directory.is_dir()) else { return Ok(None) };
    purpose("a socket at which the container can say that it is ready");
    let _ = fs::remove_file(directory.join(SOCKET)); // of one who was killed while it listened
    let socket =
        socket::bind_for_datagrams(&mount::open_path(&directory, "notify directory")?, SOCKET, 0o777, "notify")?;
    Ok(Some(Notify { socket, manager }))
}

impl Notify {
    /// Waits until the container is ready and says so to the manager; or until one of `others` has something to say.
    pub fn pass_on(self, pid: i32, others: &[BorrowedFd]) -> Result<()> {
        while let Some(message) = socket::receive_unless(&self.socket, others)? {
            if message.split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
                purpose("the container is ready: tell who waits for that");
                return Ok(socket::send_datagram(&self.manager, format!("MAINPID={pid}\nREADY=1\n").as_bytes())?);
            }
        }
        Ok(())
    }
}
