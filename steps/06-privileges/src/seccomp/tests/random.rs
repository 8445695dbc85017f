//! Profiles that nobody thought of: the program must answer as the profile reads.

use super::super::calls::behind;
use super::super::profile::{Action, ArgumentTest, Comparison, Condition, Rule};
use super::*;

/// The same numbers on every run (Knuth's generator).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

const NAMES: [&str; 14] = [
    "read",
    "write",
    "openat",
    "socket",
    "sendto",
    "socketcall",
    "ipc",
    "shmget",
    "waitpid",
    "rt_sigaction",
    "execveat",
    "clone3",
    "mseal",
    "nosuchcall",
];
const VALUES: [u64; 9] = [0, 1, 2, 7, 0xffff_ffff, 1 << 32, (1 << 32) + 1, 7 << 32, u64::MAX];
const ACTIONS: [Action; 6] =
    [Action::Allow, Action::Errno, Action::KillProcess, Action::Trap, Action::Log, Action::Trace];
const COMPARISONS: [Comparison; 7] = [
    Comparison::Equal,
    Comparison::NotEqual,
    Comparison::Less,
    Comparison::LessOrEqual,
    Comparison::Greater,
    Comparison::GreaterOrEqual,
    Comparison::MaskedEqual,
];

fn profile(dice: &mut Dice) -> Profile {
    let mut rule = || {
        let action = dice.pick(&ACTIONS);
        let carries = matches!(action, Action::Errno | Action::Trace);
        let argument = |dice: &mut Dice| ArgumentTest {
            index: dice.below(3) as u32,
            value: dice.pick(&VALUES),
            value_two: dice.pick(&VALUES),
            op: dice.pick(&COMPARISONS),
        };
        Rule {
            names: (0..=dice.below(4)).map(|_| dice.pick(&NAMES).to_owned()).collect(),
            action,
            errno_ret: carries.then(|| dice.below(100) as u32),
            args: (0..dice.below(4)).map(|_| argument(dice)).collect(),
            includes: Condition::default(),
            excludes: Condition::default(),
            errno: None,
        }
    };
    let syscalls = (0..12).map(|_| rule()).collect();
    let mut profile = Profile::parse(r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#).unwrap();
    let architectures = [Architecture::X86, Architecture::X32];
    profile.architectures = architectures.into_iter().filter(|_| dice.below(3) > 0).collect();
    profile.default_action = dice.pick(&ACTIONS);
    profile.syscalls = syscalls;
    profile
}

/// What the profile says of a call, as slowly and simply as can be.
fn read(plan: &Plan, machine: &[Abi], way_in: &Abi, number: u32, arguments: [u64; 6]) -> Answer {
    if way_in.name != machine[0].name && !plan.architectures.contains(&way_in.name) {
        return Answer::KILL_THREAD;
    }
    let names = |rule: usize, name: &[u8]| plan.rules[rule].names.iter().any(|each| each.as_bytes() == name);
    let about = |rule: usize, name: &[u8]| {
        names(rule, name) || behind(name).iter().any(|(inner, _)| names(rule, inner.as_bytes()))
    };
    let (first, block) = way_in.blocks.iter().rev().find(|(first, _)| *first <= number).expect("a block");
    let block: Vec<&[u8]> = block.iter().collect();
    let index = (number - first) as usize;
    let newest = block.iter().rposition(|name| (0..plan.rules.len()).any(|rule| about(rule, name)));
    match newest {
        None if *first == way_in.blocks[0].0 => return plan.default,
        Some(newest) if index <= newest => {}
        _ => return plan.unknown,
    }
    let name = block[index];
    for (position, rule) in plan.rules.iter().enumerate() {
        let holds = |test: &ArgumentTest| holds(test, arguments[test.index as usize], way_in.wide);
        let twice = rule.tests.iter().any(|test| rule.tests.iter().filter(|each| each.index == test.index).count() > 1);
        let all = if twice { rule.tests.iter().any(holds) } else { rule.tests.iter().all(holds) };
        let refuses = !rule.answer.is_permissive();
        let inner = |(inner, number): &(&str, u32)| {
            names(position, inner.as_bytes())
                && arguments[0] as u32 & 0xffff == *number
                && (refuses || rule.tests.is_empty())
        };
        // Of one rule, the call's own name comes before those behind it.
        if (names(position, name) && all) || behind(name).iter().any(inner) {
            return rule.answer;
        }
    }
    plan.default
}

fn holds(test: &ArgumentTest, given: u64, wide: bool) -> bool {
    let cut = |number: u64| if wide { number } else { number & 0xffff_ffff };
    let (given, value) = (cut(given), cut(test.value));
    match test.op {
        Comparison::Equal => given == value,
        Comparison::NotEqual => given != value,
        Comparison::Less => given < value,
        Comparison::LessOrEqual => given <= value,
        Comparison::Greater => given > value,
        Comparison::GreaterOrEqual => given >= value,
        Comparison::MaskedEqual => given & value == cut(test.value_two) & value,
    }
}

#[test]
fn random_profiles_are_answered_as_they_read() {
    let machine = &calls::X86_64;
    let mut dice = Dice(6);
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..200 {
        let profile = profile(&mut dice);
        let compiled = Compiled::new(&profile, machine, &[]);
        let plan = Plan::new(&profile, |_| false).unwrap();
        for _ in 0..150 {
            let way_in = &machine[dice.below(3)];
            let (first, block) = dice.pick(way_in.blocks);
            let number = match dice.below(2) {
                0 => first + dice.below(block.iter().count() + 20) as u32,
                _ => {
                    let name = dice.pick(&NAMES);
                    let named: Vec<u32> = (first..)
                        .zip(block.iter())
                        .filter(|(_, each)| *each == name.as_bytes())
                        .map(|(n, _)| n)
                        .collect();
                    named.first().copied().unwrap_or(first)
                }
            };
            let cut = if way_in.wide { u64::MAX } else { 0xffff_ffff };
            let arguments = [(); 6].map(|()| dice.pick(&VALUES) & cut);
            let expected = read(&plan, machine, way_in, number, arguments);
            let answer = run(&compiled.program, &Call { number, audit: way_in.audit, arguments });
            assert_eq!(answer, expected, "round {round}: {:?} {number:#x} {arguments:x?}\n{profile:#?}", way_in.name);
            seen.insert(answer.0);
        }
    }
    assert!(seen.len() > 50, "the dice are loaded: {seen:x?}");
}
