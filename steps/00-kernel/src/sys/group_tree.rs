//! Lesson 5, beside it: the groups inside a group, however deep. A path has 4096 bytes at most, a tree of groups has no such
//! end: so the way leads from directory to directory, by descriptors, and never by a path.

use std::ffi::{CStr, CString};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::Failure;
use crate::explain::call;

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC).union(OFlag::O_NOFOLLOW);

/// The lines of a file of a group and of all groups inside it: `cgroup.procs`, say. None of a group that has gone meanwhile.
pub fn lines_of_all(group: &Path, file: &CStr) -> Vec<String> {
    let Ok(mut here) = open(group, DIRECTORY, Mode::empty()) else { return Vec::new() };
    let mut lines = lines(&here, file);
    let mut levels = vec![inside(&here)]; // of each directory on the way, those that are still to be seen
    while let Some(level) = levels.last_mut() {
        if let Some(name) = level.pop() {
            let Ok(below) = openat(&here, name.as_c_str(), DIRECTORY, Mode::empty()) else { continue };
            lines.extend(self::lines(&below, file));
            levels.push(inside(&below));
            here = below;
            continue;
        }
        levels.pop();
        if !levels.is_empty() {
            let Ok(above) = openat(&here, c"..", DIRECTORY, Mode::empty()) else { return lines };
            here = above;
        }
    }
    lines
}

/// Removes the groups inside a group, the innermost first (man 2 unlinkat, AT_REMOVEDIR). Those that have gone are no error.
///
/// # Errors
/// EBUSY: processes are in one of them, and stay.
pub fn remove_inside(group: &Path) -> Result<(), Failure> {
    let result = match open(group, DIRECTORY, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(()),
        opened => opened.and_then(remove_below),
    };
    match result {
        Ok(0) => Ok(()), // nothing was done, nothing is told
        result => call(format_args!("unlinkat(<groups in {group:?}>, REMOVEDIR)"), result.map(drop)),
    }
}

/// How many were removed.
fn remove_below(mut here: OwnedFd) -> Result<usize, Errno> {
    let mut way: Vec<CString> = Vec::new();
    let mut levels = vec![inside(&here)]; // of each directory on the way, those that are still to be removed
    let mut removed = 0;
    loop {
        if let Some(name) = levels.last_mut().and_then(Vec::pop) {
            match openat(&here, name.as_c_str(), DIRECTORY, Mode::empty()) {
                Err(Errno::ENOENT) => continue,
                opened => here = opened?,
            }
            levels.push(inside(&here));
            way.push(name);
            continue;
        }
        levels.pop();
        let Some(name) = way.pop() else { return Ok(removed) };
        here = openat(&here, c"..", DIRECTORY, Mode::empty())?;
        remove_one(&here, &name)?;
        removed += 1;
    }
}

/// A process that has just ended may count for another moment in v1, which wakes no process when that changes: a few tries.
fn remove_one(above: &OwnedFd, name: &CStr) -> Result<(), Errno> {
    for _ in 0..100 {
        match unlinkat(above, name, UnlinkatFlags::RemoveDir) {
            Err(Errno::EBUSY) => std::thread::sleep(Duration::from_millis(1)),
            Err(Errno::ENOENT) => return Ok(()),
            other => return other,
        }
    }
    unlinkat(above, name, UnlinkatFlags::RemoveDir)
}

/// The names of the groups in a group.
fn inside(group: &OwnedFd) -> Vec<CString> {
    let Ok(mut directory) = Dir::openat(group, c".", DIRECTORY, Mode::empty()) else { return Vec::new() };
    let entries = directory.iter().flatten().filter(|entry| entry.file_type() == Some(Type::Directory));
    entries.map(|entry| entry.file_name().to_owned()).filter(|name| ![c".", c".."].contains(&name.as_c_str())).collect()
}

fn lines(group: &OwnedFd, file: &CStr) -> Vec<String> {
    let mut text = String::new();
    let opened = openat(group, file, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
    let _ = opened.map(|file| std::fs::File::from(file).read_to_string(&mut text));
    text.lines().map(str::to_owned).collect()
}
