//! Watches for processes that join this container, and tries to get at what they still hold: through their descriptors, and by
//! attaching to them (man 2 ptrace). A shell is too slow for that.

use std::collections::BTreeSet;
use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

/// Watches for a time; `path` is a file of the host's to look for.
pub fn newcomers(seconds: &str, path: &str) -> ExitCode {
    let Ok(seconds) = seconds.parse() else {
        eprintln!("inmate: {seconds:?} is not a number of seconds\nhint: inmate watch 2 /etc/hostname");
        return ExitCode::from(125);
    };
    let known = processes();
    let (mut seen, mut attached) = (BTreeSet::new(), 0);
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        for pid in processes().difference(&known) {
            seen.insert(*pid);
            climb(*pid, path);
            attached += u32::from(attach(*pid));
        }
    }
    println!("saw {} newcomers, attached {attached} times", seen.len());
    ExitCode::SUCCESS
}

fn processes() -> BTreeSet<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Every descriptor, the working directory and the root of a process, as a way to the file.
fn climb(pid: i32, path: &str) {
    let above = "/..".repeat(20);
    let ways = (0..24).map(|number| format!("fd/{number}")).chain(["cwd".to_owned(), "root".to_owned()]);
    for way in ways {
        if fs::metadata(format!("/proc/{pid}/{way}{above}{path}")).is_ok() {
            println!("CLIMBED out by {way}");
        }
    }
}

/// Attaches to a process, and looks at which capabilities would be ours then.
fn attach(pid: i32) -> bool {
    let process = Pid::from_raw(pid);
    if ptrace::seize(process, ptrace::Options::empty()).is_err() {
        return false;
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let permitted = status.lines().find_map(|line| line.strip_prefix("CapPrm:\t")).unwrap_or_default();
    let own = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bounding = own.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).unwrap_or_default();
    let set = |text: &str| u64::from_str_radix(text, 16).unwrap_or(0);
    if set(permitted) & !set(bounding) != 0 {
        println!("TOOK OVER a process with capabilities {permitted}, and ours are {bounding}");
    }
    if ptrace::interrupt(process).is_ok() && waitpid(process, None).is_ok() {
        let _ = ptrace::detach(process, None);
    }
    true
}
