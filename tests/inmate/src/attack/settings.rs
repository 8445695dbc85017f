//! Through the kernel's settings in /proc and in cgroup v1. Nothing is written: that it could be is proof enough.

use std::path::Path;

use nix::mount::{MntFlags, MsFlags};

use super::Verdict::{self, Held, NotApplicable};
use super::writable;

const SETTING: &str = "sys/kernel/core_pattern"; // the program that the kernel runs, as root, when a process crashes
const OWN_PROC: &str = "/tmp/inmate-proc";
const NONE: Option<&str> = None;

/// Opens a setting in the /proc that is there; where it is missing, mounts one.
pub fn proc_sys() -> Verdict {
    in_proc(|proc| writable(&proc.join(SETTING)))
}

/// Opens the file that stands for the SysRq key.
pub fn sysrq() -> Verdict {
    in_proc(|proc| match proc.join("sysrq-trigger") {
        missing if !missing.exists() => NotApplicable("this kernel has no SysRq".to_owned()),
        trigger => writable(&trigger),
    })
}

/// Takes the read-only flag off /proc/sys, tries, and puts it back.
pub fn remount() -> Verdict {
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    match nix::mount::mount(NONE, "/proc/sys", NONE, flags, NONE) {
        Ok(()) => {
            let verdict = writable(&Path::new("/proc").join(SETTING));
            let _ = nix::mount::mount(NONE, "/proc/sys", NONE, flags | MsFlags::MS_RDONLY, NONE);
            verdict
        }
        Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => {
            NotApplicable("no read-only mount is here".to_owned())
        }
        Err(errno) => Held(format!("mount => {errno:?}")),
    }
}

/// Mounts a /proc of its own, on which nothing is masked or read-only.
pub fn mount() -> Verdict {
    mounted("proc", NONE, |proc| writable(&proc.join(SETTING)))
}

/// Mounts a cgroup v1 hierarchy and opens release_agent: the kernel would run it on the host (CVE-2022-0492).
pub fn release_agent() -> Verdict {
    let tried = ["pids", "memory"].map(|controller| {
        mounted("cgroup", Some(controller), |group| match group.join("release_agent") {
            missing if !missing.exists() => Held("the top of the hierarchy is out of sight".to_owned()),
            agent => writable(&agent),
        })
    });
    let tried: Vec<Verdict> = tried.into_iter().collect();
    let is_v1 = |verdict: &Verdict| !matches!(verdict, Held(why) if why.ends_with("EBUSY") || why.ends_with("EINVAL"));
    tried.into_iter().find(is_v1).unwrap_or_else(|| NotApplicable("this machine has no cgroup v1".to_owned()))
}

/// Tries something in the /proc that is there, or in one of our own where it is missing.
fn in_proc(attempt: impl FnOnce(&Path) -> Verdict) -> Verdict {
    let there = Path::new("/proc");
    if there.join("self").exists() { attempt(there) } else { mounted("proc", NONE, attempt) }
}

/// Tries something in a file system that is mounted just for this.
fn mounted(kind: &str, options: Option<&str>, attempt: impl FnOnce(&Path) -> Verdict) -> Verdict {
    let _ = std::fs::create_dir(OWN_PROC);
    let verdict = match nix::mount::mount(Some(kind), OWN_PROC, Some(kind), MsFlags::empty(), options) {
        Ok(()) => {
            let verdict = attempt(Path::new(OWN_PROC));
            let _ = nix::mount::umount2(OWN_PROC, MntFlags::MNT_DETACH);
            verdict
        }
        Err(errno) => Held(format!("mount => {errno:?}")),
    };
    let _ = std::fs::remove_dir(OWN_PROC);
    verdict
}
