//! That a group runs out of memory, told at the moment when it happens: the `oom` events of `events`.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use anyhow::Result;
use cgroups::stats::field;
use kernel::sys::cgroup;
use kernel::{Failure, Fd, outside};

use super::Cgroup;
use crate::sys::event;
use crate::sys::poll::Events;

/// Watches whether a group runs out of memory.
#[derive(Debug)]
pub enum MemoryWatch {
    /// v2 counts the processes that were killed for it in memory.events, and wakes a process that polls that file
    /// (Documentation/admin-guide/cgroup-v2.rst, "Memory Interface Files").
    Counter {
        /// The file.
        file: File,
        /// What was in it when it was read last.
        killed: u64,
    },
    /// v1 adds one to a counter of this process, an eventfd, each time (Documentation/admin-guide/cgroup-v1/memory.rst, "OOM
    /// Control"). It adds one more when the group is removed.
    Notice {
        /// The counter.
        counter: Fd,
        /// The group.
        group: PathBuf,
    },
}

impl Cgroup {
    /// Begins to watch; what was before does not count. None if memory is not counted for this group.
    ///
    /// # Errors
    /// This user may not ask for notice of it (v1).
    pub fn watch_memory(&self) -> Result<Option<MemoryWatch>> {
        const COUNTER: &str = "memory.events";
        const CONTROL: &str = "memory.oom_control";
        if self.directories.is_v2() {
            let Some(group) = self.directories.with_file(COUNTER) else { return Ok(None) };
            let mut watch = MemoryWatch::Counter { file: open(group.join(COUNTER))?, killed: 0 };
            watch.has_run_out();
            return Ok(Some(watch));
        }
        let Some(group) = self.directories.with_file(CONTROL) else { return Ok(None) };
        let counter = event::counter()?;
        let control = open(group.join(CONTROL))?;
        cgroup::write(group, "cgroup.event_control", &event::registration(&counter, &control))?;
        Ok(Some(MemoryWatch::Notice { counter, group: group.to_owned() }))
    }
}

fn open(path: PathBuf) -> Result<File, Failure> {
    File::open(&path)
        .map_err(|error| Failure::new(format!("cannot open {}: {}", path.display(), outside::reason(error))))
}

impl MemoryWatch {
    /// What to wait for (man 2 poll).
    pub fn awaited(&self) -> (BorrowedFd<'_>, Events) {
        match self {
            MemoryWatch::Counter { file, .. } => (file.as_fd(), Events::POLLPRI),
            MemoryWatch::Notice { counter, .. } => (counter.as_fd(), Events::POLLIN),
        }
    }

    /// Whether the group has run out of memory since the last call. None when the group is gone: there is nothing to wait for.
    pub fn has_run_out(&mut self) -> Option<bool> {
        match self {
            MemoryWatch::Counter { file, killed } => {
                let mut text = String::new();
                file.rewind().and_then(|()| file.read_to_string(&mut text)).ok()?;
                let before = std::mem::replace(killed, field(&text, "oom_kill"));
                Some(*killed > before)
            }
            MemoryWatch::Notice { counter, group } => {
                let times = event::take(counter);
                if group.is_dir() { Some(times > 0) } else { (times > 1).then_some(true) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cgroups::Directories;

    /// A directory takes the place of a group of v2.
    #[test]
    fn counted_by_v2() {
        let group = std::env::temp_dir().join(format!("cellblock-memory-events-{}", std::process::id()));
        let file = group.join("memory.events");
        let counted = |killed: u64| std::fs::write(&file, format!("low 0\noom 7\noom_kill {killed}\n")).unwrap();
        std::fs::create_dir_all(&group).unwrap();
        counted(3);
        let kept = Cgroup {
            directories: Directories { unified: Some(group.clone()), ..Directories::default() },
            ..Cgroup::default()
        };
        let mut watch = kept.watch_memory().unwrap().unwrap();
        assert_eq!(watch.has_run_out(), Some(false), "what was before does not count");
        counted(4);
        assert_eq!((watch.has_run_out(), watch.has_run_out()), (Some(true), Some(false)));
        std::fs::remove_dir_all(group).unwrap();
        assert!(Cgroup::default().watch_memory().unwrap().is_none(), "no group counts memory");
    }
}
