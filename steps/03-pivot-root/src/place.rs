//! A place below the new root: resolved once, and held as a descriptor.
//!
//! The root filesystem comes from a stranger. Its /proc may be a symbolic link to somewhere else; where a volume
//! belongs there may be a link as well, or one may appear between a look and a mount (CVE-2021-30465). So no place is
//! looked up by a plain path: `openat2` walks below a descriptor of the root and cannot leave it, and the mount goes
//! onto what it found.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};
use kernel::sys::mount::{self, ResolveFlag};
use kernel::{Errno, Failure, Fd, Remedy};

/// Where a mount belongs, as a path below the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    path: PathBuf,
    links: Links,
}

/// What a symbolic link on the way means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Links {
    /// It is followed, below the root.
    Followed,
    /// It is refused: masks laid on a /proc that lies elsewhere would mask nothing (CVE-2019-19921).
    Refused,
}

impl Place {
    /// One of the kernel's own: proc, sys, dev. No symbolic link may stand for it.
    pub fn system(path: &str) -> Place {
        Place { path: path.into(), links: Links::Refused }
    }

    /// One that the user named.
    ///
    /// # Errors
    /// A path that is not absolute, that is `/`, that has `..` in it, or that lies in /proc.
    pub fn asked(path: &Path) -> Result<Place, Failure> {
        let refuse = |why: &str| {
            let text = format!("nothing can be mounted on {}: {why}", path.display());
            Err(Failure::new(text).hint("name a place below the root filesystem, such as /mnt"))
        };
        let below = match path.strip_prefix("/") {
            Err(_) => return refuse("it is not an absolute path"),
            Ok(below) if below.as_os_str().is_empty() => return refuse("it is the root, which --rootfs sets"),
            Ok(below) if below.starts_with("proc") => return refuse("/proc belongs to the kernel"),
            Ok(below) => below,
        };
        if below.components().any(|part| !matches!(part, Component::Normal(_))) {
            return refuse("write it without . and ..");
        }
        Ok(Place { path: below.components().collect(), links: Links::Followed })
    }

    /// One that a configuration names. Whatever lies in /proc, /sys or /dev may have no symbolic link on its way; in /proc it
    /// is one of a few files that tell of the machine, for whoever covers another could fool us (CVE-2025-52881).
    ///
    /// # Errors
    /// The root itself, or another place in /proc.
    pub fn configured(path: &Path) -> Result<Place, Failure> {
        const IN_PROC: [&str; 11] = [
            "cpuinfo",
            "diskstats",
            "meminfo",
            "stat",
            "swaps",
            "uptime",
            "loadavg",
            "slabinfo",
            "net/dev",
            "sys/kernel/ns_last_pid",
            "sys/crypto/fips_enabled",
        ];
        let mut below = PathBuf::new();
        for part in path.components() {
            match part {
                Component::Normal(name) => below.push(name),
                Component::ParentDir => drop(below.pop()),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        let refuse = |why: &str| Err(Failure::new(format!("nothing can be mounted on {}: {why}", path.display())));
        match below.strip_prefix("proc") {
            _ if below.as_os_str().is_empty() => return refuse("it is the root").hint("root.path says what that is"),
            Ok(inside) if inside.as_os_str().is_empty() || IN_PROC.iter().any(|known| Path::new(known) == inside) => {}
            Ok(_) => return refuse("/proc belongs to the kernel").hint(format!("only {}", IN_PROC.join(" "))),
            Err(_) => {}
        }
        let systems = ["proc", "sys", "dev"].iter().any(|top| below.starts_with(top));
        Ok(Place { path: below, links: if systems { Links::Refused } else { Links::Followed } })
    }

    /// The directory in which it lies.
    pub fn parent(&self) -> Place {
        Place { path: self.path.parent().unwrap_or(Path::new("")).to_owned(), links: self.links }
    }

    /// The directories in which it lies, as far as its path says.
    pub fn directories(&self) -> impl Iterator<Item = &Path> {
        self.path.ancestors().skip(1)
    }

    /// As a path below the root.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its own name there.
    pub fn name(&self) -> &Path {
        Path::new(self.path.file_name().expect("no . and no .. in it"))
    }

    /// Whether it is that one: `proc`, say.
    pub fn is(&self, path: &str) -> bool {
        self.path == Path::new(path)
    }

    /// How many directories deep it lies: the shallow are mounted first, so that none hides another.
    pub fn depth(&self) -> usize {
        self.path.components().count()
    }

    // ANCHOR: open
    /// Opens the place below `root`; makes it first where it is missing, as a directory or an empty file.
    pub fn open(&self, root: &Fd, directory: bool) -> Result<Fd> {
        let place = match self.find(root).with_context(|| format!("cannot open {self}"))? {
            Some(place) => place,
            None => {
                self.make(root, directory)?;
                self.resolve(root).with_context(|| format!("cannot open {self}"))?
            }
        };
        if self.links == Links::Followed && mount::is_procfs(&place)? {
            return Err(Failure::new(format!("nothing can be mounted on {self}: it leads into /proc")).into());
        }
        Ok(place)
    }

    /// The place if it is there.
    pub fn find(&self, root: &Fd) -> Result<Option<Fd>, Failure> {
        match self.resolve(root) {
            Err(failure) if failure.errno() == Some(Errno::ENOENT) => Ok(None),
            found => found.map(Some),
        }
    }

    /// The place as a descriptor. From here on nobody can put another in its stead.
    fn resolve(&self, root: &Fd) -> Result<Fd, Failure> {
        let resolve = match self.links {
            Links::Followed => ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS,
            Links::Refused => ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS,
        };
        let hint = format!("{self} is a symbolic link in this root filesystem: put a directory there");
        mount::openat2(root, &self.path, resolve, "target").hint_on(Errno::ELOOP, hint)
    }
    // ANCHOR_END: open

    /// Makes the place, and the directories above it, below `root`.
    fn make(&self, root: &Fd, directory: bool) -> Result<()> {
        let parent = self.parent();
        let above = if parent.path.as_os_str().is_empty() { root.duplicate()? } else { parent.open(root, true)? };
        let name = self.name();
        let made = if directory { mount::mkdirat(&above, name) } else { mount::mkfileat(&above, name) };
        made.hint_on(Errno::EEXIST, "a symbolic link that leads nowhere stands there")
            .hint_on(Errno::EROFS, "make it in the root filesystem, which is read-only from in here")
            .with_context(|| format!("cannot make {self} to mount something on"))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_normal_and_absolute() {
        assert_eq!(Place::asked(Path::new("/mnt//a/")).unwrap().to_string(), "/mnt/a");
        assert_eq!(Place::asked(Path::new("/mnt/a")).unwrap().depth(), 2);
    }

    #[test]
    fn other_places_are_refused() {
        for wrong in ["", "mnt", "/", "//", "/mnt/../etc", "/..", "/proc", "/proc/self/attr"] {
            assert!(Place::asked(Path::new(wrong)).is_err(), "{wrong:?}");
        }
    }
}
