//! Device rules as a configuration lists them; step 5 has a fixed list ([`cgroups::devices`]). A rule allows or denies, by the
//! device's kind, its numbers and the access that is wanted. Of the rules that fit, the last one counts. Without one: denied.
//!
//! v2's program asks them from the last to the first. v1's lists know no order, only exceptions from a default: there the
//! exceptions that are left in the end are found first, and rules that have no such form are refused.

use anyhow::{Context, Result};
use kernel::sys::bpf::{self, Instruction};
use kernel::sys::cgroup;
use kernel::{Failure, purpose};

use super::Cgroup;
use crate::spec::DeviceRule;
pub use crate::spec::DeviceRuleKind as Kind;
use cgroups::devices::{KIND, MAJOR, MINOR, answer, instruction, mask, question, read_wanted, skip_unless, when};

/// A rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Allowed, or denied.
    pub allow: bool,
    /// Which kind of device. As in the kernel, a rule for all kinds is one for all devices and all access.
    pub kind: Kind,
    /// Major number; none is any.
    pub major: Option<u32>,
    /// Minor number; none is any.
    pub minor: Option<u32>,
    /// What for.
    pub access: Access,
}

/// What is wanted of a device: a set of three (BPF_DEVCG_ACC_*).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access(u8);

impl Access {
    /// To make a node, to read, to write.
    pub const ALL: Access = Access(7);
    const LETTERS: [(char, u8); 3] = [('m', 1), ('r', 2), ('w', 4)];

    /// From letters: `rwm`.
    ///
    /// # Errors
    /// Another letter.
    pub fn parse(letters: &str) -> Result<Access, Failure> {
        let bit = |letter: char| Access::LETTERS.iter().find(|(known, _)| *known == letter).map(|(_, bit)| *bit);
        let bits: Option<u8> = letters.chars().map(bit).try_fold(0, |all, bit| Some(all | bit?));
        bits.map(Access).ok_or_else(|| Failure::new(format!("{letters:?} is not made of r, w and m")))
    }

    fn letters(self) -> String {
        Access::LETTERS.iter().filter(|(_, bit)| self.0 & bit != 0).map(|(letter, _)| *letter).collect()
    }
}

/// What every container may use, whatever its configuration says: the lesson's devices, and to make any node.
fn harmless() -> Vec<Rule> {
    let any = |kind| Rule { allow: true, kind, major: None, minor: None, access: Access(1) };
    let device = |(major, minor): &(i32, Option<i32>)| Rule {
        allow: true,
        kind: Kind::Character,
        major: Some(*major as u32),
        minor: minor.map(|minor| minor as u32),
        access: Access::ALL,
    };
    [any(Kind::Character), any(Kind::Block)].into_iter().chain(cgroups::devices::ALLOWED.iter().map(device)).collect()
}

/// The rules of a configuration, and after them the devices that every container may use, as every runtime adds them. Without any
/// rule, no other device may be used.
///
/// # Errors
/// Letters that are no access.
pub fn of_configuration(asked: &[DeviceRule]) -> Result<Vec<Rule>, Failure> {
    let mut rules: Vec<Rule> = asked.iter().map(Rule::parse).collect::<Result<_, Failure>>()?;
    if rules.is_empty() {
        rules.push(Rule { allow: false, kind: Kind::All, major: None, minor: None, access: Access::ALL });
    }
    rules.extend(harmless());
    Ok(rules)
}

impl Rule {
    /// A rule as the configuration has it, where -1 is any number.
    fn parse(asked: &DeviceRule) -> Result<Rule, Failure> {
        let number = |number: Option<i64>| number.and_then(|number| u32::try_from(number).ok());
        Ok(Rule {
            allow: asked.allow,
            kind: asked.kind.unwrap_or(Kind::All),
            major: number(asked.major),
            minor: number(asked.minor),
            access: asked.access.as_deref().map_or(Ok(Access::ALL), Access::parse)?,
        })
    }

    /// Whether all devices and all access that `other` is about are this one's, too.
    fn covers(&self, other: &Rule) -> bool {
        let all = |own: Option<u32>, other: Option<u32>| own.is_none() || own == other;
        (self.kind == Kind::All || self.kind == other.kind)
            && all(self.major, other.major)
            && all(self.minor, other.minor)
    }

    /// Whether there is a device that both are about.
    fn meets(&self, other: &Rule) -> bool {
        let both = |own: Option<u32>, other: Option<u32>| own.is_none() || other.is_none() || own == other;
        self.kind == other.kind && both(self.major, other.major) && both(self.minor, other.minor)
    }

    /// As v1's files take it.
    fn line(&self) -> String {
        let kind = match self.kind {
            Kind::All => return "a".to_owned(),
            Kind::Block => 'b',
            Kind::Character => 'c',
        };
        let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
        format!("{kind} {}:{} {}", number(self.major), number(self.minor), self.access.letters())
    }
}

impl Cgroup {
    /// Guards the devices by these rules, instead of those that were there. On v2 the exchange is at once; on v1 what both
    /// have stays allowed all the while.
    ///
    /// # Errors
    /// Rules that v1 has no form for; no controller `devices`; a device that the group above may not use (v1, EPERM); a
    /// user who may load no program (v2, EPERM).
    pub fn guard_devices(&self, rules: &[Rule]) -> Result<()> {
        purpose("which devices can be opened, and which nodes made");
        match &self.directories.unified {
            Some(unified) if self.directories.is_v2() => {
                let group = cgroup::open_group(unified, "group")?;
                let program = bpf::load_device_program(&program(rules))
                    .context("cannot load the program that guards the devices")?;
                bpf::exchange_in_group(&program, &group).context("cannot attach the program that guards the devices")
            }
            _ => self.write_lists(&Lists::of(rules)?),
        }
    }

    fn write_lists(&self, wanted: &Lists) -> Result<()> {
        let group = self.directory_with("devices.list")?;
        let (default, exception) =
            if wanted.allow_others { ("devices.allow", "devices.deny") } else { ("devices.deny", "devices.allow") };
        let mut now = Lists::parse(&cgroup::read(group, "devices.list"));
        // A list of what is denied cannot be read back, so one like that begins anew. So does an empty one: it may be one that
        // could not be read at all, and allow everything.
        if wanted.allow_others || now.allow_others || now.exceptions.is_empty() {
            cgroup::write(group, default, "a")?;
            now.exceptions.clear();
        }
        for gone in now.without(wanted) {
            cgroup::write(group, default, &gone.line())?;
        }
        for new in wanted.without(&now) {
            cgroup::write(group, exception, &new.line())
                .map_err(|failure| failure.hint("the groups above must allow it, too: cat devices.list in them"))?;
        }
        Ok(())
    }
}

/// v1's form: what is allowed or not without an exception, and the exceptions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Lists {
    allow_others: bool,
    /// All with the other answer than the default, none of them of all kinds.
    exceptions: Vec<Rule>,
}

impl Lists {
    /// Goes through the rules in their order.
    ///
    /// # Errors
    /// A rule that takes a part out of an exception: `c *:* rwm` allowed, and then `c 1:3 rwm` denied. The kernel would
    /// ignore it without a word.
    fn of(rules: &[Rule]) -> Result<Lists, Failure> {
        let mut lists = Lists::default();
        for rule in rules.iter().filter(|rule| rule.kind == Kind::All || rule.access.0 != 0) {
            match rule.kind {
                Kind::All => lists = Lists { allow_others: rule.allow, exceptions: Vec::new() },
                _ if rule.allow != lists.allow_others => lists.add(*rule),
                _ => lists.take_out(rule)?,
            }
        }
        Ok(lists)
    }

    fn add(&mut self, rule: Rule) {
        let same = |other: &&mut Rule| other.covers(&rule) && rule.covers(other);
        match self.exceptions.iter_mut().find(same) {
            Some(other) => other.access.0 |= rule.access.0,
            None => self.exceptions.push(rule),
        }
    }

    fn take_out(&mut self, rule: &Rule) -> Result<(), Failure> {
        for exception in &mut self.exceptions {
            if rule.covers(exception) {
                exception.access.0 &= !rule.access.0;
            } else if rule.meets(exception) && exception.access.0 & rule.access.0 != 0 {
                let text = format!("the device rule {:?} takes a part out of {:?}", rule.line(), exception.line());
                return Err(Failure::new(text).hint("cgroup v1 has no form for that: name the devices one by one"));
            }
        }
        self.exceptions.retain(|exception| exception.access.0 != 0);
        Ok(())
    }

    /// The exceptions that another has not.
    fn without(&self, other: &Lists) -> impl Iterator<Item = &Rule> {
        self.exceptions.iter().filter(|rule| !other.exceptions.contains(rule))
    }

    /// From devices.list, which has `a *:* rwm` where all but unnamed exceptions are allowed.
    fn parse(text: &str) -> Lists {
        let number = |text: &str| if text == "*" { Some(None) } else { text.parse().ok().map(Some) };
        let exception = |line: &str| {
            let mut words = line.split([' ', ':']);
            let kind = if words.next()? == "b" { Kind::Block } else { Kind::Character };
            let (major, minor) = (number(words.next()?)?, number(words.next()?)?);
            Some(Rule { allow: true, kind, major, minor, access: Access::parse(words.next()?).ok()? })
        };
        let allow_others = text.starts_with('a');
        let exceptions = if allow_others { Vec::new() } else { text.lines().filter_map(exception).collect() };
        Lists { allow_others, exceptions }
    }
}

/// v2's program. A process may want to read *and* to write, and one rule may speak of reading alone. So the program keeps
/// what is wanted and not yet allowed, and goes from the last rule to the first: a rule that allows takes its part away,
/// and the answer is yes when nothing is left; a rule that denies any of it is a no.
fn program(rules: &[Rule]) -> Vec<Instruction> {
    const WANTED: u8 = 5;
    let mut program = [&question()[..], &read_wanted(WANTED)].concat();
    for rule in rules.iter().rev() {
        let all = rule.kind == Kind::All;
        let decision = match (rule.allow, if all { Access::ALL } else { rule.access }) {
            (allow, Access::ALL) => answer(allow).to_vec(),
            (true, Access(part)) => {
                [&[mask(WANTED, !i32::from(part)), skip_unless(WANTED, 0, 2)], &answer(true)[..]].concat()
            }
            (false, Access(part)) => [&[skip_if_any(WANTED, part.into(), 1), skip(2)], &answer(false)[..]].concat(),
        };
        if all {
            program.extend(decision);
            return program; // what stands before it no longer counts, and the kernel takes no program with idle parts
        }
        let numbers = [(KIND, Some(rule.kind as u32)), (MAJOR, rule.major), (MINOR, rule.minor)];
        let tests = numbers.iter().filter_map(|(register, number)| Some((*register, (*number)? as i32)));
        program.extend(when(&tests.collect::<Vec<_>>(), &decision));
    }
    program.extend(answer(false));
    program
}

/// skip a number of instructions if any of the bits is set (BPF_JMP | BPF_JSET)
fn skip_if_any(register: u8, bits: i32, count: i16) -> Instruction {
    instruction(0x45, register, count, bits)
}

/// skip a number of instructions (BPF_JMP | BPF_JA)
fn skip(count: i16) -> Instruction {
    instruction(0x05, 0, count, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use classroom::device_program::answer as asked;

    fn rule(allow: bool, kind: Kind, major: Option<u32>, minor: Option<u32>, access: u8) -> Rule {
        Rule { allow, kind, major, minor, access: Access(access) }
    }

    /// The rules as the specification puts it: each thing that is wanted is decided by the last rule that fits.
    fn naive(rules: &[Rule], kind: Kind, major: u32, minor: u32, wanted: u8) -> bool {
        let fits = |rule: &Rule, bit: u8| {
            rule.kind == Kind::All
                || rule.kind == kind
                    && rule.major.is_none_or(|own| own == major)
                    && rule.minor.is_none_or(|own| own == minor)
                    && rule.access.0 & bit != 0
        };
        let allowed = |bit: u8| rules.iter().rfind(|rule| fits(rule, bit)).is_some_and(|rule| rule.allow);
        [1, 2, 4].iter().filter(|bit| wanted & **bit != 0).all(|bit| allowed(*bit))
    }

    /// What v1 makes of its lists: everything wanted is an exception, or nothing of it is.
    fn v1(lists: &Lists, kind: Kind, major: u32, minor: u32, bit: u8) -> bool {
        let asked = rule(true, kind, Some(major), Some(minor), bit);
        let is_exception = lists.exceptions.iter().any(|one| one.covers(&asked) && one.access.0 & bit != 0);
        is_exception != lists.allow_others
    }

    /// Lists of rules, as a small generator of numbers (xorshift) makes them up.
    fn random_rules(state: &mut u64) -> Vec<Rule> {
        let mut next = |below: u64| {
            *state ^= *state << 13;
            *state ^= *state >> 7;
            *state ^= *state << 17;
            *state % below
        };
        let count = next(9);
        let mut rules = Vec::new();
        for _ in 0..count {
            let kind = [Kind::All, Kind::Block, Kind::Character, Kind::Block, Kind::Character][next(5) as usize];
            let mut number = || Some(next(3) as u32).filter(|number| *number > 0);
            let (major, minor) = (number(), number());
            rules.push(rule(next(2) == 0, kind, major, minor, 1 + next(7) as u8));
        }
        rules
    }

    #[test]
    fn ten_thousand_lists_of_rules_are_kept_to_the_letter() {
        let mut state = 0x2545_f491_4f6c_dd1d;
        let mut refused = 0;
        for _ in 0..10_000 {
            let rules = random_rules(&mut state);
            let (program, lists) = (program(&rules), Lists::of(&rules));
            refused += u32::from(lists.is_err());
            for question in 0..2 * 9 * 7 {
                let (kind, wanted) = ([Kind::Block, Kind::Character][question % 2], 1 + (question / 18) as u8);
                let (major, minor) = ((question / 2 % 3) as u32, (question / 6 % 3) as u32);
                let expected = naive(&rules, kind, major, minor, wanted);
                let said = asked(&program, kind as i32 | i32::from(wanted) << 16, major as i32, minor as i32);
                assert_eq!(said == 1, expected, "{rules:?}: {kind:?} {major}:{minor} {wanted}");
                if let (Ok(lists), true) = (&lists, wanted.is_power_of_two()) {
                    assert_eq!(v1(lists, kind, major, minor, wanted), expected, "{rules:?}: {lists:?}");
                }
            }
        }
        assert!((100..5000).contains(&refused), "{refused} have no form in v1");
    }

    #[test]
    fn lists_are_read_back() {
        let text = "c 1:3 rwm\nc *:* m\nb 8:* rw\n";
        let lists = Lists::parse(text);
        let lines: Vec<String> = lists.exceptions.iter().map(Rule::line).collect();
        assert_eq!(lines, ["c 1:3 mrw", "c *:* m", "b 8:* rw"]);
        assert!(Lists::parse("a *:* rwm\n").allow_others);
    }

    #[test]
    fn a_hole_is_refused() {
        let all_null = [rule(true, Kind::Character, None, None, 7), rule(false, Kind::Character, Some(1), Some(3), 7)];
        let refused = Lists::of(&all_null).unwrap_err().to_string();
        assert_eq!(refused, r#"the device rule "c 1:3 mrw" takes a part out of "c *:* mrw""#);
        assert!(Access::parse("rx").is_err() && Access::parse("rw").unwrap() == Access(6));
    }
}
