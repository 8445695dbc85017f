//! Through what processes share: pids, signals, names, memory.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use inmate::sys;
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::{Pid, getpid, getppid};

use super::HOST_FILE;
use super::Verdict::{self, Escaped, Held, Look, NotApplicable};
use crate::sentinel;

/// Sends signal 0, which only asks whether it could be sent, to every pid up to our own.
pub fn host_processes() -> Verdict {
    let answers = |pid: i32| matches!(kill(Pid::from_raw(pid), None), Ok(()) | Err(Errno::EPERM));
    let own = getpid().as_raw();
    match (2..own).chain(own + 1..own + 16).any(answers) {
        true => Escaped("a process answers that is not of this cell".to_owned()),
        false => Held("no other process answers".to_owned()),
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

/// Looks at the first process in sight, a small init perhaps: does it have descriptors of the host's, by which one climbs out or
/// joins the host's network; its caller's variables; and a program that could be written to?
pub fn first_process() -> Verdict {
    const FIRST: &str = "/proc/1";
    if !Path::new(FIRST).join("stat").exists() {
        return NotApplicable("no /proc is here".to_owned());
    }
    if getpid().as_raw() == 1 {
        return NotApplicable("the first process is this one: --init".to_owned());
    }
    let Ok(descriptors) = std::fs::read_dir(format!("{FIRST}/fd")) else {
        return Held("no process may look at it".to_owned());
    };
    for way in descriptors.flatten().map(|entry| entry.path()).chain([format!("{FIRST}/cwd").into()]) {
        if way.join("../".repeat(32)).join(HOST_FILE.trim_start_matches('/')).exists() {
            return Escaped("climbed out by what it has open".to_owned());
        }
        if is_namespace(&way) && is_foreign(&way) {
            return Escaped("it holds a namespace of the host's".to_owned());
        }
    }
    let variables = std::fs::read(format!("{FIRST}/environ")).unwrap_or_default();
    if variables.windows(sentinel::VARIABLE.len()).any(|part| part == sentinel::VARIABLE.as_bytes()) {
        return Escaped("it has the caller's variables".to_owned());
    }
    match program_of_the_host(FIRST) {
        true => Escaped("it runs a file of the host's".to_owned()),
        false => Held("it has nothing of the host's".to_owned()),
    }
}

/// Whether a descriptor is of a namespace (man 7 namespaces).
fn is_namespace(way: &Path) -> bool {
    const KINDS: [&str; 8] = ["cgroup:[", "ipc:[", "mnt:[", "net:[", "pid:[", "time:[", "user:[", "uts:["];
    let target = std::fs::read_link(way).unwrap_or_default();
    KINDS.iter().any(|kind| target.display().to_string().starts_with(kind))
}

/// Whether a descriptor is of a namespace that is not ours.
fn is_foreign(way: &Path) -> bool {
    let found = std::fs::metadata(way).map(|found| found.ino()).unwrap_or_default();
    let own = std::fs::read_dir("/proc/self/ns").into_iter().flatten().flatten();
    !own.flat_map(|entry| std::fs::metadata(entry.path())).any(|own| own.ino() == found)
}

/// Whether the file that a process runs has a name outside: a copy in memory has none.
fn program_of_the_host(process: &str) -> bool {
    let program = std::fs::read_link(format!("{process}/exe"));
    program.is_ok_and(|path| !path.exists() && !path.display().to_string().starts_with("/memfd:"))
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
    match sys::find_shared_memory(sentinel::SHARED_MEMORY) {
        Ok(_) => Escaped("found the sentinel's memory".to_owned()),
        Err(errno) => Held(format!("shmget => {errno:?}")),
    }
}
