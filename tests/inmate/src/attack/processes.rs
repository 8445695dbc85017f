//! Through what processes share: pids, signals, names, memory.

use kernel::sys::attack;
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::{Pid, getpid, getppid};

use super::Verdict::{self, Escaped, Held, Look};
use crate::sentinel;

/// Sends signal 0, which only asks whether it could be sent, to every pid up to our own.
pub fn host_processes() -> Verdict {
    let answers = |pid: i32| matches!(kill(Pid::from_raw(pid), None), Ok(()) | Err(Errno::EPERM));
    let own = getpid().as_raw();
    match (2..own).chain(own + 1..own + 16).any(answers) {
        true => Escaped("a process answers that is not of this cell".to_owned()),
        false => Held("nobody else answers".to_owned()),
    }
}

/// Attaches to the process that started us, without stopping it, and lets it go.
pub fn ptrace() -> Verdict {
    let parent = getppid();
    if parent.as_raw() <= 1 {
        return Held("no process outside has a pid in here".to_owned());
    }
    match nix::sys::ptrace::seize(parent, nix::sys::ptrace::Options::empty()) {
        Ok(()) => Escaped("attached to the process outside that started us".to_owned()), // our end detaches
        Err(errno) => Held(format!("ptrace => {errno:?}")),
    }
}

/// Renames the machine. Whose name it was can be seen only outside.
pub fn hostname() -> Verdict {
    const NAME: &str = "inmate-was-here";
    static BEFORE: std::sync::OnceLock<std::ffi::OsString> = std::sync::OnceLock::new();
    if let Ok(name) = nix::unistd::gethostname() {
        let _ = BEFORE.set(name);
    }
    match nix::unistd::sethostname(NAME) {
        Ok(()) => Look(format!("renamed to {NAME}: is the host's name that? hostname (Enter undoes it)"), || {
            let _ = BEFORE.get().map(nix::unistd::sethostname);
        }),
        Err(errno) => Held(format!("sethostname => {errno:?}")),
    }
}

/// Looks for a segment of shared memory that was made outside.
pub fn shared_memory() -> Verdict {
    match attack::find_shared_memory(sentinel::SHARED_MEMORY) {
        Ok(_) => Escaped("found the sentinel's memory".to_owned()),
        Err(errno) => Held(format!("shmget => {errno:?}")),
    }
}
