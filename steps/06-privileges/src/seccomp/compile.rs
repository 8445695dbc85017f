//! From a plan to a program.
//!
//! The program does what the one by hand does ([`super::first`]), for every way into the kernel and every call: it looks first
//! which way was taken, then searches the number in a tree, and at last tests arguments, for the few calls that have such rules.

use kernel::Failure;
use kernel::sys::seccomp::Instruction;

use super::calls::{Abi, behind};
use super::first::{ARCHITECTURE, ARGUMENTS, NUMBER};
use super::plan::{Answer, Plan, PlannedRule};
use super::profile::{ArgumentTest, Comparison};
use super::program::{AND, EQUAL, GREATER, GREATER_OR_EQUAL, Program, Target};

/// What is needed along the way.
struct Compiler<'p> {
    plan: &'p Plan<'p>,
    /// Which rules are about a name: sorted by name, and for each name in the profile's order.
    names: Vec<(Name<'p>, u32)>,
    program: Program,
}

/// A name behind its first eight letters as a number: most comparisons end there, and we make some ten thousand.
type Name<'n> = (u64, &'n [u8]);

fn name(letters: &[u8]) -> Name<'_> {
    let mut first = [0; 8];
    let length = letters.len().min(8);
    first[..length].copy_from_slice(&letters[..length]);
    (u64::from_be_bytes(first), letters)
}

/// Numbers from one on, and where they go.
#[derive(Default)]
struct Ranges(Vec<(u32, Target)>);

impl Ranges {
    /// From this number on they go there.
    fn push(&mut self, number: u32, target: Target) {
        if self.0.last().is_none_or(|(_, before)| *before != target) {
            self.0.push((number, target));
        }
    }
}

// ANCHOR: compile
/// Compiles a plan for a machine. Fails if the program gets longer than the kernel takes.
pub fn compile(plan: &Plan, machine: &'static [Abi]) -> Result<Vec<Instruction>, Failure> {
    let mut compiler = Compiler::new(plan);
    let allowed = |abi: &Abi| abi.name == machine[0].name || plan.architectures.contains(&abi.name);
    let mut target = Target::Return(Answer::KILL_THREAD); // a way that nobody named; libseccomp does the same
    for ways in machine.chunk_by(|one, next| one.audit == next.audit).rev() {
        if !ways.iter().any(allowed) {
            continue;
        }
        let mut ranges = Ranges::default();
        for abi in ways {
            match allowed(abi) {
                true => compiler.add_calls(abi, &mut ranges),
                false => ranges.push(abi.blocks[0].0, Target::Return(Answer::KILL_THREAD)), // x32
            }
        }
        // A tracer can have a process skip a call: then its number is -1, and that is no call of x32.
        ranges.push(u32::MAX, Target::Return(plan.unknown));
        let search = compiler.program.search(&ranges.0);
        let section = compiler.program.load(NUMBER, search);
        target = compiler.program.branch(EQUAL, ways[0].audit, section, target);
    }
    let start = compiler.program.load(ARCHITECTURE, target);
    compiler.program.finish(start)
}
// ANCHOR_END: compile

impl<'p> Compiler<'p> {
    fn new(plan: &'p Plan<'p>) -> Compiler<'p> {
        let mut names = Vec::with_capacity(plan.rules.iter().map(|rule| rule.names.len()).sum());
        for (index, rule) in plan.rules.iter().enumerate() {
            names.extend(rule.names.iter().map(|each| (name(each.as_bytes()), index as u32)));
        }
        names.sort_unstable();
        Compiler { plan, names, program: Program::default() }
    }

    // ANCHOR: add_calls
    /// Adds where the calls of an ABI go, in the order of their numbers. Up to the last one that the profile names,
    /// those that it does not name get its default; what comes after is newer than the profile.
    ///
    /// We ask for each number what the profile says of its name, and not for each name what its number is. So a name
    /// that no architecture knows is passed over in silence, as in runc: profiles are written for many machines, and
    /// name calls that are newer than our tables.
    fn add_calls(&mut self, abi: &Abi, ranges: &mut Ranges) {
        for (index, (first, names)) in abi.blocks.iter().enumerate() {
            let targets: Vec<Option<Target>> = names.iter().map(|name| self.target(abi, name)).collect();
            let default = Target::Return(self.plan.default);
            match targets.iter().rposition(Option::is_some) {
                Some(last) => {
                    for (number, target) in (*first..).zip(&targets[..=last]) {
                        ranges.push(number, target.unwrap_or(default));
                    }
                    ranges.push(first + last as u32 + 1, Target::Return(self.plan.unknown));
                }
                None if index == 0 => ranges.push(*first, default),
                None => {}
            }
        }
    }
    // ANCHOR_END: add_calls

    /// Where the rules about a call send it; `None` if there are none.
    fn target(&mut self, abi: &Abi, name: &[u8]) -> Option<Target> {
        let plan = self.plan;
        match self.rules_about(name).next().map(|rule| &plan.rules[rule as usize]) {
            _ if !behind(name).is_empty() => {}
            Some(rule) if rule.tests.is_empty() => return Some(Target::Return(rule.answer)), // nearly always
            Some(_) => {}
            None => return None,
        }
        let mut cases: Vec<(u32, Option<u32>)> = self.rules_about(name).map(|rule| (rule, None)).collect();
        for (inner, number) in behind(name) {
            cases.extend(self.rules_about(inner.as_bytes()).map(|rule| (rule, Some(*number))));
        }
        cases.sort_unstable();
        // A rule without tests always matches: those behind it are never reached.
        let last =
            cases.iter().position(|(rule, inner)| inner.is_none() && plan.rules[*rule as usize].tests.is_empty());
        cases.truncate(last.map_or(cases.len(), |last| last + 1));
        let target = cases.iter().rev().fold(Target::Return(plan.default), |next, (rule, inner)| match inner {
            None => self.rule(&plan.rules[*rule as usize], abi.wide, next),
            Some(number) => self.rule_behind(&plan.rules[*rule as usize], *number, next),
        });
        (!cases.is_empty()).then_some(target)
    }

    fn rules_about(&self, letters: &[u8]) -> impl Iterator<Item = u32> {
        let name = name(letters);
        let first = self.names.partition_point(|(each, _)| *each < name);
        self.names[first..].iter().take_while(move |(each, _)| *each == name).map(|(_, rule)| *rule)
    }

    // ANCHOR: rule
    /// A rule: its answer if its tests hold, else on to `otherwise`. Tests of different arguments must all hold; with
    /// two of the same argument, one of all must. (So runc and crun read a profile, and so profiles are written.)
    fn rule(&mut self, rule: &PlannedRule, wide: bool, otherwise: Target) -> Target {
        let answer = Target::Return(rule.answer);
        let mut seen = [false; 6];
        let alternatives = rule.tests.iter().any(|test| std::mem::replace(&mut seen[test.index as usize], true));
        let tests = rule.tests.iter().rev();
        match alternatives {
            true => tests.fold(otherwise, |next, test| self.test(test, wide, answer, next)),
            false => tests.fold(answer, |next, test| self.test(test, wide, next, otherwise)),
        }
    }
    // ANCHOR_END: rule

    /// A rule about a call that is behind another one. Its arguments lie in memory, where no filter can look. What
    /// cannot be tested is refused if the rule refuses, and not allowed if it allows.
    fn rule_behind(&mut self, rule: &PlannedRule, number: u32, otherwise: Target) -> Target {
        if rule.answer.is_permissive() && !rule.tests.is_empty() {
            return otherwise;
        }
        // The upper half of ipc's number is a version, and does not make it another call.
        let (value, value_two) = (0xffff, u64::from(number));
        let which = ArgumentTest { index: 0, op: Comparison::MaskedEqual, value, value_two };
        self.test(&which, false, Target::Return(rule.answer), otherwise)
    }

    // ANCHOR: test
    /// One test. The register has 32 bits and an argument 64, so the upper halves are compared first, and the lower
    /// ones only if that leaves it open. (A 32-bit program's arguments have no upper half.)
    fn test(&mut self, test: &ArgumentTest, wide: bool, yes: Target, no: Target) -> Target {
        let (low, high) = (test.value as u32, (test.value >> 32) as u32);
        let at = ARGUMENTS + 8 * test.index;
        if test.op == Comparison::MaskedEqual {
            let wanted = test.value & test.value_two;
            let next = self.masked(at, low, wanted as u32, yes, no);
            return if wide && high != 0 { self.masked(at + 4, high, (wanted >> 32) as u32, next, no) } else { next };
        }
        // "Not equal", "less" and "less or equal" are their opposites with the answers exchanged.
        let (yes, no, lower) = match test.op {
            Comparison::NotEqual => (no, yes, EQUAL),
            Comparison::Less => (no, yes, GREATER_OR_EQUAL),
            Comparison::LessOrEqual => (no, yes, GREATER),
            Comparison::GreaterOrEqual => (yes, no, GREATER_OR_EQUAL),
            Comparison::Greater => (yes, no, GREATER),
            Comparison::Equal | Comparison::MaskedEqual => (yes, no, EQUAL),
        };
        let next = self.program.branch(lower, low, yes, no);
        let next = self.program.load(at, next);
        if !wide {
            return next;
        }
        let next = self.program.branch(EQUAL, high, next, no);
        let next = if lower == EQUAL { next } else { self.program.branch(GREATER, high, yes, next) };
        self.program.load(at + 4, next)
    }
    // ANCHOR_END: test

    /// Whether the bits of one half that count are as wanted.
    fn masked(&mut self, at: u32, mask: u32, wanted: u32, yes: Target, no: Target) -> Target {
        let next = self.program.branch(EQUAL, wanted, yes, no);
        let next = self.program.compute(AND, mask, next);
        self.program.load(at, next)
    }
}
