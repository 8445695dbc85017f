//! Step 2, blindfolds: namespaces.
//!
//! The kernel keeps some of its tables in copies: which processes there are (pid), what this machine is called (uts), which shared
//! memory and queues there are (ipc), what is mounted where (mount). A namespace is one such copy. A process in a
//! new one cannot name what is in another, so it cannot touch it either.
//!
//! What order matters:
//!
//! 1. [`spawn`]: the child is born into its namespaces (clone3), because no process can move into a pid namespace later.
//!    It waits at a gate until its parent has done what only the parent can do.
//! 2. [`make_mounts_private`]: a new mount namespace is a copy that still passes mounts on, until told not to.
//! 3. [`NamespaceOptions::become_command`]: the first process of a pid namespace is its PID 1, with duties that few programs know of;
//!    with `--init`, [`init`] takes them.
//!
//! Clocks of its own (`clocks.rs`) are no wall, and few cells want them.

use std::convert::Infallible;

use anyhow::{Context, Result};
use kernel::sys::clone::{self, CloneFlags};
use kernel::{Failure, purpose, sys};

mod clocks;
mod init;
mod report;
mod sealed;
mod spawn;
mod wait;

pub use init::run as become_init;
pub use report::{close_all_but, finish as finish_report, open as report_to, read_signed, sign as sign_report};
pub use sealed::go_on_sealed;
pub use spawn::{Child, die_with_parent, spawn, spawn_into, wait_at};

/// What the cell sees of the machine.
#[derive(clap::Args, Debug)]
pub struct NamespaceOptions {
    /// The cell's hostname [default: the host's]
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,

    /// Run a small init as PID 1, which reaps orphans and forwards signals; the command is its child
    #[arg(long)]
    pub init: bool,

    /// A cgroup namespace of its own: /proc/self/cgroup begins at the cell's own group
    #[arg(long)]
    cgroupns: bool,

    /// A time namespace of its own, with the time since boot moved by SECONDS
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub boottime: Option<i64>,

    /// A time namespace of its own, with the monotonic clock moved by SECONDS
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub monotonic: Option<i64>,
}

impl NamespaceOptions {
    /// Refuses what the kernel would refuse later, before anything is made.
    ///
    /// # Errors
    /// A hostname that is empty or longer than 64 bytes (man 2 sethostname), or has a control character in it.
    pub fn check(&self) -> Result<()> {
        match &self.hostname {
            Some(name) if name.is_empty() || name.len() > 64 => {
                let text = format!("the hostname {name:?} has {} bytes", name.len());
                Err(Failure::new(text).hint("--hostname takes 1 to 64 bytes").into())
            }
            // A line break in it would be a line of its own in /etc/hosts.
            Some(name) if name.contains(char::is_control) => {
                let text = format!("the hostname {name:?} has a control character in it");
                Err(Failure::new(text).hint("for example --hostname cell").into())
            }
            _ => Ok(()),
        }
    }

    // ANCHOR: flags
    /// The namespaces that the child is born into.
    pub fn flags(&self) -> CloneFlags {
        let mut flags =
            CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWNS;
        flags.set(CloneFlags::CLONE_NEWCGROUP, self.cgroupns);
        flags
    }
    // ANCHOR_END: flags

    /// The cell's name: its own, or the host's.
    pub fn hostname(&self) -> Result<String> {
        match &self.hostname {
            Some(name) => Ok(name.clone()),
            None => Ok(clone::gethostname()?),
        }
    }

    /// Gives the cell its own name, if one was asked for (man 7 uts_namespaces).
    ///
    /// # Shell: `hostname NAME`
    pub fn set_hostname(&self) -> Result<()> {
        let Some(name) = &self.hostname else { return Ok(()) };
        purpose("a name of its own; the host keeps its name");
        clone::sethostname(name).with_context(|| format!("cannot name the cell {name}"))
    }

    /// With `--init`, goes on as a sealed copy of the launcher: PID 1 stays in the cell, and /proc/1/exe leads to the file
    /// that it runs.
    ///
    /// # Errors
    /// There is no /proc; no memory for the copy.
    pub fn seal_init(&self) -> Result<()> {
        if self.init { go_on_sealed() } else { Ok(()) }
    }

    // ANCHOR: become_command
    /// Becomes the command: as PID 1, or with `--init` as the child of a small PID 1.
    pub fn become_command(&self, exec: impl FnOnce() -> Result<Infallible>) -> Result<Infallible> {
        if self.init { init::run(exec) } else { exec() }
    }
    // ANCHOR_END: become_command
}

/// Closes all that the launcher has open, but the standard three and the report: see [`close_all_but`].
pub fn close_descriptors() -> Result<()> {
    close_all_but(&[], 3)
}

// ANCHOR: private
/// Makes every mount private, so that none leaks out of the cell, and none in (man 7 mount_namespaces).
///
/// A copy of the mount table is made with the copies as *peers* of the originals where these are shared, as systemd
/// makes them all: a mount below one then appears below the other. Forgetting this line is the commonest mistake of all.
///
/// # Shell: `mount --make-rprivate /`
pub fn make_mounts_private() -> Result<()> {
    purpose("no mount made in here may appear on the host");
    sys::mount::make_mounts_private().context("cannot make the mounts private")
}
// ANCHOR_END: private
