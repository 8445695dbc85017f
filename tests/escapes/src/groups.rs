//! The cgroups that a runtime has made, in every tree of v1 and v2, looked at and removed from outside.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use cgroups::hierarchies::Hierarchies;

/// The directories of a group, one in each tree.
pub fn directories(group: &str) -> Vec<PathBuf> {
    let Ok(trees) = Hierarchies::read() else { return Vec::new() };
    let points = trees.unified.iter().chain(&trees.legacy).map(|tree| tree.point.clone());
    points.map(|point| PathBuf::from(format!("{point}{group}"))).filter(|path| is_group(path)).collect()
}

/// All groups below this one.
pub fn below(group: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    directories(group).iter().for_each(|directory| collect(directory, &mut found));
    found
}

/// Ends all processes in there, thaws the frozen first, for they cannot die, and removes it all.
pub fn remove(group: &str) {
    for _ in 0..100 {
        let own = directories(group);
        let mut all = own.clone();
        own.iter().for_each(|directory| collect(directory, &mut all));
        for directory in all.iter().rev() {
            let _ = write(directory, "freezer.state", "THAWED").or_else(|_| write(directory, "cgroup.freeze", "0"));
            let pids = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            for pid in pids.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 1) {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
            }
            let _ = fs::remove_dir(directory);
        }
        if directories(group).is_empty() {
            return;
        }
        sleep(Duration::from_millis(10));
    }
}

/// A mount point may be covered, and some runtimes make plain folders and files there: a group has what only the kernel
/// gives.
fn is_group(directory: &Path) -> bool {
    ["cgroup.controllers", "notify_on_release"].iter().any(|file| directory.join(file).exists())
}

fn write(group: &Path, file: &str, text: &str) -> std::io::Result<()> {
    fs::OpenOptions::new().write(true).open(group.join(file)).and_then(|mut file| {
        use std::io::Write;
        file.write_all(text.as_bytes())
    })
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
            collect(&entry.path(), found);
        }
    }
}
