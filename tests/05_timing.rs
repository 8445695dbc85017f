//! Step 5's tests that measure, or else need the machine for themselves: they run one after the other.
//!
//! What a cell uses is read from its group twice, with a known time in between, while it runs: so neither its start nor
//! its end counts, and an emulated machine, which needs half a second for either, gives the same figures as a real one.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cgroups::hierarchies::Hierarchies;
use classroom::groups::{Cell, names, run, used, world};
use classroom::lab::{FIGURES, not_run};
use classroom::world::sh;
use classroom::{Lab, World, check, lab};

/// Where cells lie that are compared: others on this machine have their share elsewhere.
const PARENT: &str = "/cellblock-alone";

/// No other test of this file runs while this is held.
fn alone() -> MutexGuard<'static, ()> {
    static MACHINE: Mutex<()> = Mutex::new(());
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn explained() {
    let _alone = alone();
    lab!(World::Root, |lab| {
        let trees = ["cpu", "cpuacct"]
            .map(|name| Hierarchies::read().unwrap().legacy_with(name).map(|tree| tree.point.clone()));
        if world() == "v1" && trees != ["cpu", "cpuacct"].map(|name| Some(format!("/sys/fs/cgroup/{name}"))) {
            return not_run("explained", "this machine's cgroup v1 trees are mounted elsewhere");
        }
        // In /cellblock there may be other cells on this machine; the story begins with a parent that is not there yet.
        let elsewhere = ["--cgroup-parent", "/cellblock-explained"];
        let output = run(lab, &[&["--explain", "--pids", "64", "--memory", "64m"], &elsewhere[..], &["true"]].concat());
        let output = output.to_string().replace(&format!("{} ", elsewhere.join(" ")), "");
        let output = output.replace("/cellblock-explained", "/cellblock");
        // What the topmost group passes on was set long ago on most machines.
        let ours = |line: &&str| {
            let told = (line.contains("cgroup") || line.contains(" > "))
                && (line.starts_with("parent") || line.contains("group"));
            line.starts_with('$') || (told && !line.contains("/sys/fs/cgroup/cgroup.subtree_control"))
        };
        let story: String = output.lines().filter(ours).map(|line| format!("{line}\n")).collect();
        check!(format!("cgroups_explained@{}", world()), story);
    });
}

/// A probe on the host: every ten milliseconds it forks, and measures how much later than it should that is done. The
/// 99th percentile, in milliseconds.
fn latency(time: Duration) -> f64 {
    let (begin, tick) = (Instant::now(), Duration::from_millis(10));
    let mut late = Vec::new();
    while begin.elapsed() < time {
        let due = Instant::now() + tick;
        sleep(tick);
        let _ = Command::new("true").status();
        late.push(due.elapsed().as_secs_f64() * 1000.0);
    }
    late.sort_by(f64::total_cmp);
    late[late.len() * 99 / 100]
}

/// The latency while sixty processes spin in a cell with these limits; how many CPUs it used, and how often it was
/// throttled.
fn latency_beside(lab: &Lab, limits: &[&str]) -> (f64, f64, u64) {
    let spin = "echo up; spin() { while :; do :; done; }; for n in $(seq 60); do spin & done 2>/dev/null; wait";
    let cell = Cell::start(lab, PARENT, &[limits, &["--init", "sh", "-c", spin]].concat());
    if limits.contains(&"--cpus") {
        cell.before_all_others(); // else neighbours could leave it so little that no limit is reached
    }
    sleep(Duration::from_millis(300));
    let (begin, before) = (Instant::now(), cell.cpu_time());
    let latency = latency(Duration::from_secs(2));
    let cpus = (cell.cpu_time() - before) / begin.elapsed().as_secs_f64();
    let throttled = cell.throttled();
    cell.end();
    (latency, cpus, throttled)
}

/// With --pids alone the survivors still spin, and the host waits for its turn; --cpus gives it back its time. How late
/// the host is depends on the neighbours, too: it is told, and the groups' own accounts judge.
#[test]
fn the_host_stays_responsive() {
    let _alone = alone();
    lab!(World::Root, |lab| {
        let calm = latency(Duration::from_secs(1));
        let (pids, _, held_back) = latency_beside(lab, &["--pids", "64"]);
        assert_eq!(held_back, 0, "nothing holds a cell back that has no limit");
        let (both, cpus, held_back) = latency_beside(lab, &["--pids", "64", "--cpus", "0.5"]);
        eprintln!("{FIGURES}: p99 alone {calm:.1} ms, --pids {pids:.1}, and --cpus {both:.1}");
        assert!((0.001..=0.6).contains(&cpus) && held_back > 0, "{cpus:.3} of a CPU, throttled {held_back} times");
    });
}

/// What spins until it is ended.
const SPIN: [&str; 4] = ["--init", "sh", "-c", "echo up; while :; do :; done"];

/// Two that spin: one of them has its turn even where a neighbour spins on each CPU.
const SPIN_TWICE: [&str; 4] =
    ["--init", "sh", "-c", "echo up; (while :; do :; done) & (while :; do :; done) & while :; do :; done"];

/// How many CPUs each of these cells has while four seconds go by.
fn cpus_of<const N: usize>(cells: &[Cell; N]) -> [f64; N] {
    let (begin, before) = (Instant::now(), cells.each_ref().map(Cell::cpu_time));
    sleep(Duration::from_secs(4));
    let (time, after) = (begin.elapsed().as_secs_f64(), cells.each_ref().map(Cell::cpu_time));
    std::array::from_fn(|index| (after[index] - before[index]) / time)
}

/// The group's account judges: what it used, and how often it was throttled.
#[test]
fn half_a_cpu() {
    let _alone = alone();
    lab!(World::Root, |lab| {
        let free = [Cell::start(lab, PARENT, &SPIN)];
        let [cpus] = cpus_of(&free);
        assert!(cpus > 0.001 && free[0].throttled() == 0, "without a limit: {cpus:.3} of a CPU");
        drop(free.map(Cell::end));
        let cells = [Cell::start(lab, PARENT, &[&["--stats", "--cpus", "0.5"], &SPIN_TWICE[..]].concat())];
        cells[0].before_all_others();
        let [cpus] = cpus_of(&cells);
        let throttled = cells[0].throttled();
        eprintln!("{FIGURES}: --cpus 0.5 gives {cpus:.3} of a CPU; throttled {throttled} times");
        assert!((0.001..=0.525).contains(&cpus) && throttled > 0, "{cpus:.3} of a CPU, throttled {throttled} times");
        assert!(used(&cells.map(Cell::end).concat(), "throttled") > 0.0, "--stats tells it");
    });
}

/// Cells that spin on one CPU, each with its weight: how much of it each has.
fn side_by_side<const N: usize>(lab: &Lab, weights: [&str; N]) -> [f64; N] {
    let cells = weights.map(|weight| {
        let limits = ["--cpuset-cpus", "0", "--cpu-weight", weight];
        Cell::start(lab, PARENT, &[&limits[..], &SPIN].concat())
    });
    cells[0].before_all_others();
    let cpus = cpus_of(&cells);
    cells.into_iter().for_each(|cell| drop(cell.end()));
    cpus
}

/// Two cells on one CPU, with weights of three to one: each gets its share while both want it.
#[test]
fn shares_by_weight() {
    let _alone = alone();
    lab!(World::Root, |lab| {
        let cpus = side_by_side(lab, ["300", "100"]);
        let ratio = cpus[0] / cpus[1];
        eprintln!("{FIGURES}: weights of 300 and 100 share a CPU {ratio:.2} to 1");
        assert!((2.7..=3.3).contains(&ratio), "{ratio:.2}: {cpus:?}");
    });
}

/// Limits cap, they do not reserve: a neighbour who may use everything takes half of what you have. A weight helps.
#[test]
fn a_noisy_neighbour() {
    let _alone = alone();
    lab!(World::Root, |lab| {
        let [alone] = side_by_side(lab, ["100"]);
        let [together, neighbour] = side_by_side(lab, ["100", "100"]);
        let [preferred, outweighed] = side_by_side(lab, ["900", "100"]);
        eprintln!(
            "{FIGURES}: of a CPU a cell has {alone:.2} alone; {together:.2} beside a neighbour, who has {neighbour:.2}; \
             with nine times his weight {preferred:.2}, and he {outweighed:.2}"
        );
        assert!(alone > 1.5 * together, "the neighbour costs");
        assert!((0.8..=1.25).contains(&(together / neighbour)), "half for each");
        assert!(preferred / outweighed > 6.0, "the weight helps");
    });
}

/// The same with memory: two cells in a group of 64 MiB. One has read a file of 24 MiB, which the kernel keeps in memory
/// for it; then the other reads one of 200. How much of the first is still there, in MiB.
fn cache_beside_a_reader(lab: &Lab, options: &[&str]) -> f64 {
    let parent = "/cellblock-low";
    let group = PathBuf::from(format!("/sys/fs/cgroup{parent}"));
    fs::create_dir(&group).unwrap();
    fs::write(group.join("memory.max"), "64M").unwrap();
    let shared = lab.folder.join("shared");
    fs::create_dir(&shared).unwrap();
    for (name, size) in [("small", 24 << 20), ("big", 200 << 20)] {
        fs::File::create(shared.join(name)).unwrap().set_len(size).unwrap();
    }
    let volume = format!("{}:/mnt", shared.display());
    let script = "cat /mnt/small >/dev/null; echo up; exec sleep 100";
    let cell = Cell::start(lab, parent, &[options, &["-v", &volume, "--init", "sh", "-c", script]].concat());
    let reader = run(lab, &["--cgroup-parent", parent, "-v", &volume, "sh", "-c", "cat /mnt/big >/dev/null"]);
    assert_eq!(reader.code, 0, "{reader}");
    let left = used(&cell.read("memory.stat").replace("file ", "cached "), "cached") / f64::from(1 << 20);
    cell.end();
    fs::remove_dir_all(shared).unwrap();
    assert_eq!(names(parent), Vec::<String>::new());
    fs::remove_dir(group).unwrap(); // it is the test's own, so no launcher has removed it
    left
}

#[test]
fn a_neighbour_who_reads() {
    let _alone = alone();
    lab!(World::Root, |lab| {
        let cell = Cell::start(lab, PARENT, &[&["--memory-low", "24m"], &SPIN[..]].concat());
        let file = if world() == "v1" { "memory.soft_limit_in_bytes" } else { "memory.low" };
        assert_eq!(cell.read(file).trim(), (24 << 20).to_string());
        cell.end();
        if world() == "v1" {
            return; // there it is a wish, which the kernel need not grant
        }
        let (without, with) = (cache_beside_a_reader(lab, &[]), cache_beside_a_reader(lab, &["--memory-low", "32m"]));
        eprintln!("{FIGURES}: of 24 MiB a neighbour who reads leaves {without:.0}; {with:.0} with --memory-low 32m");
        assert!(without < 16.0 && with > 22.0, "{without:.1} MiB without, {with:.1} with");
    });
}

/// A loop device with a file system, for as long as the test needs it.
struct Disk {
    device: String,
    place: PathBuf,
}

impl Disk {
    fn new(lab: &Lab) -> Disk {
        let (image, place) = (lab.folder.join("disk"), lab.folder.join("mount"));
        fs::create_dir(&place).unwrap();
        sh(&format!("truncate -s 64M '{0}'; mkfs.ext4 -q -F '{0}'", image.display()));
        let device = Command::new("losetup").args(["--find", "--show"]).arg(&image).output().unwrap();
        let device = String::from_utf8(device.stdout).unwrap().trim().to_owned();
        sh(&format!("mount {device} '{}'", place.display()));
        Disk { device, place }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        sh(&format!(
            "umount '{0}'; losetup --detach {1}; rmdir '{0}'; rm '{0}/../disk' 2>/dev/null || true",
            self.place.display(),
            self.device
        ));
        let _ = fs::remove_file(self.place.with_file_name("disk"));
    }
}

#[test]
fn a_slow_disk() {
    let _alone = alone();
    lab!(World::Root, |lab| {
        let disk = Disk::new(lab);
        let volume = format!("{}:/mnt", disk.place.display());
        let limit = format!("{}:wbps=4m", disk.device);
        // The writer's own time: the start and the end of the cell are not what is limited.
        let write = "time dd if=/dev/zero of=/mnt/file bs=64k count=256 oflag=direct";
        let output = run(lab, &["--io-max", &limit, "-v", &volume, "sh", "-c", write]);
        assert_eq!(output.code, 0, "{output}");
        let rate = 16.0 / seconds(&output.text);
        eprintln!("{FIGURES}: wbps=4m lets {rate:.2} MiB through each second");
        assert!((3.6..=4.4).contains(&rate), "{rate:.2} MiB/s: {output}");
        fs::remove_file(disk.place.join("file")).unwrap();
        drop(disk);
    });
}

/// What `time` printed: `real 0m 4.00s`.
fn seconds(text: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix("real")).unwrap_or_else(|| panic!("{text}"));
    let (minutes, seconds) = line.trim().trim_end_matches('s').split_once('m').unwrap();
    minutes.parse::<f64>().unwrap() * 60.0 + seconds.trim().parse::<f64>().unwrap()
}

#[test]
fn frozen_and_thawed() {
    let _alone = alone();
    lab!(World::Root, |lab| {
        let count = "echo up; n=0; while :; do n=$((n+1)); echo $n > /mnt/count; sleep 0.01; done";
        let shared = lab.folder.join("shared");
        fs::create_dir(&shared).unwrap();
        let volume = format!("{}:/mnt", shared.display());
        let cell = Cell::start(lab, "/cellblock-frozen", &["-v", &volume, "--init", "sh", "-c", count]);
        let group = cell.directory_with("cgroup.freeze");
        let read = || fs::read_to_string(shared.join("count")).unwrap_or_default();
        let moves = |time| {
            let before = read();
            sleep(Duration::from_millis(time));
            before != read()
        };
        let goes_on = || (0..30).any(|_| moves(100));
        assert!(goes_on(), "it counts");
        fs::write(group.join("cgroup.freeze"), "1").unwrap();
        sleep(Duration::from_millis(100));
        assert!(!moves(300), "it stands still");
        fs::write(group.join("cgroup.freeze"), "0").unwrap();
        assert!(goes_on(), "and goes on");
        cell.end();
        fs::remove_dir_all(shared).unwrap();
    });
}

/// What a full set of limits costs, in turn with none: the medians' ratio.
#[test]
fn the_cost_of_limits() {
    let _alone = alone();
    lab!(World::Root, |lab| {
        let all =
            "--cpus 1 --cpuset-cpus 0 --cpu-weight 50 --memory 64m --memory-low 16m --pids 64 --oom-score-adj 100";
        let all: Vec<&str> = all.split(' ').chain(["true"]).collect();
        let time = |arguments: &[&str]| {
            let begin = Instant::now();
            assert_eq!(run(lab, arguments).code, 0);
            begin.elapsed().as_secs_f64() * 1000.0
        };
        let (mut with, mut without): (Vec<f64>, Vec<f64>) = (0..21).map(|_| (time(&all), time(&["true"]))).unzip();
        with.sort_by(f64::total_cmp);
        without.sort_by(f64::total_cmp);
        let ratio = with[10] / without[10];
        eprintln!(
            "{FIGURES}: a launch with all limits takes {:.1} ms, with none {:.1}: {ratio:.2} times as long ({})",
            with[10],
            without[10],
            world()
        );
        assert!(ratio < 2.0, "{ratio:.2}");
    });
}
