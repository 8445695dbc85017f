//! Ids that two cells never share: each cell of root's reserves its own before it is made.
//!
//! A reservation is a file in a directory that only root can open. It says which ids, and its launcher holds a lock on it. When
//! the launcher has ended, the ids are still taken as long as the cell's first process lives, or a container is remembered.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use kernel::identity::namespace_here;
use kernel::sys::clone::begin_of;
use kernel::sys::lock::Lock;
use kernel::sys::process::random;
use kernel::{Failure, purpose};

use crate::range::Range;
use crate::subordinate::{COUNT, Slot, SubordinateIds};

/// Where reservations lie. For root alone: a user that could open a file in here could lock it.
const DIRECTORY: &str = "/run/cellblock-ids";

/// The ids of a cell: no other cell gets them as long as this lives.
#[derive(Debug)]
pub struct Reservation {
    path: PathBuf,
    file: File,
    _lock: Lock,
}

/// How long a launcher waits for others that choose ids.
const PATIENCE: Duration = Duration::from_secs(10);

impl Reservation {
    // ANCHOR: reserve
    /// Reserves ids that no other cell has, the first slot that is free: one range of users and one of groups.
    ///
    /// # Errors
    /// All slots are taken; /etc/subuid gives ours to another user as well.
    pub fn of_a_slot() -> Result<(Reservation, Range, Range)> {
        purpose("ids that no user of this machine has, and no other cell");
        let slots = SubordinateIds::read().slots()?;
        let _choosing = lock_directory()?;
        let taken = all_taken()?;
        let is_free = |slot: &&Slot| !taken.iter().any(|note| note.overlaps(&[range(slot.0)], &[range(slot.1)]));
        let &(user, group) = slots.iter().find(is_free).ok_or_else(|| none_is_free(slots.len()))?;
        let reservation = Reservation::write(&[range(user)], &[range(group)], Kind::Alone)?;
        Ok((reservation, range(user), range(group)))
    }
    // ANCHOR_END: reserve

    /// Reserves ids that were typed. Two cells for which the same ids were typed share them.
    ///
    /// # Errors
    /// They are set aside for another user, or a cell has them that was promised them alone.
    pub fn of_typed(users: &[Range], groups: &[Range]) -> Result<Reservation> {
        SubordinateIds::read().refuse_if_of_others(users, groups)?;
        let _choosing = lock_directory()?;
        if all_taken()?.iter().any(|note| note.kind == Kind::Alone && note.overlaps(users, groups)) {
            let text = "--userns: another cell has some of these ids, and was promised them alone";
            return Err(Failure::new(text).hint("--userns auto takes ids that no other cell has").into());
        }
        Reservation::write(users, groups, Kind::Typed)
    }

    /// Writes it under a name that no other process can have chosen, and locks it. The directory must be locked.
    fn write(users: &[Range], groups: &[Range], kind: Kind) -> Result<Reservation> {
        let first = users.first().map_or(0, |range| range.outside);
        let path = Path::new(DIRECTORY).join(format!("{first}-{:08x}", random()?));
        let cannot = || format!("cannot write {}", path.display());
        let create = || OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path);
        let mut file = create().with_context(cannot)?;
        file.write_all(text(users, groups, kind).as_bytes())
            .inspect_err(|_| drop(fs::remove_file(&path)))
            .with_context(cannot)?;
        let lock = Lock::wait_for(file.try_clone().with_context(cannot)?, PATIENCE)?.with_context(cannot)?;
        Ok(Reservation { path, file, _lock: lock })
    }

    /// The cell's first process has these ids. A launcher that is killed releases its lock a moment before its cell has ended.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn is_of(&self, pid: i32) -> Result<()> {
        let (Some(begun), Some(namespace)) = (begin_of(pid), pid_namespace()) else { return Ok(()) };
        self.append(format!("process {pid} {begun} {namespace}\n").as_bytes())
    }

    /// Keeps the ids reserved as long as a directory is there: one that remembers a container, or is a bundle.
    ///
    /// # Errors
    /// The directory is not there, or the file cannot be written.
    pub fn stays_with(&self, directory: &Path) -> Result<()> {
        let cannot = || format!("cannot reserve ids for {}", directory.display());
        let path = fs::canonicalize(directory).with_context(cannot)?;
        let found = fs::metadata(&path).with_context(cannot)?;
        if path.as_os_str().as_bytes().contains(&b'\n') {
            return Err(Failure::new(cannot()).hint("take a directory whose name has no end of a line in it").into());
        }
        let line = format!("directory {} {} ", found.dev(), found.ino());
        self.append(&[line.as_bytes(), path.as_os_str().as_bytes(), b"\n"].concat())
    }

    fn append(&self, line: &[u8]) -> Result<()> {
        (&self.file).write_all(line).with_context(|| format!("cannot write {}", self.path.display()))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let stays = Note::read(&self.path).is_some_and(|note| note.directories.iter().any(Directory::is_there));
        if !stays {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes the reservations whose container is gone; where there are none, nothing is made.
///
/// # Errors
/// Another launcher chooses ids, and does not end.
pub fn remove_old_reservations() -> Result<()> {
    if Path::new(DIRECTORY).exists() {
        let _choosing = lock_directory()?;
        all_taken()?;
    }
    Ok(())
}

fn range(first: u32) -> Range {
    Range { inside: 0, outside: first, count: COUNT }
}

fn none_is_free(slots: usize) -> Failure {
    match slots {
        0 => Failure::new("no range of 65536 ids is left for a cell")
            .hint("scripts/bootstrap sets some aside, under the name cellblock in /etc/subuid and /etc/subgid"),
        _ => Failure::new(format!("all ids of root's cells are taken: each of {slots} slots"))
            .hint("end some cells, or set more aside for cellblock in /etc/subuid and /etc/subgid"),
    }
}

/// Makes the directory and locks it. A launcher holds this lock for the moment in which it chooses.
fn lock_directory() -> Result<Lock> {
    let cannot = || format!("cannot make {DIRECTORY}");
    let made = DirBuilder::new().mode(0o700).create(DIRECTORY);
    made.or_else(|error| if Path::new(DIRECTORY).exists() { Ok(()) } else { Err(error) }).with_context(cannot)?;
    let found = fs::symlink_metadata(DIRECTORY).with_context(cannot)?;
    if !found.is_dir() || found.uid() != kernel::sys::privilege::user() || found.mode() & 0o077 != 0 {
        let text = format!("{DIRECTORY}: others may enter it, and ids are reserved there");
        return Err(Failure::new(text).hint(format!("look at what lies there, then: rm -r {DIRECTORY}")).into());
    }
    let directory = File::open(DIRECTORY).with_context(cannot)?;
    Lock::wait_for(directory, PATIENCE)?.ok_or_else(|| {
        let text = format!("{DIRECTORY}: another launcher chooses ids, and does not end");
        Failure::new(text).hint(format!("fuser -v {DIRECTORY} shows which")).into()
    })
}

/// What all others have. Reservations that nothing holds any more are removed. The directory must be locked.
fn all_taken() -> Result<Vec<Note>> {
    let mut taken = Vec::new();
    for entry in fs::read_dir(DIRECTORY).with_context(|| format!("cannot read {DIRECTORY}"))? {
        let path = entry?.path();
        let Some(note) = Note::read(&path) else { continue };
        if File::open(&path).is_ok_and(|file| Lock::is_held(&file)) || note.is_held() {
            taken.push(note);
        } else {
            let _ = fs::remove_file(&path);
        }
    }
    Ok(taken)
}

/// Whether ids are one cell's alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// They are.
    Alone,
    /// They were typed: other cells for which they are typed share them.
    Typed,
}

/// What a reservation says, line by line. A line is written by one call; one that is incomplete says nothing.
#[derive(Debug, PartialEq, Eq)]
struct Note {
    users: Vec<Range>,
    groups: Vec<Range>,
    kind: Kind,
    processes: Vec<(i32, u64, u64)>,
    directories: Vec<Directory>,
}

/// A directory, with what tells it from one that is made later under the same name.
#[derive(Debug, PartialEq, Eq)]
struct Directory {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Directory {
    fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode))
    }
}

fn text(users: &[Range], groups: &[Range], kind: Kind) -> String {
    let lines = |word: &'static str, ranges: &[Range]| {
        ranges.iter().map(|range| format!("{word} {} {}\n", range.outside, range.count)).collect::<String>()
    };
    let kind = if kind == Kind::Typed { "typed\n" } else { "" };
    format!("{}{}{kind}", lines("users", users), lines("groups", groups))
}

impl Note {
    fn read(path: &Path) -> Option<Note> {
        Some(Note::parse(&fs::read(path).ok()?))
    }

    fn parse(bytes: &[u8]) -> Note {
        let nothing = Vec::new;
        let mut note =
            Note { users: nothing(), groups: nothing(), kind: Kind::Alone, processes: vec![], directories: vec![] };
        for line in bytes.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n")) {
            note.take(line);
        }
        note
    }

    fn take(&mut self, line: &[u8]) -> Option<()> {
        let mut words = line.splitn(4, |byte| *byte == b' ');
        let word = words.next()?;
        if word == b"typed" {
            self.kind = Kind::Typed;
        }
        let mut number = || std::str::from_utf8(words.next()?).ok()?.parse::<u64>().ok();
        let (first, second) = (number()?, number()?);
        let range = || Some(Range { inside: 0, outside: first.try_into().ok()?, count: second.try_into().ok()? });
        match word {
            b"users" => self.users.push(range()?),
            b"groups" => self.groups.push(range()?),
            b"process" => self.processes.push((first.try_into().ok()?, second, number()?)),
            b"directory" => {
                let path = PathBuf::from(OsStr::from_bytes(words.next()?));
                self.directories.push(Directory { path, device: first, inode: second });
            }
            _ => {}
        }
        Some(())
    }

    /// Whether something has the ids although no launcher holds the lock. Processes of other pid namespaces cannot be seen:
    /// there the lock alone decides.
    fn is_held(&self) -> bool {
        let here = pid_namespace();
        let lives =
            |(pid, begun, namespace): &(i32, u64, u64)| here == Some(*namespace) && begin_of(*pid) == Some(*begun);
        self.processes.iter().any(lives) || self.directories.iter().any(Directory::is_there)
    }

    fn overlaps(&self, users: &[Range], groups: &[Range]) -> bool {
        let any = |one: &[Range], other: &[Range]| one.iter().any(|one| other.iter().any(|other| one.overlaps(other)));
        any(&self.users, users) || any(&self.groups, groups)
    }
}

/// This process's pid namespace; `None` without /proc.
fn pid_namespace() -> Option<u64> {
    namespace_here("pid").ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written() {
        let typed =
            [Range { inside: 0, outside: 700_000, count: 10 }, Range { inside: 10, outside: 800_000, count: 1 }];
        let written = text(&typed, &[range(5)], Kind::Typed);
        let note = Note::parse(format!("{written}process 7 8 9\ndirectory 1 2 /a b\ndirectory 3 4 /cut").as_bytes());
        assert_eq!((note.users.len(), note.groups.clone(), note.kind), (2, vec![range(5)], Kind::Typed));
        assert_eq!(note.processes, [(7, 8, 9)]);
        assert_eq!(note.directories, [Directory { path: "/a b".into(), device: 1, inode: 2 }]);
        assert!(note.overlaps(&[range(699_000)], &[]) && note.overlaps(&[], &[range(65_540)]));
        assert!(!note.overlaps(&[range(5)], &[range(65_541)]));
    }

    #[test]
    fn what_holds_ids_is_told_from_its_successor() {
        let held = |line: String| Note::parse(line.as_bytes()).is_held();
        let (own, namespace) = (std::process::id() as i32, pid_namespace().unwrap());
        let begun = begin_of(own).unwrap();
        assert!(held(format!("process {own} {begun} {namespace}\n")));
        assert!(!held(format!("process {own} {} {namespace}\n", begun + 1)));
        let found = fs::metadata("/proc").unwrap();
        assert!(held(format!("directory {} {} /proc\n", found.dev(), found.ino())));
        assert!(!held(format!("directory {} {} /proc\n", found.dev(), found.ino() + 1)));
    }
}
