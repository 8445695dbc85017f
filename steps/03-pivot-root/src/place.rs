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
    /// is one of a few files that tell of the machine: another covered file could mislead the runtime (CVE-2025-52881).
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
        let below = normal(path);
        let refuse = |why: &str| Err(Failure::new(format!("nothing can be mounted on {}: {why}", path.display())));
        match below.strip_prefix("proc") {
            _ if below.as_os_str().is_empty() => return refuse("it is the root").hint("root.path says what that is"),
            Ok(inside) if inside.as_os_str().is_empty() || IN_PROC.iter().any(|known| Path::new(known) == inside) => {}
            Ok(_) => return refuse("/proc belongs to the kernel").hint(format!("only {}", IN_PROC.join(" "))),
            Err(_) => {}
        }
        Ok(Place { links: links_to(&below), path: below })
    }

    /// One that is to be masked or made read-only. In /proc, /sys and /dev no symbolic link may be on the way; elsewhere the
    /// image has its own (/var/run leads to /run), and what they lead to is meant.
    pub fn closed(path: &str) -> Place {
        let below = normal(Path::new(path));
        Place { links: links_to(&below), path: below }
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

    /// Whether it is that one, or lies below it.
    pub fn lies_in(&self, path: &str) -> bool {
        self.path.starts_with(path)
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
        self.refuse_proc(&place)?;
        Ok(place)
    }

    /// The place to be masked or made read-only, if it is there. The root itself cannot be.
    pub fn find_closed(&self, root: &Fd) -> Result<Option<Fd>, Failure> {
        if self.path.as_os_str().is_empty() {
            return Ok(None);
        }
        let found = self.find(root)?;
        found.iter().try_for_each(|place| self.refuse_proc(place))?;
        Ok(found)
    }

    /// A link of the image's may not lead into /proc: what is mounted there could swallow what we write (CVE-2019-16884).
    fn refuse_proc(&self, place: &Fd) -> Result<(), Failure> {
        if self.links == Links::Followed && mount::is_procfs(place)? {
            return Err(Failure::new(format!("nothing can be mounted on {self}: it leads into /proc")));
        }
        Ok(())
    }

    /// The place if it is there.
    pub fn find(&self, root: &Fd) -> Result<Option<Fd>, Failure> {
        match self.resolve(root) {
            Err(failure) if failure.errno() == Some(Errno::ENOENT) => Ok(None),
            found => found.map(Some),
        }
    }

    /// The place as a descriptor. From here on no other can be put in its stead.
    fn resolve(&self, root: &Fd) -> Result<Fd, Failure> {
        if self.path.as_os_str().is_empty() {
            return root.duplicate(); // openat2 takes no empty path
        }
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
        let above = self.parent().open(root, true)?;
        let name = self.name();
        let made = if directory { mount::mkdirat(&above, name) } else { mount::mkfileat(&above, name) };
        match made {
            // A link without an end stands there (systemd's /etc/resolv.conf, say): its end is made instead.
            Err(refused) if refused.errno() == Some(Errno::EEXIST) && self.links == Links::Followed => {
                self.end(root)?.open(root, directory).map(drop)
            }
            made => made
                .hint_on(Errno::EROFS, "make it in the root filesystem, which is read-only from in here")
                .with_context(|| format!("cannot make {self} to mount something on")),
        }
    }

    /// Where the symbolic links on its way lead in the end, below `root`, whether or not that is there. The result has no
    /// link in it, and none is followed when it is made: one that appears meanwhile is refused.
    fn end(&self, root: &Fd) -> Result<Place> {
        const MOST_LINKS: usize = 40; // as the kernel has it (man 7 path_resolution)
        let (mut end, mut links) = (PathBuf::new(), 0);
        let mut ahead: Vec<PathBuf> = parts(&self.path);
        while let Some(part) = ahead.pop() {
            match part.components().next() {
                Some(Component::Normal(name)) => end.push(name),
                Some(Component::ParentDir) => drop(end.pop()),
                Some(Component::RootDir) => end.clear(),
                _ => {}
            }
            if let Some(target) = link_at(root, &end).with_context(|| format!("cannot open {self}"))? {
                links += 1;
                anyhow::ensure!(links <= MOST_LINKS, "cannot open {self}: too many symbolic links");
                end.pop();
                ahead.extend(parts(&target));
            }
        }
        Ok(Place { path: end, links: Links::Refused })
    }
}

/// Where the link at `path` leads; none: what is there is no link, or nothing is.
fn link_at(root: &Fd, path: &Path) -> Result<Option<PathBuf>, Failure> {
    if path.as_os_str().is_empty() {
        return Ok(None); // the root
    }
    match mount::link_below(root, path) {
        Err(missing) if missing.errno() == Some(Errno::ENOENT) => Ok(None),
        found => found,
    }
}

/// The parts of a path, the last one first.
fn parts(path: &Path) -> Vec<PathBuf> {
    path.components().rev().map(|part| PathBuf::from(part.as_os_str())).collect()
}

/// A path below the root, without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut below = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => below.push(name),
            Component::ParentDir => drop(below.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    below
}

/// What is the kernel's own has no symbolic link on its way.
fn links_to(below: &Path) -> Links {
    let is_system = ["proc", "sys", "dev"].iter().any(|top| below.starts_with(top));
    if is_system { Links::Refused } else { Links::Followed }
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
