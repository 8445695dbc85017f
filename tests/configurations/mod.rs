//! Random configurations: the template of `cellblock spec` with some changes, each of which the specification allows by itself.
//!
//! A case is a list of changes, so a failing one shrinks to those that are needed.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use serde_json::{Map, Value, json};

pub mod broken;
pub mod judge;
mod limits;
pub mod meant;
pub mod run;

/// Values for places in the configuration, each as a JSON pointer; one that ends with `-` is a new last entry of a list.
pub type Change = Vec<(&'static str, Value)>;

/// Each test begins with this seed, unless CELLBLOCK_SEED gives another one.
const SEED: u64 = 13;

/// Tries a number of cases, and panics with the smallest that fails.
pub fn try_all<S: Strategy>(cases: u32, strategy: &S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("CELLBLOCK_SEED").unwrap_or(SEED);
    let cases = number("CELLBLOCK_CASES").map_or(cases, |cases| cases as u32);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 500,
        max_shrink_time: 20_000,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    match runner.run(strategy, test) {
        Ok(()) => {}
        Err(TestError::Fail(reason, case)) => panic!("CELLBLOCK_SEED={seed}: {reason}\nthe smallest case: {case:?}"),
        Err(TestError::Abort(reason)) => panic!("CELLBLOCK_SEED={seed}: {reason}"),
    }
}

/// The template with these changes.
pub fn configured(template: &Value, changes: &[Change]) -> Value {
    let mut config = template.clone();
    for (pointer, value) in changes.iter().flatten() {
        put(&mut config, pointer, value);
    }
    config
}

fn put(config: &mut Value, pointer: &str, value: &Value) {
    let mut place = config;
    for key in pointer.split('/').skip(1) {
        place = match key {
            "-" => {
                let list = place.as_array_mut().expect("the parent is a list");
                list.push(Value::Null);
                list.last_mut().expect("it has just been put there")
            }
            key => {
                if place.is_null() {
                    *place = json!({});
                }
                let object = place.as_object_mut().expect("the parent is an object");
                let is_list = pointer.ends_with(&format!("/{key}/-"));
                object.entry(key).or_insert_with(|| if is_list { json!([]) } else { Value::Null })
            }
        };
    }
    *place = value.clone();
}

/// Some changes, all of them valid.
pub fn changes() -> impl Strategy<Value = Vec<Change>> {
    let one = prop_oneof![
        4 => process(),
        2 => limits::process(),
        3 => limits::resources(),
        4 => mount().prop_map(|mount| vec![("/mounts/-", mount)]),
        3 => device().prop_map(|device| vec![("/linux/devices/-", device)]),
        3 => namespaces(),
        2 => hook(),
        3 => linux(),
        1 => top(),
    ];
    vec(one, 0..7)
}

fn strings(words: &[&'static str]) -> impl Strategy<Value = Value> + use<> {
    select(words.to_vec()).prop_map(Value::from)
}

fn list(words: &[&'static str], most: usize) -> impl Strategy<Value = Value> + use<> {
    vec(select(words.to_vec()), 0..=most).prop_map(|words| json!(words))
}

/// One value at a place.
fn at<S: Strategy>(pointer: &'static str, strategy: S) -> impl Strategy<Value = Change>
where
    Value: From<S::Value>,
{
    strategy.prop_map(move |value| vec![(pointer, Value::from(value))])
}

/// An object of which each field is there or not.
fn object(fields: Vec<(&'static str, BoxedStrategy<Value>)>) -> impl Strategy<Value = Value> {
    let fields: Vec<_> = fields.into_iter().map(|(key, value)| option::of(value).prop_map(move |v| (key, v))).collect();
    fields.prop_map(|fields| {
        let there = fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        Value::Object(there.collect::<Map<_, _>>())
    })
}

const CAPABILITIES: [&str; 7] =
    ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_KILL", "CAP_MKNOD", "CAP_NET_ADMIN", "CAP_SETUID", "CAP_SYS_CHROOT"];

fn process() -> impl Strategy<Value = Change> {
    let ids = [0_u32, 1, 5, 1000, 65534, 4_294_967_294];
    let user = (
        select(ids.to_vec()),
        select(ids.to_vec()),
        option::of(select(vec![0_u32, 0o22, 0o27, 0o777])),
        vec(select(ids.to_vec()), 0..4),
    );
    let user = user.prop_map(|(uid, gid, umask, more)| match umask {
        Some(umask) => json!({"uid": uid, "gid": gid, "umask": umask, "additionalGids": more}),
        None => json!({"uid": uid, "gid": gid, "additionalGids": more}),
    });
    let sets = ["bounding", "effective", "inheritable", "permitted", "ambient"];
    let sets = sets.map(|set| (set, subsequence(CAPABILITIES.to_vec(), 0..=7).prop_map(|names| json!(names)).boxed()));
    let size = (0..=65535_u64, 0..=65535_u64).prop_map(|(height, width)| json!({"height": height, "width": width}));
    prop_oneof![
        at(
            "/process/cwd",
            strings(&["/", "/tmp", "/new/place", "/usr/../etc", "/root", "/proc", "/dev/shm", "/a b/\u{e4}"])
        ),
        at("/process/user", user),
        at(
            "/process/env",
            list(&["A=b", "A=c", "A=", "HOME=/tmp", "HOME=", "X=y=z", "U=\u{e4}\n", "TERM=dumb"], 5)
                .prop_map(|list| with_path(&list))
        ),
        at("/process/capabilities", object(sets.to_vec())),
        at("/process/noNewPrivileges", any::<bool>()),
        at("/process/oomScoreAdj", -1000..=1000_i64),
        at("/process/consoleSize", size),
    ]
}

/// Without a PATH our own script finds nothing.
fn with_path(variables: &Value) -> Value {
    let mut all = vec![json!("PATH=/usr/bin:/usr/sbin:/bin:/sbin")];
    all.extend(variables.as_array().expect("it is a list").iter().cloned());
    Value::from(all)
}

/// Stands for a directory of the test.
pub const DATA: &str = "@DATA";

/// What can be shown: [`DATA`] stands for a directory of the test's own, in which there is a file and a directory.
const SOURCES: [&str; 4] = [DATA, "@DATA/file", "@DATA/below", "data"];
const PLACES: [&str; 9] =
    ["/mnt", "/tmp", "/new/place", "opt", "/mnt/./below", "/mnt/../srv", "/dev/shm", "/var/run/x", "/a b/\u{e4}"];
const ATTRIBUTES: [&str; 18] = [
    "ro",
    "rw",
    "nosuid",
    "suid",
    "nodev",
    "dev",
    "noexec",
    "exec",
    "noatime",
    "relatime",
    "strictatime",
    "nodiratime",
    "sync",
    "defaults",
    "silent",
    "lazytime",
    "nosymfollow",
    "async",
];
const PROPAGATIONS: [&str; 8] =
    ["private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"];

fn mount() -> impl Strategy<Value = Value> {
    let place = || select(PLACES.to_vec());
    let words = || subsequence(ATTRIBUTES.to_vec(), 0..4).prop_shuffle();
    let spread = || option::of(select(PROPAGATIONS.to_vec()));
    let memory = subsequence(vec!["size=64k", "mode=0700", "mode=1777", "uid=5", "nr_inodes=100", "tmpcopyup"], 0..3);
    let memory = (place(), words(), spread(), memory).prop_map(|(place, mut words, spread, more)| {
        words.extend(more);
        words.extend(spread);
        json!({"destination": place, "type": "tmpfs", "source": "tmpfs", "options": words})
    });
    let below = || subsequence(vec!["rro", "rnosuid", "rnodev", "rnoexec", "rnoatime"], 0..2);
    let bind =
        (place(), select(SOURCES.to_vec()), select(vec!["bind", "rbind"]), words(), below(), spread(), any::<bool>());
    let bind = bind.prop_map(|(place, source, bind, words, below, spread, typed)| {
        let words: Vec<_> = [bind].into_iter().chain(words).chain(below).chain(spread).collect();
        match typed {
            true => json!({"destination": place, "type": "bind", "source": source, "options": words}),
            false => json!({"destination": place, "source": source, "options": words}),
        }
    });
    let system = (place(), select(vec!["proc", "sysfs", "mqueue", "devpts", "cgroup", "nosuch", "ramfs"]), words());
    let system = system
        .prop_map(|(place, kind, words)| json!({"destination": place, "type": kind, "source": kind, "options": words}));
    prop_oneof![3 => memory, 4 => bind, 2 => system]
}

fn device() -> impl Strategy<Value = Value> {
    let places = ["/dev/mine", "/mine", "/dev/full", "/new/deep/node", "/dev/shm/node", "/dev/a b", "/etc/passwd"];
    let numbers = [(1, 3), (1, 5), (1, 7), (10, 229), (7, 0), (0, 0), (4095, 1_048_575)];
    let rest = object(vec![
        ("fileMode", select(vec![0o666_u32, 0o600, 0, 0o4755, 0o20_666]).prop_map(Value::from).boxed()),
        ("uid", select(vec![0_u32, 5, 1000]).prop_map(Value::from).boxed()),
        ("gid", select(vec![0_u32, 5, 1000]).prop_map(Value::from).boxed()),
    ]);
    (select(places.to_vec()), select(vec!["c", "b", "p", "u"]), select(numbers.to_vec()), rest).prop_map(
        |(path, kind, (major, minor), mut device)| {
            device["path"] = json!(path);
            device["type"] = json!(kind);
            if kind != "p" {
                (device["major"], device["minor"]) = (json!(major), json!(minor));
            }
            device
        },
    )
}

/// Any combination that has mounts of its own; each kind is new, or joined by its path.
fn namespaces() -> impl Strategy<Value = Change> {
    let kinds = vec!["pid", "network", "ipc", "uts", "cgroup", "time", "user"];
    let joined = option::weighted(0.15, select(vec!["ipc", "uts", "network", "cgroup"]));
    let offsets = option::of((-5..1000_i64, 0..1_000_000_000_u32));
    (
        subsequence(kinds, 0..=7).prop_shuffle(),
        joined,
        select(vec![0_u32, 1, 100_000]),
        select(vec![1_u32, 1000, 65536]),
        offsets,
    )
        .prop_map(|(mut kinds, joined, host, size, offsets)| {
            kinds.push("mount");
            let entry = |kind: &&str| match joined {
                Some(joined) if joined == *kind => {
                    let file = if *kind == "network" { "net" } else { kind };
                    json!({"type": kind, "path": format!("/proc/self/ns/{file}")})
                }
                _ => json!({"type": kind}),
            };
            let mut change = vec![("/linux/namespaces", kinds.iter().map(entry).collect::<Value>())];
            if !kinds.contains(&"uts") {
                change.push(("/hostname", Value::Null));
            }
            if kinds.contains(&"user") {
                let map = json!([{"containerID": 0, "hostID": host, "size": size}]);
                change.extend([("/linux/uidMappings", map.clone()), ("/linux/gidMappings", map)]);
            }
            if let (true, Some((secs, nanosecs))) = (kinds.contains(&"time"), offsets) {
                change.push(("/linux/timeOffsets", json!({"monotonic": {"secs": secs, "nanosecs": nanosecs}})));
            }
            change
        })
}

fn hook() -> impl Strategy<Value = Change> {
    let moments = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    let pointers = moments.map(|moment| match moment {
        "prestart" => "/hooks/prestart/-",
        "createRuntime" => "/hooks/createRuntime/-",
        "createContainer" => "/hooks/createContainer/-",
        "startContainer" => "/hooks/startContainer/-",
        "poststart" => "/hooks/poststart/-",
        _ => "/hooks/poststop/-",
    });
    let rest = object(vec![
        ("args", list(&["true", "a b", "\u{e4}"], 3).boxed()),
        ("env", list(&["A=b", "PATH=/bin", "A="], 3).boxed()),
        ("timeout", select(vec![1_i64, 10]).prop_map(Value::from).boxed()),
    ]);
    let programs = vec![("/bin/true", 8), ("/bin/false", 1), ("/nosuch", 1)];
    let programs: Vec<_> = programs.into_iter().flat_map(|(path, weight)| vec![path; weight]).collect();
    (select(pointers.to_vec()), select(programs), rest).prop_map(|(pointer, path, mut hook)| {
        hook["path"] = json!(path);
        if let Some(args) = hook.get_mut("args").and_then(Value::as_array_mut) {
            args.insert(0, json!(path.rsplit('/').next())); // busybox asks it who it is
        }
        vec![(pointer, hook)]
    })
}

fn linux() -> impl Strategy<Value = Change> {
    let paths =
        ["/proc/kcore", "/proc/sys", "/etc", "/etc/passwd", "/nosuch", "/tmp/../etc", "/usr/bin", "/sys", "/var/run"];
    let sysctl = select(vec![
        ("net.ipv4.ip_forward", "1"),
        ("net/core/somaxconn", "100"),
        ("kernel.msgmax", "9000"),
        ("fs.mqueue.msg_max", "9"),
        ("kernel.shm_rmid_forced", "1"),
        ("kernel.msgmax", "many"),
        ("net.ipv4.nosuch", "1"),
        ("vm.swappiness", "1"),
    ]);
    let calls = ["getpid", "mkdir", "mkdirat", "chown", "nosuch_call", "unshare"];
    let seccomp = (subsequence(calls.to_vec(), 1..=6), select(vec!["SCMP_ACT_ERRNO", "SCMP_ACT_LOG"]));
    let seccomp = seccomp.prop_map(
        |(names, action)| json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": names, "action": action}]}),
    );
    prop_oneof![
        4 => at("/linux/maskedPaths", list(&paths, 4)),
        4 => at("/linux/readonlyPaths", list(&paths, 4)),
        4 => sysctl.prop_map(|(name, value)| vec![("/linux/sysctl", json!({name: value}))]),
        4 => at("/linux/seccomp", seccomp),
        4 => at("/linux/rootfsPropagation", strings(&PROPAGATIONS)),
        3 => strings(&["LINUX", "LINUX32"]).prop_map(|domain| vec![("/linux/personality", json!({"domain": domain}))]),
        2 => Just(vec![("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "0"}))]),
        1 => Just(vec![("/linux/netDevices", json!({"nosuch0": {"name": "eth7"}}))]),
        1 => Just(vec![("/linux/intelRdt", json!({"closID": "one"}))]),
        1 => Just(vec![("/linux/mountLabel", json!("system_u:object_r:container_file_t:s0"))]),
    ]
}

fn top() -> impl Strategy<Value = Change> {
    prop_oneof![
        at("/root/readonly", any::<bool>()),
        at("/hostname", strings(&["a", "name.example", "-", "\u{e4}"])),
        at("/domainname", strings(&["a", "domain.example"])),
        at("/ociVersion", strings(&["1.0.0", "1.0.2", "1.1.0", "1.2.0", "1.3.0"])),
        Just(vec![("/annotations", json!({"org.example.key": "value", "empty": ""}))]),
        Just(vec![("/unknown", json!({"nobody": ["knows", 1, null]}))]),
    ]
}
