//! What the root filesystem has at a place, copied into the file system in memory that will cover it (the mount
//! option "tmpcopyup").
//!
//! The place may lie in a volume, where another process exchanges files for links while we copy. So nothing is looked at by name
//! and then opened by name: each entry is held (O_PATH, O_NOFOLLOW), looked at, and then that very file is opened.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use kernel::sys::inside::{is, reopen};
use kernel::{Errno, Fd};
use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, mkdirat};
use nix::unistd::{Gid, Uid, fchownat, symlinkat};

/// Directories are copied to this depth: each holds descriptors until it is done.
const DEEPEST: usize = 200;

/// Copies directories, files and symbolic links with owners and permissions; other kinds are left out, and so is what vanishes
/// meanwhile. A symbolic link is copied, never followed.
///
/// # Errors
/// Directories that are nested too deep; a full disk.
pub fn copy_up(from: &Fd, to: &Fd) -> Result<()> {
    copy_directory(from.as_fd(), to.as_fd(), 0)
}

fn copy_directory(from: impl AsFd, to: impl AsFd, depth: usize) -> Result<()> {
    anyhow::ensure!(depth < DEEPEST, "directories are nested more than {DEEPEST} deep");
    let list = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut directory = Dir::openat(&from, ".", list, Mode::empty())?;
    for entry in directory.iter() {
        let entry = entry?;
        if ![c".", c".."].contains(&entry.file_name()) {
            let name = entry.file_name();
            copy_entry(&from, &to, name, depth).with_context(|| format!("cannot copy {name:?}"))?;
        }
    }
    Ok(())
}

fn copy_entry(from: impl AsFd, to: impl AsFd, name: &CStr, depth: usize) -> Result<()> {
    let held = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let source = match openat(&from, name, held, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(()),
        held => held?,
    };
    let found = fstat(&source)?;
    if is(&found, SFlag::S_IFLNK) {
        symlinkat(readlinkat(&source, "")?.as_os_str(), &to, name)?;
        let owner = (Uid::from_raw(found.st_uid), Gid::from_raw(found.st_gid));
        return Ok(fchownat(&to, name, Some(owner.0), Some(owner.1), AtFlags::AT_SYMLINK_NOFOLLOW)?);
    }
    let made = if is(&found, SFlag::S_IFDIR) {
        mkdirat(&to, name, Mode::S_IRWXU)?;
        let made = openat(&to, name, OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
        copy_directory(&source, &made, depth + 1)?;
        made
    } else if is(&found, SFlag::S_IFREG) {
        let new = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let made: OwnedFd = openat(&to, name, new, Mode::S_IRUSR | Mode::S_IWUSR)?;
        std::io::copy(&mut File::from(reopen(&source)?), &mut File::from(made.try_clone()?))?;
        made
    } else {
        return Ok(());
    };
    give(&made, &found)
}

/// Gives what was made the owner and the permissions of what was found: the owner first, for that clears bits.
fn give(made: &OwnedFd, found: &FileStat) -> Result<()> {
    nix::unistd::fchown(made, Some(Uid::from_raw(found.st_uid)), Some(Gid::from_raw(found.st_gid)))?;
    Ok(fchmod(made, Mode::from_bits_truncate(found.st_mode & 0o7777))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    fn open(path: &std::path::Path) -> Fd {
        Fd::new(File::open(path).unwrap().into(), "test")
    }

    #[test]
    fn everything_but_special_files() {
        let folder = std::env::temp_dir().join(format!("cellblock-copy-up-{}", std::process::id()));
        let (from, to) = (folder.join("from"), folder.join("to"));
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("a/b/file"), "text").unwrap();
        fs::set_permissions(from.join("a/b/file"), fs::Permissions::from_mode(0o751)).unwrap();
        symlink("/etc/hostname", from.join("a/link")).unwrap();
        nix::unistd::mkfifo(&from.join("a/fifo"), Mode::S_IRUSR).unwrap();
        copy_up(&open(&from), &open(&to)).unwrap();
        assert_eq!(fs::read_to_string(to.join("a/b/file")).unwrap(), "text");
        assert_eq!(fs::metadata(to.join("a/b/file")).unwrap().permissions().mode() & 0o777, 0o751);
        assert_eq!(fs::read_link(to.join("a/link")).unwrap(), std::path::Path::new("/etc/hostname"));
        assert!(!to.join("a/fifo").exists());
        fs::remove_dir_all(folder).unwrap();
    }

    /// Another process exchanges a file for a link to a secret, as fast as it can: the secret is never copied.
    #[test]
    fn what_is_exchanged_meanwhile() {
        let folder = std::env::temp_dir().join(format!("cellblock-exchange-{}", std::process::id()));
        let (from, to) = (folder.join("from"), folder.join("to"));
        fs::create_dir_all(&from).unwrap();
        fs::write(folder.join("secret"), "secret").unwrap();
        fs::write(from.join("file"), "harmless").unwrap();
        symlink(folder.join("secret"), from.join("link")).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (one, other) = (from.join("file"), from.join("link"));
                let exchange = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
                while !done.load(Ordering::Relaxed) {
                    let _ = nix::fcntl::renameat2(nix::fcntl::AT_FDCWD, &one, nix::fcntl::AT_FDCWD, &other, exchange);
                }
            });
            let end = Instant::now() + Duration::from_secs(2);
            let mut found = None;
            while Instant::now() < end && found.is_none() {
                fs::create_dir(&to).unwrap();
                let _ = copy_up(&open(&from), &open(&to));
                let copies = ["file", "link"].map(|name| to.join(name));
                found = copies
                    .into_iter()
                    .find(|copy| copy.is_file() && !copy.is_symlink() && fs::read(copy).unwrap() == b"secret");
                fs::remove_dir_all(&to).unwrap();
            }
            done.store(true, Ordering::Relaxed);
            assert_eq!(found, None);
        });
        fs::remove_dir_all(folder).unwrap();
    }
}
