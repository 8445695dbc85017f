//! What the user asks to have mounted: `--volume` and `--tmpfs`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kernel::sys::mount::{self, Attributes, Depth};
use kernel::{Errno, Failure, Fd, Remedy, purpose};

use crate::Planned;
use crate::file_systems::file_system;
use crate::place::Place;
use crate::trees::TOO_FEW;

/// A file or directory of the host's that is seen in the cell.
#[derive(Debug)]
pub struct Volume {
    /// On the host.
    pub source: PathBuf,
    /// In the cell.
    pub place: Place,
    /// It cannot be written.
    pub read_only: bool,
}

/// A file system in memory.
#[derive(Debug)]
pub struct Tmpfs {
    /// In the cell.
    pub place: Place,
    /// As it was typed: `64m`. None: half of the memory.
    pub size: Option<String>,
}

impl Volume {
    /// Reads `SRC:DST`, `SRC:DST:ro` or `SRC:DST:rw`.
    pub fn parse(text: &OsStr) -> Result<Volume, Failure> {
        let refuse = |why: &str| Failure::new(format!("--volume {text:?}: {why}")).hint("write --volume SRC:DST[:ro]");
        let parts: Vec<&[u8]> = text.as_bytes().split(|&byte| byte == b':').collect();
        let (source, place, read_only) = match parts[..] {
            [source, place] | [source, place, b"rw"] => (source, place, false),
            [source, place, b"ro"] => (source, place, true),
            [_] => return Err(refuse("it has no destination")),
            _ => return Err(refuse("the third part is ro, rw or nothing")),
        };
        let (source, place) = (Path::new(OsStr::from_bytes(source)), Path::new(OsStr::from_bytes(place)));
        if let Err(error) = source.metadata() {
            return Err(refuse(&format!("cannot open {}: {error}", source.display())));
        }
        Ok(Volume { source: source.to_owned(), place: Place::asked(place)?, read_only })
    }

    /// A second mount of the source, with all that is mounted below it.
    pub(crate) fn open(&self) -> Result<Fd> {
        purpose("a volume: a second mount of a tree that the host has already");
        let source = mount::open_path(&self.source, "source")
            .hint_on(Errno::EMFILE, TOO_FEW)
            .with_context(|| format!("cannot open {}", self.source.display()))?;
        Ok(mount::open_tree(&source, Depth::Recursive, "volume").hint_on(Errno::EMFILE, TOO_FEW)?)
    }

    // ANCHOR: volume
    /// Forbids what is not to be done in it.
    ///
    /// # Shell: `mount --rbind -o ro SRC DST`
    pub(crate) fn mount(&self, copy: Fd) -> Result<Planned> {
        if self.read_only {
            purpose("a volume that can only be read");
            mount::mount_setattr(&copy, Depth::Recursive, Attributes::RDONLY)?;
        }
        Ok(Planned { what: "place the volume", mount: copy, place: self.place.clone() })
    }
    // ANCHOR_END: volume
}

impl Tmpfs {
    /// Reads `DST` or `DST:size=SIZE`, SIZE in bytes or with k, m, g, or in % of the memory.
    pub fn parse(text: &OsStr) -> Result<Tmpfs, Failure> {
        let refuse = |why: &str| Failure::new(format!("--tmpfs {text:?}: {why}")).hint("write --tmpfs DST[:size=64m]");
        let (place, size) = match text.to_str().ok_or_else(|| refuse("it is not UTF-8"))?.split_once(':') {
            None => (text.to_str().unwrap_or_default(), None),
            Some((place, option)) => {
                let size = option.strip_prefix("size=").ok_or_else(|| refuse("the option is size"))?;
                if !is_size(size) {
                    return Err(refuse("the size is a number above 0, and k, m, g or % behind it"));
                }
                (place, Some(size.to_owned()))
            }
        };
        Ok(Tmpfs { place: Place::asked(Path::new(place))?, size })
    }

    /// A new file system, empty, which lives in memory and swap (man 5 tmpfs).
    ///
    /// # Shell: `mount -t tmpfs -o size=64m,mode=1777 tmpfs DST`
    pub(crate) fn mount(&self) -> Result<Planned> {
        purpose("an empty file system in memory");
        let attributes = Attributes::NOSUID.union(Attributes::NODEV);
        let fresh = file_system("tmpfs", &self.options(), attributes, "tmpfs")?;
        Ok(Planned { what: "place the file system in memory", mount: fresh, place: self.place.clone() })
    }

    /// As `mount -o` takes them.
    pub fn options(&self) -> Vec<String> {
        let size = self.size.iter().map(|size| format!("size={size}"));
        std::iter::once("mode=1777".to_owned()).chain(size).collect()
    }
}

fn is_size(text: &str) -> bool {
    let digits = text.trim_end_matches(|unit: char| "kmg%".contains(unit.to_ascii_lowercase()));
    text.len() - digits.len() <= 1 && digits.parse::<u64>().is_ok_and(|size| size > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_that_work() {
        let volume = Volume::parse(OsStr::new("/etc:/mnt/etc:ro")).unwrap();
        assert_eq!((volume.place.to_string().as_str(), volume.read_only), ("/mnt/etc", true));
        assert!(!Volume::parse(OsStr::new("/etc:/mnt")).unwrap().read_only);
    }

    #[test]
    fn volumes_that_do_not() {
        for wrong in
            ["", "/etc", "/etc:", ":/mnt", "/etc:mnt", "/etc:/", "/etc:/mnt:rx", "/nosuch:/mnt", "/etc:/a:ro:b"]
        {
            assert!(Volume::parse(OsStr::new(wrong)).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn sizes() {
        for right in ["/mnt", "/mnt:size=1", "/mnt:size=64m", "/mnt:size=50%", "/mnt:size=2G"] {
            assert!(Tmpfs::parse(OsStr::new(right)).is_ok(), "{right:?}");
        }
        for wrong in
            ["mnt", "/mnt:", "/mnt:64m", "/mnt:size=", "/mnt:size=0", "/mnt:size=1mm", "/mnt:size=-1", "/mnt:size=m"]
        {
            assert!(Tmpfs::parse(OsStr::new(wrong)).is_err(), "{wrong:?}");
        }
    }
}
