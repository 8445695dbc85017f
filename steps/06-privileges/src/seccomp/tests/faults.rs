//! What is wrong with a profile is said, with the place.

use super::super::Filter;
use super::*;

fn failure(text: &str) -> kernel::Failure {
    let error = match Profile::parse(text) {
        Ok(profile) => Filter::new(&profile, |_| false).expect_err(text),
        Err(failure) => failure.into(),
    };
    kernel::Failure::from_error(&error)
}

#[test]
fn faults_name_their_place() {
    let rule =
        |rest: &str| format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{{"names": ["read"], {rest}}}]}}"#);
    let test = |rest: &str| rule(&format!(r#""action": "SCMP_ACT_ERRNO", "args": [{{{rest}}}]"#));
    let profile = |rest: &str| format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", {rest}}}"#);
    let notify = |name: &str, rest: &str| {
        profile(&format!(r#"{rest}"syscalls": [{{"names": ["{name}"], "action": "SCMP_ACT_NOTIFY"}}]"#))
    };
    let listener = r#""listenerPath": "/run/agent", "#;
    for (text, expected) in [
        ("seccomp".to_owned(), "it is no JSON: expected value"),
        ("{}".to_owned(), "missing field `defaultAction`"),
        (profile("\"flags\": []} ]"), "trailing characters"),
        (rule(r#""action": "SCMP_ACT_FOO""#), r#"syscalls[0].action: unknown action "SCMP_ACT_FOO""#),
        (
            rule(r#""action": "SCMP_ACT_ERRNO", "errnoRet": 4096"#),
            "syscalls[0].action: error 4096 is none: the highest is 4095",
        ),
        (rule(r#""action": "SCMP_ACT_ERRNO", "errno": "EFOO""#), r#"syscalls[0].action: unknown error "EFOO""#),
        (
            rule(r#""action": "SCMP_ACT_TRAP", "errnoRet": 1"#),
            "syscalls[0].action: SCMP_ACT_TRAP returns no error, and one is given",
        ),
        (
            rule(r#""action": "SCMP_ACT_LOG", "includes": {"minKernel": "new"}"#),
            r#"syscalls[0].includes: minKernel: "new" is no version"#,
        ),
        (
            test(r#""index": 6, "value": 0, "op": "SCMP_CMP_EQ""#),
            "syscalls[0].args[0].index: 6 is none: a call has the arguments 0 to 5",
        ),
        (
            test(r#""index": 0, "value": -1, "op": "SCMP_CMP_EQ""#),
            "syscalls[0].args[0].value: invalid value: integer `-1`, expected u64",
        ),
        (test(r#""index": 0, "value": 0, "op": "EQ""#), r#"syscalls[0].args[0].op: unknown operator "EQ""#),
        (
            profile(r#""syscalls": [{"names": [], "action": "SCMP_ACT_LOG"}]"#),
            "syscalls[0].names: a rule must name a call",
        ),
        (profile(r#""architectures": ["SCMP_ARCH_VAX"]"#), r#"architectures[0]: unknown architecture "SCMP_ARCH_VAX""#),
        (profile(r#""flags": ["SECCOMP_FILTER_FLAG_FOO"]"#), r#"flags[0]: unknown flag "SECCOMP_FILTER_FLAG_FOO""#),
        (profile(r#""defaultErrnoRet": 1"#), "defaultAction: SCMP_ACT_ALLOW returns no error, and one is given"),
        (
            r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#.to_owned(),
            "defaultAction: SCMP_ACT_NOTIFY would block the launcher before it has passed the listener on",
        ),
        (
            notify("write", listener),
            "SCMP_ACT_NOTIFY for write would block the launcher before it has passed the listener on",
        ),
        (notify("mount", ""), "SCMP_ACT_NOTIFY needs a listenerPath"),
        (profile(r#""listenerMetadata": "x""#), "listenerMetadata without listenerPath"),
    ] {
        let fault = failure(&text).to_string();
        let (fault, _) = fault.split_once(" at line 1").unwrap_or((&fault, ""));
        assert_eq!(fault, expected, "{text}");
    }
    let hint = failure(&rule(r#""action": "SCMP_ACT_FOO""#)).lines("privileges");
    assert!(hint.contains("\nhint: one of SCMP_ACT_KILL, SCMP_ACT_KILL_PROCESS, "), "{hint}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let failure = Profile::read("/nosuch/profile.json".as_ref()).unwrap_err();
    assert_eq!(failure.to_string(), "cannot read /nosuch/profile.json: no such file or directory");
}

/// A FIFO would make us wait for a writer, a device could be read for ever.
#[test]
fn what_is_no_file_is_refused() {
    let failure = Profile::read("/dev/zero".as_ref()).unwrap_err();
    assert_eq!(failure.to_string(), "cannot read /dev/zero: it is not a regular file");
    let fifo = std::env::temp_dir().join(format!("cellblock-profile-{}", std::process::id()));
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
    let failure = Profile::read(&fifo).unwrap_err();
    std::fs::remove_file(&fifo).unwrap();
    assert!(failure.to_string().ends_with("it is not a regular file"), "{failure}");
}

#[test]
fn a_filter_can_be_too_long() {
    let test = r#"{"index": 0, "value": 4294967297, "op": "SCMP_CMP_EQ"}"#;
    let names: Vec<String> = ["read", "write", "open"]
        .map(|name| {
            format!(r#"{{"names": ["{name}"], "action": "SCMP_ACT_ERRNO", "args": [{}]}}"#, vec![test; 400].join(", "))
        })
        .into();
    let text = format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{}]}}"#, names.join(", "));
    let fault = failure(&text).to_string();
    assert!(fault.ends_with(" instructions, and the kernel takes 4096"), "{fault}");
}

#[test]
fn a_listener_is_asked_for() {
    let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent", "listenerMetadata": "x",
        "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", "SECCOMP_FILTER_FLAG_TSYNC"],
        "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}]}"#;
    let filter = Filter::new(&Profile::parse(text).unwrap(), |_| false).unwrap();
    assert_eq!(filter.listener(), Some("/run/agent".as_ref()));
    let unused = text.replace("NOTIFY", "LOG");
    let filter = Filter::new(&Profile::parse(&unused).unwrap(), |_| false).unwrap();
    assert_eq!(filter.listener(), None);
}

#[test]
fn docker_s_own_form_is_read() {
    let text = r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "defaultErrno": "ENOSYS",
        "architectures": null,
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
                    {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]}],
        "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": null, "comment": "", "includes": {}, "excludes": {}},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["umount2"], "action": "SCMP_ACT_ERRNO", "errno": "EPERM", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["getpid"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390x"]}},
            {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
            {"names": ["getppid"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.0"}}]}"#;
    let profile = Profile::parse(text).unwrap();
    let without = Compiled::new(&profile, calls::of_this_machine(), &[]);
    let with = Compiled::new(&profile, calls::of_this_machine(), &["CAP_SYS_ADMIN"]);
    let native = calls::of_this_machine()[0].name;
    let (yes, no) = (Answer::ALLOW, Answer::NO_SUCH_CALL);
    for (name, of_without, of_with) in [
        ("read", yes, yes),
        ("mount", no, yes),
        ("umount2", Answer::error(1), no),
        ("getpid", no, no),
        ("ptrace", yes, yes),
        ("getppid", no, no),
    ] {
        assert_eq!(without.ask(native, name, &[]), of_without, "{name}");
        assert_eq!(with.ask(native, name, &[]), of_with, "{name}");
    }
    let other = calls::of_this_machine().last().unwrap().name;
    assert_eq!(without.ask(other, "read", &[]), yes);
    let again = Profile::parse(&serde_json::to_string(&profile).unwrap()).unwrap();
    assert_eq!(format!("{again:?}"), format!("{profile:?}"), "written and read again");
}
