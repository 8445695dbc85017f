//! A container's directory, held by a descriptor: its name can be another one's by now, the descriptor cannot.
//!
//! A root may hold directories that are not ours: another runtime's, for containerd may give two of them one root, or a user's,
//! if the root was mistyped. A directory is ours if our mark is in it, and of it only files with names of ours are removed.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Error, ErrorKind, Result, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use kernel::{Errno, Failure, Fd, outside};
use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::files;
use super::{CONFIG, MARK, STATE};
use crate::second_try::twice;
use crate::{notify, waiting};

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC).union(OFlag::O_NOFOLLOW);
/// Never through a link, and never waiting for the other end of a FIFO.
const FILE: OFlag = OFlag::O_CLOEXEC.union(OFlag::O_NOFOLLOW).union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY);

/// A directory that was opened.
#[derive(Debug)]
pub(super) struct Place {
    fd: Fd,
    path: PathBuf,
}

impl Place {
    /// A directory by its path.
    pub fn open(path: &Path) -> Result<Place> {
        let opened = nix::fcntl::open(path, DIRECTORY, Mode::empty())?;
        Ok(Place { fd: Fd::new(opened, "root"), path: path.to_owned() })
    }

    /// A directory in this one.
    pub fn inside(&self, name: &str) -> Result<Place> {
        let opened = openat(&self.fd, name, DIRECTORY, Mode::empty())?;
        Ok(Place { fd: Fd::new(opened, "container"), path: self.path.join(name) })
    }

    /// Where it was found.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What holds it.
    pub fn descriptor(&self) -> &Fd {
        &self.fd
    }

    /// Whether its name still means this directory, and not that of a successor.
    pub fn has_its_name(&self) -> bool {
        let identity = |found: FileStat| (found.st_dev, found.st_ino);
        let own = twice(|| fstat(&self.fd)).map(identity);
        let named = twice(|| fstatat(&self.fd, &self.name_from_within(), AtFlags::AT_SYMLINK_NOFOLLOW)).map(identity);
        own.is_ok() && own == named
    }

    fn name_from_within(&self) -> PathBuf {
        Path::new("..").join(self.path.file_name().unwrap_or_default())
    }

    /// Another descriptor of the same directory: a lock on it is not one on this.
    pub fn again(&self) -> Result<File> {
        Ok(openat(&self.fd, ".", DIRECTORY, Mode::empty())?.into())
    }

    /// Whether the directory is this user's, or root's.
    pub fn is_own(&self) -> Result<bool> {
        Ok(files::is_own(&fstat(&self.fd)?))
    }

    /// Whether a launch has made it and nothing in it yet, but for a mark that it was writing.
    pub fn is_new(&self) -> Result<bool> {
        let mode = Mode::from_bits_truncate(fstat(&self.fd)?.st_mode);
        Ok(mode.contains(files::OUR_MARK) && self.names()?.iter().all(|name| half_written(name) == Some(MARK)))
    }

    /// # Errors
    /// Another user could have written what is in it.
    pub fn refuse_if_open_to_others(&self) -> std::result::Result<(), Failure> {
        let found = fstat(&self.fd).map_err(|errno| Failure::new(outside::reason(errno.into())))?;
        files::refuse_if_of_others(&self.path, &found)?;
        // An earlier version made files as the caller's umask said.
        [STATE, CONFIG].iter().try_for_each(|file| match fstatat(&self.fd, *file, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(_) => Ok(()), // reading it says why
            Ok(found) => files::refuse_if_of_others(&self.path.join(file), &found),
        })
    }

    /// The names in it.
    pub fn names(&self) -> Result<Vec<OsString>> {
        let mut directory = Dir::openat(&self.fd, ".", DIRECTORY, Mode::empty())?;
        let mut names = Vec::new();
        for entry in directory.iter() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(OsStr::from_bytes(name).to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Whether there is anything of this name.
    pub fn has(&self, name: &str) -> bool {
        fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
    }

    /// The content of a file that no other user could have written; none if there is no such file.
    ///
    /// # Errors
    /// The kernel's reason, in lower case; not a regular file; larger than 16 MiB. Others may write to it.
    pub fn read(&self, name: &str) -> std::result::Result<Option<Vec<u8>>, Refused> {
        let opened = match openat(&self.fd, name, FILE, Mode::empty()) {
            Err(Errno::ENOENT) => return Ok(None),
            opened => File::from(opened.map_err(|errno| Refused::Damaged(outside::reason(errno.into())))?),
        };
        let found = fstat(&opened).map_err(|errno| Refused::Damaged(outside::reason(errno.into())))?;
        files::refuse_if_of_others(&self.path.join(name), &found).map_err(Refused::OpenToOthers)?;
        if SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
            return Err(Refused::Damaged("it is not a regular file".to_owned()));
        }
        outside::bounded(opened).map(Some).map_err(Refused::Damaged)
    }

    /// Writes a file as a whole: another process reads the old one or the new, never half of one.
    pub fn write(&self, name: &str, text: &[u8]) -> Result<()> {
        let new = format!(".{name}.{:08x}", kernel::sys::process::random().map_err(Error::other)?);
        let mode = Mode::from_bits_truncate(0o600);
        let write = || {
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | FILE;
            let mut opened = File::from(openat(&self.fd, new.as_str(), flags, mode)?);
            fchmod(&opened, mode)?; // whatever the umask is
            opened.write_all(text)?;
            Ok(renameat(&self.fd, new.as_str(), &self.fd, name)?)
        };
        write().inspect_err(|_| drop(self.unlink(new.as_ref())))
    }

    /// Removes a file; that it is gone already is no error. An empty directory in its place goes, too.
    pub fn unlink(&self, name: &OsStr) -> Result<()> {
        match unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir) {
            Err(Errno::ENOENT) => Ok(()),
            Err(Errno::EISDIR) => Ok(unlinkat(&self.fd, name, UnlinkatFlags::RemoveDir)?),
            removed => Ok(removed?),
        }
    }

    /// Removes the directory with what is ours in it. Its lock must be held, and it must still have its name. The record goes
    /// first: what a command leaves that is killed in between is a launch without a record, which `prune` finds.
    ///
    /// # Errors
    /// What is not ours is in it; that stays, and all the rest does.
    pub fn remove(&self) -> Result<()> {
        twice(|| self.try_to_remove())
    }

    fn try_to_remove(&self) -> Result<()> {
        let names = self.names()?;
        if let Some(other) = names.iter().find(|name| !is_ours(name)) {
            let text = format!("{:?} in it is not ours", other.display().to_string());
            return Err(Error::new(ErrorKind::DirectoryNotEmpty, text));
        }
        self.unlink(OsStr::new(STATE))?;
        for name in names.iter().filter(|name| *name != MARK) {
            match name.to_str() {
                Some(notify::DIRECTORY) => self.remove_notify()?,
                _ => self.unlink(name)?,
            }
        }
        self.unlink(OsStr::new(MARK))?;
        match unlinkat(&self.fd, &self.name_from_within(), UnlinkatFlags::RemoveDir) {
            Err(Errno::ENOENT) => Ok(()),
            removed => Ok(removed?),
        }
    }

    fn remove_notify(&self) -> Result<()> {
        let notify = self.inside(notify::DIRECTORY)?;
        notify.unlink(OsStr::new(notify::SOCKET))?;
        Ok(unlinkat(&self.fd, notify::DIRECTORY, UnlinkatFlags::RemoveDir)?)
    }
}

/// Why a file is not read.
#[derive(Debug)]
pub(super) enum Refused {
    /// It cannot be read.
    Damaged(String),
    /// Another user could have written it.
    OpenToOthers(Failure),
}

/// Whether a file in a container's directory has a name of ours: one of the table's, a bundle's of our own making, or the name
/// that a file has while it is written.
fn is_ours(name: &OsStr) -> bool {
    if half_written(name).is_some() {
        return true;
    }
    let Some(name) = name.to_str() else { return false };
    [STATE, CONFIG, MARK, waiting::START, waiting::ANSWER, notify::DIRECTORY].contains(&name)
        || crate::cli::file_names().any(|own| own == name)
}

/// Of a name that a file has while it is written: the name that it will have.
fn half_written(name: &OsStr) -> Option<&str> {
    let (of, number) = name.to_str()?.strip_prefix('.')?.rsplit_once('.')?;
    ([STATE, CONFIG, MARK].contains(&of) && number.len() == 8).then_some(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_ours() {
        let half_written = format!(".{MARK}.0123abcd");
        for own in
            ["state.json", "config.json", "start", "answer", "notify", "hosts", ".state.json.0123abcd", &half_written]
        {
            assert!(is_ours(OsStr::new(own)), "{own}");
        }
        for other in ["", "src", "state.json~", ".state.json.", ".bashrc", "status", ".x.0123abcd"] {
            assert!(!is_ours(OsStr::new(other)), "{other}");
        }
    }
}
