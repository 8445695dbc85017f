//! A mount of the configuration, and its options: the words of mount(8).

use std::path::Path;

use crate::mounts::{MountSource, Owners, PlannedMount};
use anyhow::Result;
use kernel::Failure;
use kernel::sys::mount::{Attributes, Depth, Propagation};
use pivot_root::Place;
use privileges::IdMaps;

use super::ranges;
use crate::spec;

/// Words that forbid something, and their opposites: what is set, what is cleared.
const ATTRIBUTES: [(&str, Attributes, Attributes); 19] = [
    ("defaults", NONE, NONE),
    ("ro", Attributes::RDONLY, NONE),
    ("rw", NONE, Attributes::RDONLY),
    ("nosuid", Attributes::NOSUID, NONE),
    ("suid", NONE, Attributes::NOSUID),
    ("nodev", Attributes::NODEV, NONE),
    ("dev", NONE, Attributes::NODEV),
    ("noexec", Attributes::NOEXEC, NONE),
    ("exec", NONE, Attributes::NOEXEC),
    ("noatime", Attributes::NOATIME, NONE),
    ("atime", NONE, Attributes::NOATIME),
    ("strictatime", Attributes::STRICTATIME, NONE),
    ("nostrictatime", NONE, Attributes::STRICTATIME),
    ("relatime", NONE, Attributes::TIMES), // it is the number 0 among the times
    ("norelatime", NONE, NONE),
    ("nodiratime", Attributes::NODIRATIME, NONE),
    ("diratime", NONE, Attributes::NODIRATIME),
    ("nosymfollow", Attributes::NOSYMFOLLOW, NONE),
    ("symfollow", NONE, Attributes::NOSYMFOLLOW),
];
const NONE: Attributes = Attributes::empty();

/// Words that concern a whole file system: its driver gets them as options.
const OF_THE_FILE_SYSTEM: [&str; 7] = ["sync", "async", "dirsync", "lazytime", "nolazytime", "mand", "nomand"];

/// Words of mount(2) that fsconfig(2) has no key for: how loud the kernel's log is, and whether files have a version, which is the
/// file system's own affair by now. A runtime must know them (config.md, Linux mount options); there is nothing to do.
const WITHOUT_EFFECT: [&str; 4] = ["silent", "loud", "iversion", "noiversion"];

/// Words about propagation.
const PROPAGATIONS: [(&str, Propagation, Depth); 8] = [
    ("private", Propagation::Private, Depth::One),
    ("rprivate", Propagation::Private, Depth::Recursive),
    ("slave", Propagation::Slave, Depth::One),
    ("rslave", Propagation::Slave, Depth::Recursive),
    ("shared", Propagation::Shared, Depth::One),
    ("rshared", Propagation::Shared, Depth::Recursive),
    ("unbindable", Propagation::Unbindable, Depth::One),
    ("runbindable", Propagation::Unbindable, Depth::Recursive),
];

/// All words that are understood: what `features` tells.
pub fn known_options() -> Vec<String> {
    let recursive = ATTRIBUTES.iter().filter(|(word, ..)| *word != "defaults").map(|(word, ..)| format!("r{word}"));
    let plain = ATTRIBUTES.iter().map(|(word, ..)| (*word).to_owned());
    let propagations = PROPAGATIONS.iter().map(|(word, ..)| (*word).to_owned());
    let others = ["bind", "rbind", "idmap", "ridmap", "tmpcopyup"].into_iter();
    let others = others.chain(OF_THE_FILE_SYSTEM).chain(WITHOUT_EFFECT).map(str::to_owned);
    let mut all: Vec<String> = plain.chain(recursive).chain(propagations).chain(others).collect();
    all.sort();
    all
}

/// A word about propagation.
pub fn propagation(word: &str) -> Option<(Propagation, Depth)> {
    PROPAGATIONS.iter().find(|(known, ..)| *known == word).map(|(_, propagation, depth)| (*propagation, *depth))
}

/// Plans a mount.
///
/// # Errors
/// An invalid place; a bind mount without a source, or whose source is not there; another file system for /proc.
pub fn plan(asked: &spec::Mount, bundle: &Path) -> Result<PlannedMount> {
    let place = Place::configured(Path::new(&asked.destination))?;
    let kind = asked.kind.as_deref().unwrap_or("bind");
    let mut mount = PlannedMount {
        source: MountSource::New { kind: kind.to_owned(), options: Vec::new() },
        place,
        set: NONE,
        clear: NONE,
        set_below: NONE,
        clear_below: NONE,
        propagation: None,
        copy_up: false,
    };
    let mut options: Vec<String> = named_source(asked, kind).into_iter().collect();
    for word in &asked.options {
        mount = with_option(mount, word, &mut options);
    }
    if asked.is_bind() || asked.kind.is_none() {
        let source = asked.source.as_ref().ok_or_else(|| Failure::new("source: a bind mount needs one"))?;
        let tree = bundle.join(source);
        if let Err(error) = tree.symlink_metadata() {
            let text = format!("source: cannot open {}: {}", tree.display(), kernel::outside::reason(error));
            return Err(Failure::new(text).hint("what is not there cannot be shown in the container").into());
        }
        let depth = if asked.has_option("rbind") { Depth::Recursive } else { Depth::One };
        mount.source = MountSource::Bind { tree, depth, owners: owners(asked) };
    } else {
        if owners(asked).is_some() {
            let text = "only bind mounts can show other owners here";
            return Err(Failure::new(text).hint("leave uidMappings, idmap and ridmap out").into());
        }
        mount.source = MountSource::New { kind: kind.to_owned(), options };
    }
    if mount.place.is("proc") && kind != "proc" && !asked.is_bind() {
        return Err(Failure::new("nothing but proc can be mounted on /proc").hint("\"type\": \"proc\"").into());
    }
    Ok(mount)
}

/// The option that says what the table of mounts calls its source.
fn named_source(asked: &spec::Mount, kind: &str) -> Option<String> {
    let name = asked.source.as_deref().unwrap_or(kind);
    (!name.is_empty()).then(|| format!("source={name}"))
}

/// Whose files it shows, if they are not to be the host's own.
fn owners(asked: &spec::Mount) -> Option<Owners> {
    let own = !asked.uid_mappings.is_empty();
    let recursive = asked.has_option("ridmap");
    let maps = own.then(|| IdMaps::of(ranges(&asked.uid_mappings), ranges(&asked.gid_mappings)));
    let wanted = own || recursive || asked.has_option("idmap");
    wanted.then_some(Owners { maps, depth: if recursive { Depth::Recursive } else { Depth::One } })
}

fn with_option(mut mount: PlannedMount, word: &str, options: &mut Vec<String>) -> PlannedMount {
    let attribute = |word: &str| ATTRIBUTES.iter().find(|(known, ..)| *known == word);
    if let Some((_, set, clear)) = attribute(word) {
        mount.set = with_attribute(mount.set.difference(*clear), *set);
        mount.clear = mount.clear.difference(*set).union(*clear);
    } else if let Some(change) = propagation(word) {
        mount.propagation = Some(change);
    } else if let Some((name, set, clear)) = word.strip_prefix('r').and_then(attribute) {
        mount = with_option(mount, name, options); // the mount itself is one of them, and each word takes the place of those before
        mount.set_below = with_attribute(mount.set_below.difference(*clear), *set);
        mount.clear_below = mount.clear_below.difference(*set).union(*clear);
    } else if word == "tmpcopyup" {
        mount.copy_up = true;
    } else if !["bind", "rbind", "remount", "idmap", "ridmap"].contains(&word) && !WITHOUT_EFFECT.contains(&word) {
        options.push(word.to_owned());
    }
    mount
}

/// When the time of an access is noted is a number, and not a bit for each word: the last word takes the place of the one before.
fn with_attribute(before: Attributes, set: Attributes) -> Attributes {
    if set.intersects(Attributes::TIMES) { before.difference(Attributes::TIMES).union(set) } else { before.union(set) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: Option<&str>, options: &[&str]) -> spec::Mount {
        spec::Mount {
            destination: "/mnt".to_owned(),
            kind: kind.map(str::to_owned),
            source: Some("/etc".to_owned()),
            options: options.iter().map(|word| (*word).to_owned()).collect(),
            ..spec::Mount::default()
        }
    }

    #[test]
    fn the_last_word_counts() {
        let planned = plan(&mount(Some("tmpfs"), &["ro", "nosuid", "rw", "size=1m", "rro"]), Path::new("/")).unwrap();
        let read_only = Attributes::RDONLY;
        assert_eq!((planned.set, planned.clear), (Attributes::NOSUID.union(read_only), Attributes::empty()), "by rro");
        assert_eq!(planned.set_below, read_only);
        let planned = plan(&mount(Some("tmpfs"), &["rro", "rw"]), Path::new("/")).unwrap();
        assert_eq!((planned.set, planned.clear, planned.set_below), (Attributes::empty(), read_only, read_only));
        let planned = plan(&mount(Some("tmpfs"), &["ro", "size=1m", "rro"]), Path::new("/")).unwrap();
        let MountSource::New { options, .. } = planned.source else { panic!("it is a new file system") };
        assert_eq!(options, ["source=/etc", "size=1m"]);
    }

    #[test]
    fn the_last_word_about_access_times_counts() {
        let words = ["strictatime", "noatime", "nodiratime", "rnoatime", "rstrictatime"];
        let planned = plan(&mount(Some("tmpfs"), &words), Path::new("/")).unwrap();
        assert_eq!(planned.set, Attributes::STRICTATIME.union(Attributes::NODIRATIME), "it is one of those below, too");
        assert_eq!(planned.set_below, Attributes::STRICTATIME);
    }

    #[test]
    fn binds_are_told_by_type_or_option() {
        for (kind, options) in [(Some("bind"), &["rbind"][..]), (None, &[]), (Some("none"), &["bind"])] {
            let planned = plan(&mount(kind, options), Path::new("/")).unwrap();
            assert!(matches!(planned.source, MountSource::Bind { .. }), "{kind:?} {options:?}");
        }
        let mut nowhere = mount(Some("bind"), &[]);
        nowhere.source = Some("/nosuch".to_owned());
        let refused = plan(&nowhere, Path::new("/")).unwrap_err().to_string();
        assert_eq!(refused, "source: cannot open /nosuch: no such file or directory");
    }

    #[test]
    fn proc_is_proc() {
        let mut fake = mount(Some("tmpfs"), &[]);
        fake.destination = "/proc".to_owned();
        assert!(plan(&fake, Path::new("/")).is_err());
        fake.destination = "/proc/self/attr".to_owned();
        assert!(plan(&fake, Path::new("/")).is_err());
    }
}
