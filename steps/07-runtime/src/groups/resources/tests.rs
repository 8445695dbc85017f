//! What is asked for, and what is written for it, on v1 and on v2.

use std::collections::BTreeMap;

use kernel::Failure;

use super::*;
use crate::spec::{Cpu, HugepageLimit, InterfacePriority, Network, Pids, Rdma, WeightDevice};

/// What is written to a group that has all files, but none of BFQ's and none for reservations.
fn lines(resources: &Resources) -> [Vec<String>; 2] {
    let old = |file: &str| !file.contains("bfq") && !file.contains("rsvd");
    let text = |settings: Result<Vec<Setting>, Failure>| match settings {
        Ok(settings) => settings.iter().map(|set| format!("{} {}", set.file, set.value)).collect(),
        Err(failure) => vec![format!("refused: {failure}")],
    };
    [text(v1::settings(resources, &old)), text(v2::settings(resources, &old))]
}

fn memory(limit: i64, swap: i64) -> [Vec<String>; 2] {
    let memory = Memory { limit: Some(limit), swap: Some(swap), ..Memory::default() };
    lines(&Resources { memory, ..Resources::default() })
}

#[test]
fn memory_and_swap() {
    const LIMIT: &str = "memory.limit_in_bytes";
    const TOGETHER: &str = "memory.memsw.limit_in_bytes";
    let both = |one: String, two: String| vec![one, two];
    let [v1, v2] = memory(64, 96);
    assert_eq!(v1, both(format!("{LIMIT} 64"), format!("{TOGETHER} 96")));
    assert_eq!(v2, ["memory.swap.max 32", "memory.max 64"]);
    assert_eq!(memory(64, 64)[1], ["memory.swap.max 0", "memory.max 64"], "no swap at all");
    assert_eq!(memory(64, 0)[1], ["memory.max 64"], "not said");
    assert_eq!(memory(64, -1)[1], ["memory.swap.max max", "memory.max 64"]);
    let [v1, v2] = memory(-1, 0);
    assert_eq!(v1, both(format!("{LIMIT} -1"), format!("{TOGETHER} -1")));
    assert_eq!(v2, ["memory.swap.max max", "memory.max max"]);
    assert_eq!(memory(-1, 32)[1], ["memory.swap.max 32", "memory.max max"]);
    assert_eq!(memory(64, 32)[1], ["refused: memory+swap limit should be >= memory limit"]);
    assert_eq!(memory(0, 32)[1], ["refused: unable to set swap limit without memory limit"]);
    assert_eq!(memory(0, 0), [[""; 0]; 2]);
}

#[test]
fn memory_without_swap_in_the_kernel() {
    let none = |_: &str| false;
    let lift = Resources { memory: Memory { limit: Some(-1), ..Memory::default() }, ..Resources::default() };
    assert_eq!(v1::settings(&lift, &none).unwrap().len(), 1);
    assert_eq!(v2::settings(&lift, &none).unwrap().len(), 1);
    let memory = Memory { limit: Some(64), swap: Some(96), ..Memory::default() };
    let limited = Resources { memory, ..Resources::default() };
    assert_eq!(v1::settings(&limited, &none).unwrap().len(), 2, "what cannot be kept is not dropped in silence");
    assert_eq!(v2::settings(&limited, &none).unwrap().len(), 2);
}

#[test]
fn time() {
    let cpu = Cpu { shares: Some(1024), quota: Some(50_000), period: Some(100_000), ..Cpu::default() };
    let resources = Resources { cpu: Cpu { burst: Some(10), idle: Some(0), ..cpu.clone() }, ..Resources::default() };
    let [v1, v2] = lines(&resources);
    let expected = "cpu.idle 0|cpu.shares 1024|cpu.cfs_period_us 100000|cpu.cfs_quota_us 50000|cpu.cfs_burst_us 10";
    assert_eq!(v1.join("|"), expected);
    assert_eq!(v2.join("|"), "cpu.idle 0|cpu.weight 100|cpu.max 50000 100000|cpu.max.burst 10");
    let only = |quota, period| {
        lines(&Resources { cpu: Cpu { quota, period, ..Cpu::default() }, ..Resources::default() })[1].join("|")
    };
    assert_eq!(only(Some(-1), None), "cpu.max max");
    assert_eq!(only(Some(5000), None), "cpu.max 5000");
    assert_eq!(only(None, Some(5000)), "cpu.max max 5000");
    assert_eq!(only(Some(0), Some(0)), "");
    let places = Cpu { cpus: Some("0-1".to_owned()), mems: Some(String::new()), idle: Some(1), ..Cpu::default() };
    let resources = Resources { cpu: places, ..Resources::default() };
    assert_eq!(lines(&resources), [["cpu.idle 1", "cpuset.cpus 0-1"]; 2]);
    assert_eq!(resources.controllers(), ["cpu", "cpuset"]);
}

#[test]
fn shares_and_weights() {
    let weight = |shares| {
        let cpu = Cpu { shares: Some(shares), ..Cpu::default() };
        lines(&Resources { cpu, ..Resources::default() })[1].concat()
    };
    // The values that opencontainers/cgroups has in its own tests.
    for (shares, expected) in [(2, 1), (1024, 100), (262_144, 10_000), (1, 1), (u64::MAX, 10_000)] {
        assert_eq!(weight(shares), format!("cpu.weight {expected}"));
    }
    let v1 = |shares| lines(&Resources { cpu: Cpu { shares: Some(shares), ..Cpu::default() }, ..Resources::default() });
    assert!(v1(1)[0][0].contains("minimum allowed cpu-shares is 2"));
}

#[test]
fn disks() {
    let on_disk = |rate| vec![ThrottleDevice { major: 8, minor: 0, rate }];
    let block_io = BlockIo {
        weight: Some(1000),
        weight_device: vec![WeightDevice { major: 8, minor: 16, weight: Some(10), leaf_weight: None }],
        throttle_read_bps_device: on_disk(1024),
        throttle_write_iops_device: on_disk(0),
        ..BlockIo::default()
    };
    let resources = Resources { block_io, ..Resources::default() };
    let [v1, v2] = lines(&resources);
    let v1_expected = [
        "blkio.weight 1000",
        "blkio.weight_device 8:16 10",
        "blkio.throttle.read_bps_device 8:0 1024",
        "blkio.throttle.write_iops_device 8:0 0",
    ];
    assert_eq!(v1, v1_expected);
    assert_eq!(v2, ["io.weight 10000", "io.weight 8:16 1", "io.max 8:0 rbps=1024", "io.max 8:0 wiops=max"]);
    assert_eq!(v2::settings(&resources, &|_| true).unwrap()[0].file, "io.bfq.weight");
    assert_eq!(resources.controllers(), ["io"]);
}

#[test]
fn the_rest() {
    let adapter = Rdma { hca_handles: Some(2), hca_objects: None };
    let resources = Resources {
        pids: Some(Pids { limit: Some(-1) }),
        hugepage_limits: vec![HugepageLimit { page_size: "2MB".to_owned(), limit: 4096 }],
        rdma: BTreeMap::from([("mlx5_1".to_owned(), adapter)]),
        ..Resources::default()
    };
    let [v1, v2] = lines(&resources);
    assert_eq!(v1, ["pids.max max", "hugetlb.2MB.limit_in_bytes 4096", "rdma.max mlx5_1 hca_handle=2"]);
    assert_eq!(v2, ["pids.max max", "hugetlb.2MB.max 4096", "rdma.max mlx5_1 hca_handle=2"]);
    let network = Network {
        class_id: Some(0x10_0001),
        priorities: vec![InterfacePriority { name: "eth0".to_owned(), priority: 5 }],
    };
    let [v1, v2] = lines(&Resources { network, ..Resources::default() });
    assert_eq!(v1, ["net_cls.classid 1048577", "net_prio.ifpriomap eth0 5"]);
    assert_eq!(v2, ["refused: resources.network.classID: only cgroup v1 has it, and this is v2"]);
    let unified = BTreeMap::from([("io.max".to_owned(), "8:0 rbps=1\n8:16 rbps=2".to_owned())]);
    let resources = Resources { unified, ..Resources::default() };
    let [v1, v2] = lines(&resources);
    assert!(v1[0].contains("cannot use unified on cgroup v1"), "{v1:?}");
    assert_eq!(v2, ["io.max 8:0 rbps=1", "io.max 8:16 rbps=2"]);
    assert_eq!(resources.controllers(), ["io"]);
}

#[test]
fn zeros_and_what_is_not_set_ask_for_nothing() {
    let memory = Memory { limit: Some(0), swap: Some(0), swappiness: Some(u64::MAX), ..Memory::default() };
    let cpu = Cpu { shares: Some(0), quota: Some(0), cpus: Some(String::new()), ..Cpu::default() };
    let resources = Resources { memory, cpu, pids: Some(Pids { limit: None }), ..Resources::default() };
    assert_eq!(lines(&resources), [[""; 0]; 2]);
    assert_eq!(resources.controllers(), [""; 0]);
}
