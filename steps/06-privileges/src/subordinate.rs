//! Ids that are set aside: /etc/subuid and /etc/subgid say which ids each user may give to its cells (man 5 subuid).
//!
//! An id that nobody has set aside is not free: the next user of the machine may be given it tomorrow, and would then signal
//! the cell's processes and own its files. So a cell of root's takes ids that stand in these files under a name of our own.

use std::fs;

use anyhow::Result;
use kernel::Failure;

use crate::range::Range;

const USERS: &str = "/etc/subuid";
const GROUPS: &str = "/etc/subgid";

// ANCHOR: cells
/// The name under which ids are set aside for root's cells; `scripts/bootstrap` writes it.
const OURS: &str = "cellblock";
/// How many ids a cell has: as many as a distribution uses.
pub const COUNT: u32 = 65_536;
/// Where nothing is set aside: from here to the end, useradd, systemd and SSSD give nothing to anybody.
const UNCLAIMED: std::ops::Range<u32> = 2_013_265_920..2_147_352_576;
// ANCHOR_END: cells

/// A line of one of the files: `alice:100000:65536`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    owner: String,
    first: u32,
    count: u32,
}

/// All lines of both files.
#[derive(Debug, Default)]
pub struct SubordinateIds {
    users: Vec<Entry>,
    groups: Vec<Entry>,
}

/// The first ids on the host that a cell can have, one for users and one for groups.
pub type Slot = (u32, u32);

impl SubordinateIds {
    /// Reads both files. One that is not there sets nothing aside.
    pub fn read() -> SubordinateIds {
        let read =
            |path: &str| fs::read(path).map(|bytes| entries(&String::from_utf8_lossy(&bytes))).unwrap_or_default();
        SubordinateIds { users: read(USERS), groups: read(GROUPS) }
    }

    /// What an ordinary user may give: a range of users and one of groups.
    pub fn of_user(&self, uid: u32, name: Option<&str>) -> Option<(Range, Range)> {
        let is_theirs = |entry: &&Entry| Some(&*entry.owner) == name || entry.owner.parse() == Ok(uid);
        let find = |entries: &[Entry]| {
            let found = entries.iter().find(is_theirs);
            found.map(|entry| entry.range(1))
        };
        find(&self.users).zip(find(&self.groups))
    }

    /// Whether both files set something aside for root's cells.
    pub fn has_ours(&self) -> bool {
        [&self.users, &self.groups].iter().all(|entries| entries.iter().any(|entry| entry.owner == OURS))
    }

    /// The first id after all that is set aside, and not below where useradd begins.
    pub fn first_free(&self) -> u32 {
        let ends = self.users.iter().chain(&self.groups).map(|entry| entry.first.saturating_add(entry.count));
        ends.max().unwrap_or(0).max(100_000)
    }

    /// Where cells of root's can lie: in what is set aside under our name, or where nobody claims anything.
    ///
    /// # Errors
    /// What is set aside under our name is another user's as well, stands in one of the files only, or is too small.
    pub fn slots(&self) -> Result<Vec<Slot>, Failure> {
        let ours = [(USERS, &self.users), (GROUPS, &self.groups)].map(|(file, entries)| slots_of(file, entries));
        match ours {
            [Ok(users), Ok(groups)] if users.is_empty() && groups.is_empty() => Ok(self.unclaimed()),
            [Ok(users), Ok(groups)] if !users.is_empty() && !groups.is_empty() => {
                Ok(users.into_iter().zip(groups).collect())
            }
            [Ok(users), Ok(_)] => {
                let (file, other) = if users.is_empty() { (GROUPS, USERS) } else { (USERS, GROUPS) };
                let text = format!("{file} sets ids aside for {OURS}, and {other} does not");
                Err(Failure::new(text).hint(format!("grep ^{OURS}: {file}; the same line in {other}")))
            }
            [Err(failure), _] | [_, Err(failure)] => Err(failure),
        }
    }

    fn unclaimed(&self) -> Vec<Slot> {
        let is_free = |entries: &[Entry], first: u32| !entries.iter().any(|entry| entry.overlaps(&slot(first)));
        let firsts = UNCLAIMED.step_by(COUNT as usize);
        firsts
            .filter(|first| is_free(&self.users, *first) && is_free(&self.groups, *first))
            .map(|id| (id, id))
            .collect()
    }

    /// Refuses ranges that root has typed and that are another user's. Root may give what is set aside for root, or for us.
    ///
    /// # Errors
    /// The range, and the user that it is set aside for.
    pub fn refuse_if_of_others(&self, users: &[Range], groups: &[Range]) -> Result<(), Failure> {
        for (file, entries, ranges) in [(USERS, &self.users, users), (GROUPS, &self.groups, groups)] {
            let others = entries.iter().filter(|entry| ![OURS, "root", "0"].contains(&&*entry.owner));
            for entry in others {
                if let Some(range) = ranges.iter().find(|range| entry.overlaps(range)) {
                    return Err(claimed(file, entry, range).hint("--userns auto takes ids that no other user has"));
                }
            }
        }
        Ok(())
    }
}

/// The slots that are set aside under our name in one of the files.
fn slots_of(file: &str, entries: &[Entry]) -> Result<Vec<u32>, Failure> {
    let (ours, others): (Vec<&Entry>, Vec<&Entry>) = entries.iter().partition(|entry| entry.owner == OURS);
    for entry in &ours {
        let hint = format!("give {OURS} a range of its own in {file}; scripts/bootstrap finds one");
        if let Some(other) = others.iter().find(|other| other.overlaps(&entry.range(0))) {
            return Err(claimed(file, other, &entry.range(0)).hint(hint));
        }
        if entry.count < COUNT || entry.first == 0 || entry.first.checked_add(entry.count).is_none() {
            let text = format!("{file}: {OURS}:{}:{}: a cell needs {COUNT} ids", entry.first, entry.count);
            return Err(Failure::new(text).hint(hint));
        }
    }
    let firsts = |entry: &Entry| (0..entry.count / COUNT).map(move |slot| slot * COUNT).collect::<Vec<_>>();
    Ok(ours.iter().flat_map(|entry| firsts(entry).into_iter().map(|offset| entry.first + offset)).collect())
}

fn claimed(file: &str, entry: &Entry, range: &Range) -> Failure {
    let last = u64::from(range.outside) + u64::from(range.count) - 1;
    Failure::new(format!("the ids {} to {last} are set aside for {} in {file}: {entry}", range.outside, entry.owner))
}

fn slot(first: u32) -> Range {
    Range { inside: 0, outside: first, count: COUNT }
}

impl Entry {
    fn range(&self, inside: u32) -> Range {
        Range { inside, outside: self.first, count: self.count }
    }

    fn overlaps(&self, range: &Range) -> bool {
        self.range(0).overlaps(range)
    }
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.owner, self.first, self.count)
    }
}

fn entries(text: &str) -> Vec<Entry> {
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let owner = fields.next()?.trim().to_owned();
        Some(Entry { owner, first: fields.next()?.trim().parse().ok()?, count: fields.next()?.trim().parse().ok()? })
    };
    text.lines().filter_map(entry).filter(|entry| entry.count > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(text: &str) -> SubordinateIds {
        SubordinateIds { users: entries(text), groups: entries(text) }
    }

    #[test]
    fn what_is_set_aside_for_a_user() {
        let text = "root:1:1\nalice:100000:65536\n1001:200000:10\nbob:300000:0\n";
        let range = |outside, count| Range { inside: 1, outside, count };
        assert_eq!(both(text).of_user(1000, Some("alice")), Some((range(100_000, 65_536), range(100_000, 65_536))));
        assert_eq!(both(text).of_user(1001, None), Some((range(200_000, 10), range(200_000, 10))));
        assert_eq!(both(text).of_user(1002, Some("bob")), None);
        assert_eq!(both(text).of_user(1002, None), None);
        assert_eq!(both("alice:100000:65536\n1001:165536:1000\n").first_free(), 166_536);
        assert_eq!(both("").first_free(), 100_000);
        assert!(both("alice:1:1\ncellblock:3000000:65536\n").has_ours() && !both("alice:1:1\n").has_ours());
        assert!(!SubordinateIds { users: entries("cellblock:3000000:65536"), groups: Vec::new() }.has_ours());
    }

    #[test]
    fn our_entry_is_cut_into_slots() {
        let slots = both("alice:100000:65536\ncellblock:3000000:131072\ncellblock:5000000:70000\n").slots().unwrap();
        assert_eq!(slots, [(3_000_000, 3_000_000), (3_065_536, 3_065_536), (5_000_000, 5_000_000)]);
        let own =
            SubordinateIds { users: entries("cellblock:3000000:65536"), groups: entries("cellblock:4000000:65536") };
        assert_eq!(own.slots().unwrap(), [(3_000_000, 4_000_000)]);
    }

    #[test]
    fn without_our_entry_a_slot_is_nobodys() {
        let all = both("").slots().unwrap();
        assert_eq!(
            (all.len(), all[0], all.last()),
            (2046, (2_013_265_920, 2_013_265_920), Some(&(2_147_287_040, 2_147_287_040)))
        );
        let fewer = SubordinateIds { users: Vec::new(), groups: entries("root:2013265921:65536\n") }.slots().unwrap();
        assert_eq!((fewer.len(), fewer[0].0), (2044, 2_013_265_920 + 2 * COUNT));
        assert!(both("containers:2000000000:200000000\n").slots().unwrap().is_empty());
    }

    #[test]
    fn an_entry_that_cannot_be_used_is_refused() {
        for (text, word) in [
            ("cellblock:100000:65536\nalice:165535:65536\n", "alice"),
            ("cellblock:100000:65535\n", "needs"),
            ("cellblock:4294940000:65536\n", "needs"),
            ("cellblock:0:65536\n", "needs"),
        ] {
            let failure = both(text).slots().unwrap_err().to_string();
            assert!(failure.contains(word), "{text}: {failure}");
        }
        let one = SubordinateIds { users: entries("cellblock:3000000:65536"), groups: Vec::new() };
        assert!(one.slots().unwrap_err().to_string().contains("/etc/subgid does not"));
    }

    #[test]
    fn a_typed_map_keeps_off_what_others_have() {
        let map = |outside, count| [Range { inside: 0, outside, count }];
        let set_aside = both("alice:100000:65536\nroot:1000000:65536\ncellblock:3000000:65536\n");
        let refused = |outside, count| set_aside.refuse_if_of_others(&map(outside, count), &[]).is_err();
        assert!(refused(100_000, 65_536) && refused(165_535, 1) && refused(0, 100_001));
        assert!(!refused(0, 65_536) && !refused(165_536, 1) && !refused(1_000_000, 65_536) && !refused(3_000_000, 1));
        assert!(set_aside.refuse_if_of_others(&[], &map(100_000, 1)).is_err());
    }
}
