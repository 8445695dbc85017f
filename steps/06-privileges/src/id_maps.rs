//! User namespaces (man 7 user_namespaces): root in the cell is an ordinary user outside, by a table that the kernel keeps.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use kernel::sys::clone::CloneFlags;
use kernel::sys::privilege;
use kernel::{Errno, Failure, Fd, Remedy, purpose};

use crate::capabilities::Set;
use crate::range::Range;
use crate::reservation::Reservation;
use crate::subordinate::SubordinateIds;
use crate::switches::Switch;

/// Who may write the table: the rules differ (man 7 user_namespaces, "Defining user and group ID mappings").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writer {
    /// We, for we have CAP_SETUID here.
    Us,
    /// newuidmap and newgidmap, which look into /etc/subuid what the machine's owner has set aside for us (man 1 newuidmap).
    Helpers,
    /// We, but only a single id, our own; and groups cannot be changed then.
    UsAlone,
}

/// The tables of a new user namespace, one for users and one for groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMaps {
    /// Users.
    pub users: Vec<Range>,
    /// Groups.
    pub groups: Vec<Range>,
    writer: Writer,
}

impl IdMaps {
    // ANCHOR: auto
    /// What suits who we are: root gives the cell ids that no user and no other cell has; root of a user namespace all that it
    /// has itself; an ordinary user what was set aside for that user, or, at the least, the user as the cell's root.
    pub fn auto() -> Result<(IdMaps, Option<Reservation>)> {
        let held = Set(privilege::capabilities()?.effective);
        if held.has("SETUID") && held.has("SETGID") {
            if owns_all_ids()? {
                let (reservation, users, groups) = Reservation::of_a_slot()?;
                let maps = IdMaps { users: vec![users], groups: vec![groups], writer: Writer::Us };
                return Ok((maps, Some(reservation)));
            }
            let [users, groups] =
                [read("/proc/self/uid_map")?, read("/proc/self/gid_map")?].map(|text| as_they_are(&text));
            return Ok((IdMaps { users, groups, writer: Writer::Us }, None));
        }
        refuse_where_forbidden()?;
        let (user, group) = (privilege::user(), privilege::group());
        let own = |id| Range { inside: 0, outside: id, count: 1 };
        let maps = match set_aside_for(user) {
            Some((users, groups)) if helpers_are_there() => {
                IdMaps { users: vec![own(user), users], groups: vec![own(group), groups], writer: Writer::Helpers }
            }
            _ => IdMaps { users: vec![own(user)], groups: vec![own(group)], writer: Writer::UsAlone },
        };
        Ok((maps, None))
    }
    // ANCHOR_END: auto

    /// Reserves the ids of a map that was typed, if any id of this machine may stand in it.
    ///
    /// # Errors
    /// As [`Reservation::of_typed`].
    pub fn reserve(&self) -> Result<Option<Reservation>> {
        let ours = self.is_ours_to_choose() && owns_all_ids()?;
        ours.then(|| Reservation::of_typed(&self.users, &self.groups)).transpose()
    }

    /// Reads `INSIDE:OUTSIDE:COUNT[,...]`, for users and groups alike.
    ///
    /// # Errors
    /// Not three numbers; nobody is root inside; two ranges that overlap; more than the kernel's 340 ranges.
    pub fn parse(text: &str) -> Result<IdMaps, Failure> {
        let refuse = |why: &str| {
            Failure::new(format!("--userns {text}: {why}"))
                .hint("auto, host, or INSIDE:OUTSIDE:COUNT such as 0:2000000000:65536")
        };
        let range = |part: &str| {
            let mut numbers = part.split(':').map(|number| number.parse::<u32>().ok());
            let range = Range {
                inside: numbers.next()??,
                outside: numbers.next()??,
                count: numbers.next()?.filter(|n| *n > 0)?,
            };
            let fits = |first: u32| first.checked_add(range.count).is_some();
            (numbers.next().is_none() && fits(range.inside) && fits(range.outside)).then_some(range)
        };
        let ranges: Option<Vec<Range>> = text.split(',').map(range).collect();
        let ranges = ranges.ok_or_else(|| refuse("that is no map of ids"))?;
        if !ranges.iter().any(|range| range.inside == 0) {
            return Err(refuse("nobody would be root in there, and the launch needs one"));
        }
        let overlap = |one: &Range, other: &Range, first: fn(&Range) -> u32| {
            first(one) < first(other) + other.count && first(other) < first(one) + one.count
        };
        let pairs =
            ranges.iter().enumerate().flat_map(|(at, one)| ranges[at + 1..].iter().map(move |other| (one, other)));
        if pairs.into_iter().any(|(one, other)| overlap(one, other, |r| r.inside) || overlap(one, other, |r| r.outside))
        {
            return Err(refuse("two of the ranges overlap"));
        }
        Ok(IdMaps::of(ranges.clone(), ranges))
    }

    /// These tables, written by the process that can: an ordinary user gives a single id himself, and more by the helpers.
    pub fn of(users: Vec<Range>, groups: Vec<Range>) -> IdMaps {
        let single = |ranges: &[Range]| ranges.len() == 1 && ranges[0].count == 1;
        let writer = match privilege::user() {
            0 => Writer::Us,
            _ if single(&users) && single(&groups) => Writer::UsAlone,
            _ => Writer::Helpers,
        };
        IdMaps { users, groups, writer }
    }

    /// Who the cell's root is on the host: user and group.
    pub fn root_outside(&self) -> Option<(u32, u32)> {
        self.outside((0, 0))
    }

    /// The numbers by which the host knows a user and a group of the cell.
    pub fn outside(&self, owner: (u32, u32)) -> Option<(u32, u32)> {
        let find = |ranges: &[Range], id: u32| ranges.iter().find_map(|range| range.outside_of(id));
        find(&self.users, owner.0).zip(find(&self.groups, owner.1))
    }

    /// Whether files of this user of the host's must be shown with other owners, to belong to a user of the cell, and can be.
    pub fn must_show_others(&self, user: u32) -> bool {
        self.is_ours_to_choose() && !self.changes_nothing() && !self.has_outside(user)
    }

    /// Whether an id on the host belongs to a user of the cell.
    pub fn has_outside(&self, user: u32) -> bool {
        self.users.iter().any(|range| (range.outside..=range.outside + (range.count - 1)).contains(&user))
    }

    /// Whether ids mean the same inside and outside.
    pub fn changes_nothing(&self) -> bool {
        self.users.iter().chain(&self.groups).all(|range| range.inside == range.outside)
    }

    /// Whether we, and not a helper, decide which ids: then we may also show files with other owners.
    pub fn is_ours_to_choose(&self) -> bool {
        self.writer == Writer::Us
    }

    /// A user namespace with these tables in which nobody lives: what an idmapped mount is made with (step 7).
    pub fn namespace(&self) -> Result<Fd> {
        purpose("a user namespace that only translates");
        let holder = namespaces::spawn(CloneFlags::CLONE_NEWUSER, || anyhow::bail!("it is only held"))?;
        self.write(holder.pid())?;
        Ok(privilege::user_namespace_of(holder.pid())?)
    }

    // ANCHOR: write
    /// Writes the tables of a child's user namespace. Only a process outside can, and only once.
    ///
    /// # Errors
    /// EPERM for ids that are not ours to give; EINVAL for ranges that overlap.
    ///
    /// # Shell: `echo 0 2013265920 65536 > /proc/PID/uid_map`
    pub fn write(&self, pid: i32) -> Result<()> {
        purpose("who is who: ids in the cell, and what they are on the host");
        if self.writer == Writer::Helpers {
            run_helper("newuidmap", pid, &self.users)?;
            return run_helper("newgidmap", pid, &self.groups);
        }
        if self.writer == Writer::UsAlone {
            // Else he could leave a group that is meant to shut him out (CVE-2014-8989).
            child_file(pid, "setgroups", "deny")?;
        }
        child_file(pid, "uid_map", &table(&self.users))?;
        child_file(pid, "gid_map", &table(&self.groups))
    }
    // ANCHOR_END: write
}

/// Some machines allow user namespaces to root only, each by another switch.
fn refuse_where_forbidden() -> Result<(), Failure> {
    let setting = |name: &str| fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).unwrap_or_default();
    if let Some(Switch { name, forbids, allows }) = Switch::that_forbids(setting) {
        let text = format!("a cell of an ordinary user needs a user namespace, and {name}={forbids} forbids those");
        return Err(Failure::new(text).hint(format!("as root, or: sudo sysctl -w {name}={allows}")));
    }
    Ok(())
}

fn table(ranges: &[Range]) -> String {
    let line = |range: &Range| format!("{} {} {}", range.inside, range.outside, range.count);
    ranges.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn child_file(pid: i32, file: &str, text: &str) -> Result<()> {
    privilege::write_of_child(pid, file, text)
        .hint_on(Errno::EPERM, "only ids that are ours can be given: --userns auto finds them")
        .hint_on(Errno::EINVAL, "the kernel does not take this map")
        .with_context(|| format!("cannot map ids ({})", text.replace('\n', ", ")))
}

fn run_helper(program: &str, pid: i32, ranges: &[Range]) -> Result<()> {
    let words = ranges.iter().flat_map(|range| [range.inside, range.outside, range.count].map(|n| n.to_string()));
    let output = Command::new(program).arg(pid.to_string()).args(words).output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ");
    Err(Failure::new(format!("{program} refuses: {said}"))
        .hint("what was set aside for you: grep $USER /etc/subuid")
        .into())
}

fn helpers_are_there() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    ["newuidmap", "newgidmap"].iter().all(|name| std::env::split_paths(&path).any(|folder| folder.join(name).is_file()))
}

/// The ids set aside for an ordinary user, by name or by number.
fn set_aside_for(user: u32) -> Option<(Range, Range)> {
    let passwd = fs::read("/etc/passwd").map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).ok();
    let name = passwd.and_then(|text| crate::user::name_of(&text, user));
    SubordinateIds::read().of_user(user, name.as_deref())
}

/// Whether this is the first user namespace, in which each id is itself: any of them may be given to a cell.
fn owns_all_ids() -> Result<bool> {
    Ok(is_whole(&read("/proc/self/uid_map")?) && is_whole(&read("/proc/self/gid_map")?))
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {path}: is /proc mounted?"))
}

/// Whether this is the table of the first user namespace, in which everybody is himself.
fn is_whole(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// All ids that we have ourselves, under the same numbers.
fn as_they_are(map: &str) -> Vec<Range> {
    let range = |line: &str| {
        let mut numbers = line.split_whitespace().map(|number| number.parse::<u32>().ok());
        let (inside, _, count) = (numbers.next()??, numbers.next()?, numbers.next()??);
        Some(Range { inside, outside: inside, count })
    };
    map.lines().filter_map(range).collect()
}

/// The number by which this process knows a user of a process's user namespace (man 7 user_namespaces, uid_map).
pub(crate) fn outside(pid: i32, uid: u32) -> Option<u32> {
    let map = std::fs::read_to_string(format!("/proc/{pid}/uid_map")).ok()?;
    let range = |line: &str| {
        let mut numbers = line.split_whitespace().map(|number| number.parse::<u32>().ok());
        Some(Range { inside: numbers.next()??, outside: numbers.next()??, count: numbers.next()?? })
    };
    map.lines().filter_map(range).find_map(|range| range.outside_of(uid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_as_they_are_typed() {
        let map = IdMaps::parse("0:100000:1000,1000:5000:1").unwrap();
        assert_eq!(table(&map.users), "0 100000 1000\n1000 5000 1");
        assert!(map.has_outside(100_999) && !map.has_outside(101_000) && map.has_outside(5000));
        for wrong in [
            "",
            "0",
            "0:1",
            "0:1:0",
            "1:1:1",
            "0:1:2:3",
            "a:b:c",
            "0:4294967295:2",
            "0:10:5,3:20:5",
            "0:10:5,5:12:5",
            "-1:0:1",
        ] {
            assert!(IdMaps::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn our_own_table() {
        assert!(is_whole("         0          0 4294967295\n"));
        assert!(!is_whole("0 1000 1\n"));
        assert_eq!(as_they_are("0 1000 1\n1 100000 65536\n")[1], Range { inside: 1, outside: 1, count: 65_536 });
    }
}
