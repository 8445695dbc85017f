//! One configuration with every field in it, and what becomes of it when something in it is wrong.

use kernel::Failure;
use serde_json::{Value, json};

use super::*;

const FULL: &str = include_str!("../../tests-data/full.json");
const UNSUPPORTED: &str = include_str!("../../tests-data/unsupported.json");

fn accept(text: &[u8]) -> Result<Spec, Failure> {
    let spec = parse("config.json", text)?;
    checked(&spec).map(|()| spec)
}

fn checked(spec: &Spec) -> Result<(), Failure> {
    let capability = |name: &str| ["CAP_KILL", "CAP_CHOWN"].contains(&name);
    check(spec, &Known { capability: &capability, rlimit: &|name| name.starts_with("RLIMIT_") })
}

fn full() -> Value {
    serde_json::from_str(FULL).unwrap()
}

/// Puts a value at a place such as `/process/args/0`, where there was one or was none; `None` takes away what is there.
fn put(config: &mut Value, pointer: &str, value: Option<Value>) {
    let (parent, last) = pointer.rsplit_once('/').unwrap();
    match (config.pointer_mut(parent).expect(pointer), value) {
        (Value::Object(fields), Some(value)) => drop(fields.insert(last.replace("~1", "/"), value)),
        (Value::Object(fields), None) => drop(fields.remove(last)),
        (Value::Array(elements), Some(value)) => elements[last.parse::<usize>().unwrap()] = value,
        (Value::Array(elements), None) => drop(elements.remove(last.parse().unwrap())),
        (other, _) => panic!("{pointer} in {other}"),
    }
}

/// Every place in a configuration, as a pointer and as a path in our failures.
fn places(config: &Value, pointer: &str, path: &str, into: &mut Vec<(String, String)>) {
    let mut note = |value: &Value, step: &str, path: String| {
        let pointer = format!("{pointer}/{step}");
        places(value, &pointer, &path, into);
        into.push((pointer, path));
    };
    match config {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            let mut path = path.to_owned();
            locate::push_field(&mut path, name);
            note(value, name, path);
        }),
        Value::Array(elements) => elements.iter().enumerate().for_each(|(index, value)| {
            note(value, &index.to_string(), format!("{path}[{index}]"));
        }),
        _ => {}
    }
}

#[test]
fn every_field_is_known_and_written_as_it_was_read() {
    let mut config = full();
    assert_eq!(serde_json::to_value(accept(FULL.as_bytes()).unwrap()).unwrap(), config);
    merge(&mut config, &serde_json::from_str(UNSUPPORTED).unwrap());
    let spec: Spec = parse("config.json", config.to_string().as_bytes()).unwrap();
    assert_eq!(serde_json::to_value(spec).unwrap(), config);
}

#[test]
fn a_small_configuration_is_enough() {
    let small = json!({
        "ociVersion": "1.0.2-dev",
        "process": {"cwd": "/", "args": ["sh"]},
        "root": {"path": "rootfs"},
        "linux": {"namespaces": [{"type": "mount"}]},
        "io.example.unknown": [{"anything": null}],
    });
    accept(small.to_string().as_bytes()).unwrap();
}

/// Callers in Go write `null` and zero values for what is absent.
#[test]
fn null_and_empty_are_absent() {
    let empty = json!({
        "ociVersion": "1.0.2",
        "process": {"cwd": "/", "args": ["sh"], "env": null, "terminal": null, "user": null, "apparmorProfile": "",
            "capabilities": {"bounding": null}, "rlimits": null, "oomScoreAdj": null, "consoleSize": null},
        "root": {"path": "rootfs", "readonly": null},
        "hostname": "", "domainname": null, "mounts": null, "annotations": null, "hooks": {"prestart": null},
        "linux": {"namespaces": [{"type": "mount", "path": ""}], "cgroupsPath": "", "resources": {"cpu": {"cpus": ""}},
            "sysctl": null, "seccomp": null, "devices": null, "rootfsPropagation": "", "intelRdt": null},
    });
    let spec = accept(empty.to_string().as_bytes()).unwrap();
    let linux = spec.linux.unwrap();
    assert_eq!((spec.hostname, &linux.namespaces[0].path, linux.cgroups_path), (None, &None, None));
}

/// What fits into few places.
fn unfit_values() -> Vec<Value> {
    let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
    vec![
        json!(null),
        json!("x"),
        json!(""),
        json!("\n\u{7f}\u{2028}"),
        json!("x".repeat(1 << 14)),
        json!(-1),
        json!(0),
        json!(1.5),
        json!(1e300),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(true),
        json!([]),
        json!(["x"]),
        json!([[]]),
        json!({}),
        json!({"x": {}}),
        deep,
    ]
}

/// Whatever becomes of one key: no panic, and either it is taken or one line names the place.
#[test]
fn every_key_deleted_nulled_retyped_made_huge() {
    let mut every = Vec::new();
    places(&full(), "", "", &mut every);
    assert!(every.len() > 250, "{}", every.len());
    for (pointer, path) in &every {
        for value in unfit_values().into_iter().map(Some).chain([None]) {
            let mut config = full();
            let shown = format!("{pointer} = {:.40}", format!("{value:?}"));
            put(&mut config, pointer, value);
            let text = config.to_string();
            let failure = match parse::<Spec>("config.json", text.as_bytes()) {
                Err(failure) => failure,
                Ok(spec) => {
                    checked(&spec).unwrap_or_else(|failure| assert_one_line(&failure, &shown));
                    continue;
                }
            };
            assert_one_line(&failure, &shown);
            let failure = failure.to_string();
            let place = failure.strip_prefix("config.json: ").unwrap_or_else(|| panic!("{shown}: {failure}"));
            let parent = &path[..path.rfind(['.', '[']).unwrap_or(0)];
            let named = place.starts_with(path.as_str()) || place.starts_with(&format!("{parent}: missing field"));
            assert!(named || parent.is_empty() && place.starts_with("missing field"), "{shown}: {failure}");
        }
    }
}

fn assert_one_line(failure: &Failure, shown: &str) {
    let lines = failure.lines("cellblock");
    let whole = lines.lines().count() == 2 && lines.len() < 1000 && failure.to_string().contains(": ");
    assert!(whole && !lines.replace('\n', "").contains(char::is_control), "{shown}: {lines}");
}

/// The text cut off, or with one byte changed.
#[test]
fn broken_texts() {
    for end in (0..FULL.trim_end().len()).step_by(7) {
        let failure = accept(&FULL.as_bytes()[..end]).expect_err("half a configuration");
        assert_one_line(&failure, &format!("cut at {end}"));
    }
    for at in (0..FULL.len()).step_by(5) {
        for byte in [b'"', b'}', 0xff] {
            let mut text = FULL.as_bytes().to_vec();
            text[at] = byte;
            if let Err(failure) = accept(&text) {
                assert_one_line(&failure, &format!("{byte} at {at}"));
            }
        }
    }
}

#[test]
fn wrong_types_name_their_place() {
    for (text, expected) in [
        ("", "config.json: EOF while parsing a value"),
        ("[]", "config.json: invalid type: sequence, expected struct Spec"),
        ("{\"ociVersion\": 1}", "config.json: ociVersion: invalid type: integer `1`, expected a string"),
        (
            r#"{"ociVersion": "1.0.0", "process": {"cwd": "/", "rlimits": [{"type": "A", "soft": "x", "hard": 1}]}}"#,
            r#"config.json: process.rlimits[0].soft: invalid type: string "x", expected u64"#,
        ),
        (
            r#"{"ociVersion": "1.0.0", "linux": {"namespaces": [{"type": "pid"}, {"type": "net"}]}}"#,
            "config.json: linux.namespaces[1].type: unknown variant `net`, expected one of `cgroup`, `ipc`, `mount`, \
             `network`, `pid`, `time`, `user`, `uts`",
        ),
        (
            r#"{"ociVersion": "1.0.0", "process": {"cwd": "/", "user": {"uid": -1, "gid": 0}}}"#,
            "config.json: process.user.uid: invalid value: integer `-1`, expected u32",
        ),
        (
            r#"{"ociVersion": "1.0.0", "process": {"cwd": "/", "user": {"gid": 0}}}"#,
            "config.json: process.user: missing field `uid`",
        ),
        (
            r#"{"ociVersion": "1.0.0", "root": {"path": "a", "path": "b"}}"#,
            "config.json: root.path: duplicate field `path`",
        ),
        (
            r#"{"ociVersion": "1.0.0", "annotations": {"a.b": "\\\u0000"}}"#,
            r#"config.json: annotations["a.b"]: a NUL in a string"#,
        ),
        (r#"{"ociVersion": "1.0.0", "root": {"path": "a" "b"}}"#, "config.json: root.path: expected `,` or `}`"),
    ] {
        assert_eq!(parse::<Spec>("config.json", text.as_bytes()).unwrap_err().to_string(), expected);
    }
    assert!(parse::<Spec>("config.json", br#"{"ociVersion": "\\u0000"}"#).is_ok(), "a backslash and a word");
}

/// A string of 10 MB is not printed.
#[test]
fn huge_strings() {
    let mut config = full();
    put(&mut config, "/linux/namespaces/0/type", Some(json!("x".repeat(10 << 20))));
    assert_one_line(&accept(config.to_string().as_bytes()).unwrap_err(), "10 MB");
}

#[test]
fn files_that_cannot_be_read() {
    let refused = |file: &str| read::<Spec>(file.as_ref()).unwrap_err().to_string();
    assert_eq!(refused("/nosuch/config.json"), "cannot read /nosuch/config.json: no such file or directory");
    assert_eq!(refused("/dev/zero"), "cannot read /dev/zero: it is not a regular file");
    assert_eq!(refused("/proc"), "cannot read /proc: it is not a regular file");
}

fn merge(config: &mut Value, more: &Value) {
    match (config, more) {
        (Value::Object(fields), Value::Object(more)) => {
            more.iter().for_each(|(name, value)| merge(fields.entry(name).or_insert(json!(null)), value));
        }
        (config, more) => *config = more.clone(),
    }
}

/// Each thing that is not done is refused by its name, when it alone is asked for.
#[test]
fn what_is_not_supported_is_refused_by_name() {
    let unsupported: Value = serde_json::from_str(UNSUPPORTED).unwrap();
    for (pointer, expected) in [
        ("/process/apparmorProfile", "process.apparmorProfile: apparmor is not enabled on this machine"),
        ("/process/selinuxLabel", "process.selinuxLabel: not supported"),
        ("/linux/mountLabel", "linux.mountLabel: not supported"),
        ("/linux/intelRdt", "linux.intelRdt: not supported"),
        ("/linux/resources/memory/kernel", "linux.resources.memory.kernel: not supported"),
        ("/linux/resources/memory/kernelTCP", "linux.resources.memory.kernelTCP: not supported"),
        ("/linux/resources/memory/useHierarchy", "linux.resources.memory.useHierarchy: not supported"),
    ] {
        let mut config = full();
        put(&mut config, pointer, unsupported.pointer(pointer).cloned());
        match accept(config.to_string().as_bytes()) {
            Ok(_) => assert!(expected.ends_with("on this machine"), "{pointer}"),
            Err(failure) => assert!(failure.to_string().starts_with(expected), "{failure}"),
        }
    }
}

#[test]
fn rules() {
    for (pointer, value, expected) in RULES {
        let mut config = full();
        let value = (!value.is_empty()).then(|| serde_json::from_str(value).expect(value));
        put(&mut config, pointer, value);
        let failure = accept(config.to_string().as_bytes()).expect_err(expected);
        assert_eq!(failure.to_string(), *expected);
    }
}

/// A place, the JSON that is put there (nothing takes away what is there), and the line that refuses it.
const RULES: &[(&str, &str, &str)] = &[
    ("/ociVersion", r#""2.0.0""#, r#"ociVersion: "2.0.0" is not 1.x, which is all that is understood here"#),
    ("/ociVersion", r#""one""#, r#"ociVersion: "one" is not a version, such as 1.2.0"#),
    ("/process", "", "process: missing: nothing would run"),
    ("/process/cwd", r#""tmp""#, r#"process.cwd: "tmp" is not an absolute path"#),
    ("/process/args", "[]", "process.args: no program: at least one entry is needed"),
    ("/process/env/1", r#""CELL""#, r#"process.env[1]: "CELL" is not NAME=VALUE"#),
    ("/process/env/1", r#""=7""#, r#"process.env[1]: "=7" is not NAME=VALUE"#),
    ("/process/consoleSize/width", "65536", "process.consoleSize.width: 65536 is more than 65535"),
    ("/process/user/umask", "512", "process.user.umask: 512 is more than 511, octal 777"),
    (
        "/process/capabilities/ambient/0",
        r#""CAP_FLY""#,
        r#"process.capabilities.ambient[0]: "CAP_FLY" is not a capability"#,
    ),
    ("/process/rlimits/0/type", r#""NOFILE""#, r#"process.rlimits[0].type: "NOFILE" is not a resource limit"#),
    ("/process/rlimits/0/type", r#""RLIMIT_CORE""#, r#"process.rlimits[1].type: "RLIMIT_CORE" is there twice"#),
    ("/process/rlimits/0/soft", "1025", "process.rlimits[0].soft: 1025 is more than the hard limit"),
    ("/process/oomScoreAdj", "1001", "process.oomScoreAdj: 1001 is not in -1000 to 1000"),
    ("/process/scheduler/nice", "20", "process.scheduler.nice: 20 is not in -20 to 19"),
    ("/process/scheduler/priority", "1", "process.scheduler.priority: only SCHED_FIFO and SCHED_RR have one"),
    ("/process/scheduler/policy", r#""SCHED_RR""#, "process.scheduler.priority: 0 is not in 1 to 99"),
    ("/process/scheduler/policy", r#""SCHED_OTHER""#, "process.scheduler.runtime: only SCHED_DEADLINE has one"),
    ("/process/ioPriority/priority", "8", "process.ioPriority.priority: 8 is not in 0 to 7"),
    (
        "/process/execCPUAffinity/final",
        r#""1-0""#,
        r#"process.execCPUAffinity.final: "1-0" is not a list such as 0-3,7"#,
    ),
    ("/root", "", "root: missing: a container has a root directory"),
    ("/root/path", r#""""#, "root.path: it is empty"),
    ("/linux/namespaces/4", "", "hostname: without an own uts namespace it would be the host's that changes"),
    (
        "/domainname",
        r#""a2345678901234567890123456789012345678901234567890123456789012345""#,
        "domainname: longer than 64 bytes",
    ),
    (
        "/mounts/0/destination",
        r#""/a/..""#,
        r#"mounts[0].destination: "/a/.." is the root itself, which root.path names"#,
    ),
    ("/mounts/0/type", "", "mounts[0].type: missing, and neither bind nor rbind is among the options"),
    ("/mounts/1/source", "", "mounts[1].source: missing: a bind mount shows something"),
    ("/mounts/1/gidMappings", "", "mounts[1].gidMappings: missing, and uidMappings is there: both or none"),
    ("/mounts/1/uidMappings/0/size", "0", "mounts[1].uidMappings[0].size: must be above 0"),
    ("/mounts/2/type", r#""ramfs""#, "mounts[2].options: tmpcopyup is for a tmpfs"),
    ("/hooks/poststop/0/path", r#""hook""#, r#"hooks.poststop[0].path: "hook" is not an absolute path"#),
    ("/hooks/prestart/0/timeout", "0", "hooks.prestart[0].timeout: must be above 0"),
    ("/hooks/prestart/0/env/0", r#""A""#, r#"hooks.prestart[0].env[0]: "A" is not NAME=VALUE"#),
    ("/annotations/", r#""x""#, "annotations: a name is empty"),
    ("/linux/namespaces/0/type", r#""ipc""#, "linux.namespaces[3].type: ipc is there twice"),
    ("/linux/namespaces/1/path", r#""netns""#, r#"linux.namespaces[1].path: "netns" is not an absolute path"#),
    ("/linux/namespaces/2", "", "linux.namespaces: no mount namespace: what is mounted would be mounted on the host"),
    ("/linux/namespaces/5", "", "linux.uidMappings: there is no user namespace to have it"),
    ("/linux/gidMappings", "", "linux.gidMappings: missing: in a new user namespace nobody would be anybody"),
    (
        "/linux/uidMappings/0/hostID",
        "4294967295",
        "linux.uidMappings[0].hostID: the range goes beyond the largest number",
    ),
    ("/linux/namespaces/7", "", "linux.timeOffsets.boottime: there is no new time namespace to have it"),
    (
        "/linux/timeOffsets/realtime",
        "{}",
        "linux.timeOffsets.realtime: the clocks that can differ are monotonic and boottime",
    ),
    (
        "/linux/timeOffsets/monotonic/nanosecs",
        "1000000000",
        "linux.timeOffsets.monotonic.nanosecs: must be less than a second, 1000000000",
    ),
    ("/linux/devices/0/path", r#""fuse""#, r#"linux.devices[0].path: "fuse" is not an absolute path"#),
    ("/linux/devices/1/path", r#""/dev/fuse""#, r#"linux.devices[1].path: "/dev/fuse" is there twice"#),
    ("/linux/devices/1/minor", "", "linux.devices[1].minor: missing: only a FIFO has none"),
    ("/linux/devices/1/major", "4096", "linux.devices[1].major: 4096 is not in 0 to 4095"),
    ("/linux/devices/0/fileMode", "65536", "linux.devices[0].fileMode: 65536 is more than 65535, octal 177777"),
    (
        "/linux/netDevices",
        r#"{"eth7": {"name": "eth0"}, "eth8": {"name": "eth0"}}"#,
        r#"linux.netDevices.eth8.name: "eth0" is there twice"#,
    ),
    (
        "/linux/netDevices",
        r#"{"eth7": {"name": "a/b"}}"#,
        r#"linux.netDevices.eth7.name: "a/b" is no interface's name"#,
    ),
    (
        "/linux/cgroupsPath",
        r#""/a/../../b""#,
        r#"linux.cgroupsPath: "/a/../../b" could leave its tree: write it without .."#,
    ),
    (
        "/linux/resources/devices/0/access",
        r#""rx""#,
        r#"linux.resources.devices[0].access: "rx" is not made of r, w and m"#,
    ),
    ("/linux/resources/memory/limit", "-2", "linux.resources.memory.limit: -2 is not -1, which is no limit, or more"),
    (
        "/linux/resources/memory/swap",
        "1",
        "linux.resources.memory.swap: memory and swap together are less than memory alone",
    ),
    ("/linux/resources/memory/swappiness", "101", "linux.resources.memory.swappiness: 101 is not in 0 to 100"),
    (
        "/linux/resources/cpu/quota",
        "999",
        "linux.resources.cpu.quota: 999 is not -1, which is no limit, or 1000 or more",
    ),
    ("/linux/resources/cpu/burst", "50001", "linux.resources.cpu.burst: more than the quota"),
    ("/linux/resources/cpu/cpus", r#""one""#, r#"linux.resources.cpu.cpus: "one" is not a list such as 0-3,7"#),
    ("/linux/resources/blockIO/weight", "1001", "linux.resources.blockIO.weight: 1001 is not in 10 to 1000"),
    (
        "/linux/resources/blockIO/throttleReadIOPSDevice/0/major",
        "-1",
        "linux.resources.blockIO.throttleReadIOPSDevice[0].major: -1 is not in 0 to 4095",
    ),
    (
        "/linux/resources/unified/..~1memory.max",
        r#""1""#,
        r#"linux.resources.unified["../memory.max"]: not a file of a cgroup, such as memory.high"#,
    ),
    (
        "/linux/sysctl/vm.swappiness",
        r#""1""#,
        r#"linux.sysctl["vm.swappiness"]: it is the whole machine's: no namespace has it for itself"#,
    ),
    (
        "/linux/rootfsPropagation",
        r#""free""#,
        r#"linux.rootfsPropagation: "free" is not one of shared, slave, private, unbindable"#,
    ),
    ("/linux/maskedPaths/0", r#""kcore""#, r#"linux.maskedPaths[0]: "kcore" is not an absolute path"#),
    ("/linux/personality/flags", r#"["ADDR"]"#, "linux.personality.flags: the specification names no flag yet"),
];
