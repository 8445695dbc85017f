//! Limits: those of a process, and those of the container's group. All of them leave room for the test's own script.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::{Change, at, object};

const MIB: i64 = 1 << 20;

/// `rlimits`, scheduling, priorities, CPUs.
pub fn process() -> impl Strategy<Value = Change> {
    let limits = vec![
        ("RLIMIT_NOFILE", 64),
        ("RLIMIT_CORE", 0),
        ("RLIMIT_STACK", 8 * MIB as u64),
        ("RLIMIT_DATA", 256 * MIB as u64),
        ("RLIMIT_FSIZE", MIB as u64),
        ("RLIMIT_MSGQUEUE", 0),
        ("RLIMIT_RTPRIO", 0),
        ("RLIMIT_SIGPENDING", 10),
    ];
    let limit = (select(limits), 0..100_u64, select(vec![0, 7, 1000]), any::<bool>());
    let limit = limit.prop_map(|((kind, least), more, beyond, endless)| {
        let soft = least + more;
        let hard = if endless { u64::MAX } else { soft + beyond };
        json!({"type": kind, "soft": soft, "hard": hard})
    });
    let fair = (select(vec!["SCHED_OTHER", "SCHED_BATCH", "SCHED_IDLE"]), -20..=19_i32)
        .prop_map(|(policy, nice)| json!({"policy": policy, "nice": nice}));
    let real = (select(vec!["SCHED_FIFO", "SCHED_RR"]), 1..=99_i32).prop_map(
        |(policy, priority)| json!({"policy": policy, "priority": priority, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}),
    );
    let disk = (select(vec!["IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE", "IOPRIO_CLASS_RT"]), 0..=7_i64)
        .prop_map(|(class, priority)| json!({"class": class, "priority": priority}));
    prop_oneof![
        4 => limit.prop_map(|limit| vec![("/process/rlimits/-", limit)]),
        1 => at("/process/scheduler", prop_oneof![fair, real]),
        1 => at("/process/ioPriority", disk),
        1 => Just(vec![("/process/execCPUAffinity", json!({"initial": "0", "final": "0"}))]),
    ]
}

fn numbers(values: &[i64]) -> BoxedStrategy<Value> {
    select(values.to_vec()).prop_map(Value::from).boxed()
}

/// `linux.resources`, a part at a time.
pub fn resources() -> impl Strategy<Value = Change> {
    let memory = object(vec![
        ("limit", numbers(&[-1, 0, 64 * MIB, 100 * MIB + 1, 1 << 40])),
        ("reservation", numbers(&[-1, 0, 16 * MIB])),
        ("swap", numbers(&[-1, 0, 128 * MIB, 1 << 41])),
        ("swappiness", numbers(&[0, 60, 100])),
        ("disableOOMKiller", any::<bool>().prop_map(Value::from).boxed()),
        ("useHierarchy", Just(json!(true)).boxed()),
        ("checkBeforeUpdate", any::<bool>().prop_map(Value::from).boxed()),
        ("kernel", numbers(&[-1, 0])),
    ]);
    let cpu = object(vec![
        ("shares", numbers(&[0, 2, 512, 1024, 262_144])),
        ("quota", numbers(&[-1, 0, 50_000, 100_000])),
        ("period", numbers(&[0, 10_000, 100_000, 1_000_000])),
        ("burst", numbers(&[0, 1000])),
        ("cpus", Just(json!("0")).boxed()),
        ("mems", Just(json!("0")).boxed()),
        ("idle", numbers(&[0, 1])),
        ("realtimePeriod", numbers(&[0, 1_000_000])),
        ("realtimeRuntime", numbers(&[0, 1000])),
    ]);
    let rule = (
        any::<bool>(),
        object(vec![
            ("type", select(vec!["a", "b", "c"]).prop_map(Value::from).boxed()),
            ("major", numbers(&[-1, 1, 10])),
            ("minor", numbers(&[-1, 3, 229])),
            ("access", select(vec!["r", "rw", "rwm", "m", ""]).prop_map(Value::from).boxed()),
        ]),
    );
    let rule = rule.prop_map(|(allow, mut rule)| {
        rule["allow"] = json!(allow);
        rule
    });
    let network = object(vec![
        ("classID", numbers(&[0, 0x10_0001])),
        ("priorities", Just(json!([{"name": "lo", "priority": 3}])).boxed()),
    ]);
    prop_oneof![
        4 => at("/linux/resources/memory", memory),
        6 => at("/linux/resources/cpu", cpu),
        6 => at("/linux/resources/pids/limit", numbers(&[-1, 20, 4_194_304])),
        4 => rule.prop_map(|rule| vec![("/linux/resources/devices/-", rule)]),
        4 => at("/linux/resources/blockIO/weight", numbers(&[0, 10, 1000])),
        1 => at("/linux/resources/network", network),
        1 => Just(vec![("/linux/resources/hugepageLimits", json!([{"pageSize": "2MB", "limit": 2_097_152}]))]),
        1 => Just(vec![("/linux/resources/rdma", json!({"nosuch0": {"hcaHandles": 3}}))]),
        1 => Just(vec![("/linux/resources/unified", json!({"pids.max": "100"}))]),
    ]
}
