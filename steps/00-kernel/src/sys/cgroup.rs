//! Lesson 5: groups of processes. They are directories, and what can be asked of them are files in these.

use std::fs;
use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::stat::Mode;
use nix::unistd::{AccessFlags, access};

use super::{Fd, errno};
use crate::Failure;
use crate::explain::call;

/// Makes a group (man 2 mkdir). It has our mark from its birth ([`is_ours`]).
pub fn make(group: &Path) -> Result<(), Failure> {
    let mode = Mode::from_bits_truncate(0o755) | OUR_MARK;
    call(format_args!("mkdir({group:?})"), nix::unistd::mkdir(group, mode))
}

/// On a group's directory the sticky bit forbids nothing that matters, and no other program sets it. It is there as soon as the
/// directory is, so no kill can come between.
const OUR_MARK: Mode = Mode::S_ISVTX;

/// Whether one of our launchers has made a group. Those of an administrator or of another program are not ours to remove,
/// whatever they are called.
pub fn is_ours(group: &Path) -> bool {
    nix::sys::stat::lstat(group).is_ok_and(|found| Mode::from_bits_truncate(found.st_mode).contains(OUR_MARK))
}

/// Removes a group of ours in which no other is left: the one above a cell's.
pub fn remove_if_ours(group: &Path) {
    if is_ours(group) {
        let _ = fs::remove_dir(group); // unless another cell's group is in it
    }
}

/// Makes a group, unless it is there already: another process may make it at the same moment.
pub fn make_if_missing(group: &Path) -> Result<(), Failure> {
    match make(group) {
        Err(failure) if failure.errno() == Some(Errno::EEXIST) => Ok(()),
        made => made,
    }
}

/// Removes a group without processes and without groups in it (man 2 rmdir).
pub fn remove(group: &Path) -> Result<(), Failure> {
    call(format_args!("rmdir({group:?})"), fs::remove_dir(group).map_err(errno))
}

/// A descriptor of a group, to be born into it.
pub fn open_group(group: &Path, label: &'static str) -> Result<Fd, Failure> {
    let result = open(group, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
    call(format_args!("open({group:?}, DIRECTORY)"), result.map(|fd| Fd::new(fd, label)))
}

/// A file by which a thread or a process enters a group, open for writing.
pub fn open_to_enter(group: &Path, file: &str) -> Result<Fd, Failure> {
    let path = group.join(file);
    let result = open(&path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty());
    call(format_args!("open({path:?}, WRONLY)"), result.map(|fd| Fd::new(fd, "tasks")))
}

/// Writes a value to a file of a group, in one call.
pub fn write(group: &Path, file: &str, value: &str) -> Result<(), Failure> {
    super::clone::write_file(&group.join(file).to_string_lossy(), value)
}

/// Whether we may make groups in a group (man 2 access).
pub fn may_write(group: &Path) -> bool {
    access(group, AccessFlags::W_OK).is_ok()
}

/// Reads a file of a group; nothing where it is missing.
pub fn read(group: &Path, file: &str) -> String {
    fs::read_to_string(group.join(file)).unwrap_or_default()
}

// ANCHOR: wait
/// Waits until no process is left in a group.
///
/// # Errors
/// ETIMEDOUT: a process does not end within 10 seconds, for the kernel waits for a disk, say.
pub fn wait_until_empty(group: &Path) -> Result<(), Failure> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let timeout = || Failure::call(format_args!("poll({group:?}/cgroup.events, PRI)"), Errno::ETIMEDOUT);
    if is_empty_within(group, PATIENCE)? { Ok(()) } else { Err(timeout()) }
}

/// Whether no process is left in a group before the time is up: the kernel wakes a process that polls cgroup.events when it changes.
/// It does not wake it when another process removes the group meanwhile: so we look from time to time.
pub fn is_empty_within(group: &Path, patience: Duration) -> Result<bool, Failure> {
    const PAUSE: Duration = Duration::from_secs(1);
    let end = Instant::now() + patience;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match wait_for(group, "populated 0", Some(left.min(PAUSE))) {
            Err(failure) if is_gone(&failure) => return Ok(true),
            Err(_) if !group.is_dir() => return Ok(true),
            Err(failure) if failure.errno() == Some(Errno::ETIMEDOUT) && left.is_zero() => return Ok(false),
            Err(failure) if failure.errno() == Some(Errno::ETIMEDOUT) => {}
            waited => return waited.map(|()| true),
        }
    }
}

/// Whether a failure says that the group has gone: ENOENT, or ENODEV of a file that was open already.
pub fn is_gone(failure: &Failure) -> bool {
    matches!(failure.errno(), Some(Errno::ENOENT | Errno::ENODEV))
}

/// Waits until a line of a group's cgroup.events says so.
///
/// # Errors
/// ETIMEDOUT, if a patience is given and has come to its end; ENODEV when the group is removed meanwhile.
pub fn wait_for(group: &Path, line: &str, patience: Option<Duration>) -> Result<(), Failure> {
    let path = group.join("cgroup.events");
    let mut events =
        fs::File::open(&path).map_err(|error| Failure::call(format_args!("open({path:?})"), errno(error)))?;
    let timeout = patience.map_or(PollTimeout::NONE, |time| PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX));
    loop {
        let mut text = String::new();
        let result = events.read_to_string(&mut text).map_err(errno);
        result.map_err(|errno| Failure::call(format_args!("read({path:?})"), errno))?;
        if text.contains(line) {
            return Ok(());
        }
        let mut polled = [PollFd::new(events.as_fd(), PollFlags::POLLPRI)];
        let result = match nix::poll::poll(&mut polled, timeout) {
            Ok(0) => Err(Errno::ETIMEDOUT),
            other => other.map(|count| count as usize),
        };
        call(format_args!("poll({path:?}, PRI)"), result)?;
        let _ = events.rewind();
    }
}
// ANCHOR_END: wait
