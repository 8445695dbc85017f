//! What a launch could leave behind. Before and after must be the same.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, waitid};

use crate::lab::Lab;

/// What is there now, in the lab.
#[derive(Debug, PartialEq, Eq)]
pub struct Trace(BTreeSet<String>);

impl Trace {
    /// Looks at mounts, links, addresses, firewall rules, processes, shared memory, the hostname, and the files of
    /// the lab's own folder.
    pub fn take(lab: &Lab) -> Trace {
        let mut found = BTreeSet::new();
        let mut add = |what: &str, item: String| {
            found.insert(format!("{what}: {item}"));
        };
        for line in read("/proc/self/mountinfo").lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            add("mount", format!("{} from {}", fields[4], fields[3]));
        }
        for table in ["/proc/net/dev", "/proc/net/fib_trie", "/proc/net/if_inet6", "/proc/sysvipc/shm"] {
            let counted = table == "/proc/net/dev";
            let names = |line: &str| line.split(':').next().unwrap_or_default().to_owned();
            read(table).lines().for_each(|line| add(table, if counted { names(line) } else { line.to_owned() }));
        }
        add("hostname", read("/proc/sys/kernel/hostname"));
        add("firewall", firewall());
        for name in processes() {
            add("process", name);
        }
        files(&lab.folder, &mut |path| add("file", path));
        Trace(found)
    }

    /// Panics with what has come and what has gone.
    pub fn assert_same_as(&self, before: &Trace) {
        let new: Vec<_> = self.0.difference(&before.0).collect();
        let gone: Vec<_> = before.0.difference(&self.0).collect();
        assert!(new.is_empty() && gone.is_empty(), "the lab has changed:\n  new: {new:#?}\n  gone: {gone:#?}");
    }
}

/// As the lab's PID 1 we inherit every orphan: waits until all have ended, and says whether they did in time.
pub fn orphans_end_within(limit: Duration) -> bool {
    let begin = Instant::now();
    loop {
        match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG) {
            Err(Errno::ECHILD) => return true,
            Ok(nix::sys::wait::WaitStatus::StillAlive) if begin.elapsed() > limit => return false,
            Ok(nix::sys::wait::WaitStatus::StillAlive) => std::thread::sleep(Duration::from_micros(200)),
            _ => {}
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The processes of the lab but ourselves: pid and name. Kernel threads come and go by themselves.
fn processes() -> Vec<String> {
    let own = std::process::id().to_string();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let pids = pids.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()) && *name != own);
    // An ordinary user without a lab sees the host's kernel threads, whose names tell what they work on.
    let pids = pids.filter(|pid| !read(&format!("/proc/{pid}/status")).contains("\nKthread:\t1"));
    pids.map(|pid| format!("{pid} {}", read(&format!("/proc/{pid}/comm")).trim())).collect()
}

fn firewall() -> String {
    let rules = std::process::Command::new("nft").args(["list", "ruleset"]).output();
    rules.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

fn files(folder: &Path, add: &mut impl FnMut(String)) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(found) = path.symlink_metadata() else { continue };
        let size = if found.is_dir() { 0 } else { found.len() };
        add(format!("{} {:o} {}:{} {size}", path.display(), found.mode(), found.uid(), found.gid()));
        if found.is_dir() {
            files(&path, add);
        }
    }
}
