//! Tables: a profile, a call, the answer.

use super::super::profile::Architecture::{Aarch64, Arm, X32, X86, X86_64};
use super::super::program::{AND, EQUAL, GREATER, Program, Target};
use super::*;

const EPERM: Answer = Answer::error(1);
const ENOSYS: Answer = Answer::NO_SUCH_CALL;
const KILLED: Answer = Answer::KILL_THREAD;
const ALLOWED: Answer = Answer::ALLOW;

/// A profile that allows by default, and answers 77 for `prctl` if the test holds.
fn with_test(op: &str, value: u64, value_two: u64) -> Compiled {
    Compiled::of(&format!(
        r#"{{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "syscalls": [{{
            "names": ["prctl"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77,
            "args": [{{"index": 3, "value": {value}, "valueTwo": {value_two}, "op": "SCMP_CMP_{op}"}}]}}]}}"#
    ))
}

// ANCHOR: boundaries
#[test]
fn arguments_are_compared_in_all_their_64_bits() {
    const VALUES: [u64; 9] = [0, 1, 0x7fff_ffff, 0xffff_ffff, 1 << 32, (1 << 32) + 1, (2 << 32) - 1, 1 << 63, u64::MAX];
    for value in VALUES {
        for given in VALUES {
            for (op, holds) in [
                ("EQ", given == value),
                ("NE", given != value),
                ("LT", given < value),
                ("LE", given <= value),
                ("GT", given > value),
                ("GE", given >= value),
                ("MASKED_EQ", given & value == 0x1_0000_0001 & value),
            ] {
                let expected = if holds { Answer::error(77) } else { ALLOWED };
                let answer = with_test(op, value, 0x1_0000_0001).ask(X86_64, "prctl", &[9, 9, 9, given]);
                assert_eq!(answer, expected, "{given:#x} {op} {value:#x}");
            }
        }
    }
}
// ANCHOR_END: boundaries

#[test]
fn a_32_bit_program_has_32_bit_arguments() {
    let minus_one = with_test("EQ", u64::MAX, 0);
    assert_eq!(minus_one.ask(X86, "prctl", &[0, 0, 0, 0xffff_ffff]), Answer::error(77));
    assert_eq!(minus_one.ask(X86_64, "prctl", &[0, 0, 0, 0xffff_ffff]), ALLOWED);
}

/// Refuses all but `read` and, in one of two forms, `write`.
fn strict(architectures: &str) -> Compiled {
    Compiled::of(&format!(
        r#"{{"defaultAction": "SCMP_ACT_ERRNO", "architectures": [{architectures}], "syscalls": [
            {{"names": ["read", "write", "prctl", "nosuchcall"], "action": "SCMP_ACT_ALLOW"}}]}}"#
    ))
}

#[test]
fn each_way_in_has_its_own_numbers() {
    let (one, all) = (strict(""), strict(r#""SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_S390X""#));
    for (way_in, name, of_one, of_all) in [
        (X86_64, "read", ALLOWED, ALLOWED),
        (X86_64, "open", EPERM, EPERM),
        (X86, "read", KILLED, ALLOWED),
        (X86, "open", KILLED, EPERM),
        (X32, "read", KILLED, ALLOWED),
        (X32, "open", KILLED, EPERM),
        (X32, "ioctl", KILLED, ENOSYS),
    ] {
        assert_eq!(one.ask(way_in, name, &[]), of_one, "{way_in:?} {name}");
        assert_eq!(all.ask(way_in, name, &[]), of_all, "{way_in:?} {name}");
    }
    let elsewhere = Call { number: 0, audit: 0xc000_00b7, arguments: [0; 6] };
    assert_eq!(run(&all.program, &elsewhere), KILLED);
}

#[test]
fn what_is_newer_than_the_profile_is_no_such_call() {
    let prctl = number(&calls::X86_64[0], "prctl");
    for (way_in, number, expected) in [
        (X86_64, prctl, ALLOWED),
        (X86_64, prctl + 1, ENOSYS),
        (X86_64, 9999, ENOSYS),
        (X86_64, (1 << 30) - 1, ENOSYS),
        (X86_64, 1 << 30, KILLED), // x32
        (X86_64, u32::MAX - 1, KILLED),
        (X86_64, u32::MAX, ENOSYS), // a call that a tracer skips
    ] {
        assert_eq!(strict("").ask_number(way_in, number, &[]), expected, "{number:#x}");
    }
    // Who allows by default allows what is new, too; who kills does not kill for it.
    for (action, expected) in [("ALLOW", ALLOWED), ("LOG", Answer(0x7ffc_0000)), ("KILL_PROCESS", ENOSYS)] {
        let text = format!(
            r#"{{"defaultAction": "SCMP_ACT_{action}", "syscalls": [
            {{"names": ["read"], "action": "SCMP_ACT_ERRNO"}}]}}"#
        );
        assert_eq!(Compiled::of(&text).ask_number(X86_64, 9999, &[]), expected, "{action}");
    }
}

#[test]
fn the_first_rule_that_matches_decides() {
    let compiled = Compiled::of(
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["ioctl"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": [
                {"index": 1, "value": 4294967295, "valueTwo": 21522, "op": "SCMP_CMP_MASKED_EQ"}]},
            {"names": ["ioctl"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["ioctl"], "action": "SCMP_ACT_KILL_PROCESS"},
            {"names": ["mmap"], "action": "SCMP_ACT_ALLOW", "args": [
                {"index": 0, "value": 7, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 9, "op": "SCMP_CMP_GT"}]},
            {"names": ["mmap"], "action": "SCMP_ACT_TRACE", "errnoRet": 3, "args": [
                {"index": 0, "value": 5, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 6, "op": "SCMP_CMP_EQ"}]},
            {"names": ["open"], "action": "SCMP_ACT_LOG"}]}"#,
    );
    for (name, arguments, expected) in [
        ("ioctl", [0, 21522], EPERM),
        ("ioctl", [0, 0xff_0000_0000 + 21522], EPERM), // the kernel would not look at the upper half
        ("ioctl", [0, 21523], ALLOWED),
        ("mmap", [7, 10], ALLOWED),
        ("mmap", [7, 9], EPERM),
        ("mmap", [5, 0], Answer(0x7ff0_0003)),
        ("mmap", [6, 10], Answer(0x7ff0_0003)),
        ("mmap", [8, 10], EPERM),
        ("open", [0, 0], Answer(0x7ffc_0000)),
    ] {
        assert_eq!(compiled.ask(X86_64, name, &arguments), expected, "{name} {arguments:?}");
    }
}

#[test]
fn who_forbids_socket_forbids_it_behind_socketcall_too() {
    let forbids = |test: &str| {
        let rule = |name: &str, test: &str| format!(r#"{{"names": ["{name}"], "action": "SCMP_ACT_ERRNO" {test}}}"#);
        let rules = [rule("socket", test), rule("shmget", "")].join(", ");
        Compiled::of(&format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "syscalls": [{rules}]}}"#
        ))
    };
    for test in ["", r#", "args": [{"index": 0, "value": 40, "op": "SCMP_CMP_EQ"}]"#] {
        let compiled = forbids(test);
        assert_eq!(compiled.ask(X86, "socketcall", &[1]), EPERM, "socket {test}");
        assert_eq!(compiled.ask(X86, "socketcall", &[2]), ALLOWED, "bind");
        assert_eq!(compiled.ask(X86, "ipc", &[23]), EPERM, "shmget");
        assert_eq!(compiled.ask(X86, "ipc", &[(1 << 16) + 23]), EPERM, "shmget, another version");
        assert_eq!(compiled.ask(X86, "ipc", &[21]), ALLOWED, "shmat");
    }
    let allows = r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86"], "syscalls": [
        {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]},
        {"names": ["bind", "writev"], "action": "SCMP_ACT_ALLOW"}]}"#;
    assert_eq!(Compiled::of(allows).ask(X86, "socketcall", &[1]), EPERM, "which family, nobody can see");
    assert_eq!(Compiled::of(allows).ask(X86, "socketcall", &[2]), ALLOWED);
}

#[test]
fn far_jumps_arrive() {
    // 300 tests for one call: 600 instructions between the search tree and what stands behind them.
    let tests: Vec<String> = (0..300u64)
        .map(|n| format!(r#"{{"index": 0, "value": {}, "op": "SCMP_CMP_EQ"}}"#, n * 0x1_0000_0003))
        .collect();
    let text = format!(
        r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {{"names": ["read"], "action": "SCMP_ACT_TRAP"}},
            {{"names": ["open"], "action": "SCMP_ACT_LOG", "args": [{{"index": 5, "value": 9, "op": "SCMP_CMP_LT"}}]}},
            {{"names": ["mmap"], "action": "SCMP_ACT_ALLOW", "args": [{}]}},
            {{"names": ["mseal"], "action": "SCMP_ACT_LOG", "args": [{{"index": 5, "value": 9, "op": "SCMP_CMP_LT"}}]}},
            {{"names": ["mmap"], "action": "SCMP_ACT_KILL_PROCESS"}}]}}"#,
        tests.join(", ")
    );
    let compiled = Compiled::of(&text);
    assert!(compiled.program.len() > 1000);
    for (name, first, expected) in [
        ("read", 0, Answer(0x0003_0000)),
        ("mmap", 0, ALLOWED),
        ("mmap", 299 * 0x1_0000_0003, ALLOWED),
        ("mmap", 1, Answer(0x8000_0000)),
        ("open", 0, Answer(0x7ffc_0000)),
        ("mseal", 0, Answer(0x7ffc_0000)),
        ("close", 0, EPERM),
    ] {
        assert_eq!(compiled.ask(X86_64, name, &[first]), expected, "{name} {first}");
    }
}

#[test]
fn just_too_far_is_noticed() {
    for distance in 0..600 {
        let mut program = Program::default();
        let five = program.branch(EQUAL, 5, Target::Return(Answer(55)), Target::Return(Answer(1)));
        let six = program.branch(EQUAL, 6, Target::Return(Answer(66)), Target::Return(Answer(2)));
        let mut start = five;
        for _ in 0..distance {
            start = program.compute(AND, u32::MAX, start); // does nothing
        }
        let start = program.branch(GREATER, 5, six, five);
        let start = program.load(0, start);
        let program = program.finish(start).unwrap();
        for (number, expected) in [(4, 1), (5, 55), (6, 66), (7, 2)] {
            let call = Call { number, audit: 0, arguments: [0; 6] };
            assert_eq!(run(&program, &call), Answer(expected), "{number} over {distance}");
        }
    }
}

#[test]
fn arm_s_private_calls_are_far_above_the_others() {
    let text = r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_ARM"], "syscalls": [
        {"names": ["read", "set_tls", "newfstatat"], "action": "SCMP_ACT_ALLOW"}]}"#;
    let compiled = Compiled::new(&Profile::parse(text).unwrap(), &calls::AARCH64, &[]);
    for (way_in, number, expected) in [
        (Aarch64, 63, ALLOWED), // read
        (Aarch64, 79, ALLOWED), // newfstatat
        (Aarch64, 80, ENOSYS),
        (Aarch64, u32::MAX, ENOSYS),
        (Arm, 3, ALLOWED), // read
        (Arm, 4, ENOSYS),
        (Arm, 0xf_0001, EPERM),
        (Arm, 0xf_0005, ALLOWED), // set_tls
        (Arm, 0xf_0006, ENOSYS),
    ] {
        assert_eq!(compiled.ask_number(way_in, number, &[]), expected, "{way_in:?} {number:#x}");
    }
}

#[test]
fn no_rules_at_all() {
    for action in ["SCMP_ACT_KILL", "SCMP_ACT_ALLOW"] {
        let compiled = Compiled::of(&format!(r#"{{"defaultAction": "{action}"}}"#));
        let expected = if action == "SCMP_ACT_KILL" { KILLED } else { ALLOWED };
        assert_eq!(compiled.ask(X86_64, "read", &[]), expected);
        assert_eq!(compiled.ask(X86, "read", &[]), KILLED);
    }
}
