//! Whether a container's first process lives. Its number is not its own for ever: in another pid namespace, or after the machine was
//! started anew, it is another's; and what is not seen need not be gone.

use anyhow::Result;
use kernel::identity::{boot_id, namespace_here, proc_is_ours};
use kernel::sys::clone::{self, Process};
use kernel::{Errno, Failure};
use serde::{Deserialize, Serialize};

/// From where a process was given its number and the time at which it began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vantage {
    /// The start of the machine.
    boot: String,
    /// The inode of the pid namespace that the number is one of.
    pid_namespace: u64,
    /// The inode of the time namespace whose clock says when it began; none on a kernel without.
    time_namespace: Option<u64>,
}

impl Vantage {
    /// Ours.
    ///
    /// # Errors
    /// There is no /proc, or that of another pid namespace.
    pub fn here() -> Result<Vantage, Failure> {
        let not_seen = || {
            Failure::new("/proc does not show this process's own pid namespace")
                .hint("mount -t proc proc /proc, in a mount namespace of its own")
        };
        let (boot, pid) = (boot_id(), namespace_here("pid"));
        let (Ok(boot), Ok(pid_namespace), true) = (boot, pid, proc_is_ours()) else { return Err(not_seen()) };
        Ok(Vantage { boot, pid_namespace, time_namespace: namespace_here("time").ok() })
    }
}

/// What can be said of a process.
#[derive(Debug)]
pub enum Sight {
    /// It lives, and is held.
    Lives(Process),
    /// It has ended.
    HasEnded,
    /// It cannot be seen from here.
    Unseen(Failure),
}

/// Looks for a process that began at a time, as it was seen from a vantage point; none in records of version 0.7.0, where both
/// are taken for what they are here.
pub fn look(pid: i32, begun: u64, then: Option<&Vantage>) -> Sight {
    let here = match Vantage::here() {
        Ok(here) => here,
        Err(failure) => return Sight::Unseen(failure),
    };
    let then = then.unwrap_or(&here);
    if then.boot != here.boot {
        return Sight::HasEnded;
    }
    if then.pid_namespace != here.pid_namespace {
        let text = format!("its first process has its number in another pid namespace, pid:[{}]", then.pid_namespace);
        let hint = "lsns --type pid shows a process in it: nsenter --pid --mount --target PID";
        return Sight::Unseen(Failure::new(text).hint(hint));
    }
    let process = match Process::open(pid, "process") {
        Err(failure) if has_no_process(failure.errno()) => return Sight::HasEnded,
        Err(failure) => return Sight::Unseen(failure),
        Ok(process) => process,
    };
    // The number may be another's by now: looked at after it is held, it is the one that we hold.
    let now = clone::stat(pid).and_then(|line| begin_in(&line));
    match (process.wait_for_end(0), now) {
        (Ok(true), _) => Sight::HasEnded,
        (_, Some(now)) if now == begun => Sight::Lives(process),
        (_, Some(_)) if then.time_namespace == here.time_namespace => Sight::HasEnded,
        (_, Some(_)) => Sight::Unseen(Failure::new("its first process began by the clock of another time namespace")),
        (_, None) => {
            Sight::Unseen(Failure::new("/proc hides its first process").hint("mount -o remount,hidepid=0 /proc"))
        }
    }
}

/// No process is there, or a thread that is not the first of its process (EINVAL; ENOENT since Linux 6.9).
fn has_no_process(errno: Option<Errno>) -> bool {
    matches!(errno, Some(Errno::ESRCH | Errno::EINVAL | Errno::ENOENT))
}

/// When a process began, in its line of /proc/PID/stat (man 5 proc).
fn begin_in(line: &str) -> Option<u64> {
    line.split_whitespace().nth(19)?.parse().ok()
}

/// The failure where the first process has ended before its command began.
pub fn was_killed() -> Failure {
    Failure::new("the container's first process was killed").hint("too little memory? --memory")
}
