//! Step 5, rations: what a cell may take of the machine, on cgroup v1 and v2 alike.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::RwLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use classroom::lab::not_run;
use classroom::trace::orphans_end_within;
use classroom::world::sh;
use classroom::{Lab, Output, World, check, every_step, lab};
use kernel::hierarchies::Hierarchies;

const STEP: &str = "cgroups";

/// Tests that measure run alone; the others side by side.
static MACHINE: RwLock<()> = RwLock::new(());

/// Which world this machine is: v1 (hybrid, too) or v2.
fn world() -> &'static str {
    let hierarchies = Hierarchies::read().unwrap();
    if hierarchies.legacy_with("pids").is_some() { "v1" } else { "v2" }
}

/// Runs a command in a cell of its own group's parent, without a network, which these tests do not need.
fn run(lab: &Lab, arguments: &[&str]) -> Output {
    lab.run(STEP, &[&["--net", "none"], arguments].concat())
}

/// Starts a command in a cell below a parent of this test's own, and waits for its first line.
fn start(lab: &Lab, parent: &str, arguments: &[&str]) -> Child {
    let arguments = [&["--net", "none", "--cgroup-parent", parent], arguments].concat();
    let mut child = lab.launcher(STEP, &arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    assert_eq!(every_step::wait_for_a_line(&mut child), "up\n");
    child
}

/// The directories of a group, in every tree that is mounted.
fn directories(group: &str) -> Vec<PathBuf> {
    let hierarchies = Hierarchies::read().unwrap();
    let points = hierarchies.unified.iter().chain(&hierarchies.legacy).map(|tree| tree.point.clone());
    points.map(|point| PathBuf::from(format!("{point}{group}"))).filter(|path| path.is_dir()).collect()
}

/// A number that a cell's --stats printed.
fn used(text: &str, what: &str) -> f64 {
    let line = text.lines().find(|line| line.starts_with(what)).unwrap_or_else(|| panic!("no {what} in {text}"));
    line.split_whitespace().find_map(|word| word.parse().ok()).unwrap_or_else(|| panic!("{line}"))
}

#[test]
fn explained() {
    let _alone = MACHINE.write();
    lab!(World::Root, |lab| {
        let trees = ["cpu", "cpuacct"]
            .map(|name| Hierarchies::read().unwrap().legacy_with(name).map(|tree| tree.point.clone()));
        if world() == "v1" && trees != ["cpu", "cpuacct"].map(|name| Some(format!("/sys/fs/cgroup/{name}"))) {
            return not_run("explained", "this machine's cgroup v1 trees are mounted elsewhere");
        }
        run(lab, &["prune"]);
        let output = run(lab, &["--explain", "--pids", "64", "--memory", "64m", "true"]).to_string();
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

#[test]
fn fork_bomb() {
    let _others = MACHINE.read();
    lab!(World::Root, |lab| {
        check!("cgroups_fork_bomb", run(lab, &["--pids", "64", "inmate", "attack", "fork-bomb"]));
        assert_eq!(
            run(lab, &["inmate", "attack", "fork-bomb"]).code,
            1,
            "without a ration it gets through to its fuse"
        );
        // From the shell: what starts two of itself, for ever; the second bomb ends by a limit of time.
        let shell = "bomb() { bomb | bomb & }; bomb 2>/dev/null; sleep 1; echo the cell lives";
        let output = run(lab, &["--pids", "64", "--cpus", "0.5", "--init", "timeout", "3", "sh", "-c", shell]);
        assert!(output.code != 0 || output.text.contains("the cell lives"), "{output}");
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

/// The latency while sixty processes spin in a cell with these limits.
fn latency_beside(lab: &Lab, limits: &[&str]) -> f64 {
    let spin = "echo up; spin() { while :; do :; done; }; for n in $(seq 60); do spin & done 2>/dev/null; wait";
    let mut child = start(lab, "/cellblock", &[limits, &["sh", "-c", spin]].concat());
    sleep(Duration::from_millis(300));
    let latency = latency(Duration::from_secs(2));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(orphans_end_within(Duration::from_secs(5)));
    run(lab, &["prune"]);
    latency
}

/// With --pids alone the survivors still spin, and the host waits for its turn; --cpus gives it back its time. On a
/// machine that is busy with something else nothing can be said: its own latency tells, and it is tried again.
#[test]
fn the_host_stays_responsive() {
    const CALM: f64 = 4.0; // milliseconds
    let _alone = MACHINE.write();
    lab!(World::Root, |lab| {
        let mut tried = Vec::new();
        for _ in 0..4 {
            let before = latency(Duration::from_secs(1));
            let pids = latency_beside(lab, &["--pids", "64"]);
            let both = latency_beside(lab, &["--pids", "64", "--cpus", "0.5"]);
            let after = latency(Duration::from_secs(1));
            let said = format!("p99 before {before:.1} ms, --pids {pids:.1}, and --cpus {both:.1}, after {after:.1}");
            eprintln!("{}: {said}", classroom::lab::FIGURES);
            if both < 10_f64.max(4.0 * before) {
                return;
            }
            tried.push((before < CALM && after < CALM, said));
        }
        assert!(!tried.iter().all(|(calm, _)| *calm), "the limits do not help: {tried:?}");
        eprintln!("{}: the_host_stays_responsive: this machine is too busy to tell", classroom::lab::LOUD);
    });
}

#[test]
fn memory_hog() {
    let _others = MACHINE.read();
    lab!(World::Root, |lab| {
        check!("cgroups_memory", run(lab, &["--memory", "64m", "sh", "-c", "ulimit -v 500000; exec tail /dev/zero"]));
        assert_eq!(run(lab, &["--memory", "64m", "inmate", "attack", "memory"]).code, 0, "HELD");
    });
}

#[test]
fn half_a_cpu() {
    let _alone = MACHINE.write();
    lab!(World::Root, |lab| {
        let spin = ["--stats", "--init", "timeout", "4", "sh", "-c", "while :; do :; done"];
        let output = run(lab, &[&["--cpus", "0.5"], &spin[..]].concat());
        let cpu = used(&output.text, "cpu time") / 4.0;
        assert!((0.475..=0.525).contains(&cpu), "{cpu:.3} of a CPU: {output}");
        assert!(used(&output.text, "throttled") > 0.5, "{output}");
    });
}

#[test]
fn one_cpu_only() {
    let _others = MACHINE.read();
    lab!(World::Root, |lab| {
        let script = "nproc; grep Cpus_allowed_list /proc/self/status";
        let output = run(lab, &["--cpuset-cpus", "0", "sh", "-c", script]);
        assert_eq!(output.text, "1\nCpus_allowed_list:\t0\n");
    });
}

/// Cells that spin on one CPU for four seconds, each with its weight: the CPU time that each got.
fn side_by_side<const N: usize>(lab: &Lab, weights: [&str; N]) -> [f64; N] {
    let spin = ["timeout", "4", "sh", "-c", "echo up; while :; do :; done"];
    let cells = weights.map(|weight| {
        let limits = ["--cpuset-cpus", "0", "--cpu-weight", weight, "--stats", "--init"];
        start(lab, "/cellblock", &[&limits[..], &spin].concat())
    });
    cells.map(|cell| used(&String::from_utf8_lossy(&cell.wait_with_output().unwrap().stderr), "cpu time"))
}

/// Two cells on one CPU, with weights of three to one: each gets its share while both want it.
#[test]
fn shares_by_weight() {
    let _alone = MACHINE.write();
    lab!(World::Root, |lab| {
        let times = side_by_side(lab, ["300", "100"]);
        let ratio = times[0] / times[1];
        assert!((2.7..=3.3).contains(&ratio), "{ratio:.2}: {times:?}");
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
        sh(&format!("truncate -s 64M {0}; mkfs.ext4 -q -F {0}", image.display()));
        let device = Command::new("losetup").args(["--find", "--show"]).arg(&image).output().unwrap();
        let device = String::from_utf8(device.stdout).unwrap().trim().to_owned();
        sh(&format!("mount {device} {}", place.display()));
        Disk { device, place }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        sh(&format!(
            "umount {0}; losetup --detach {1}; rmdir {0}; rm {0}/../disk 2>/dev/null || true",
            self.place.display(),
            self.device
        ));
        let _ = fs::remove_file(self.place.with_file_name("disk"));
    }
}

#[test]
fn a_slow_disk() {
    let _alone = MACHINE.write();
    lab!(World::Root, |lab| {
        let disk = Disk::new(lab);
        let volume = format!("{}:/mnt", disk.place.display());
        let limit = format!("{}:wbps=4m", disk.device);
        let debian = classroom::lab::workspace().join("target/rootfs/debian");
        let (dd, rootfs) = if debian.is_dir() { ("/bin/dd", debian) } else { ("dd", lab.rootfs.clone()) };
        let write = [
            "--rootfs",
            rootfs.to_str().unwrap(),
            "-v",
            &volume,
            dd,
            "if=/dev/zero",
            "of=/mnt/file",
            "bs=64k",
            "count=256",
            "oflag=direct",
        ];
        let output = run(lab, &[&["--io-max", &limit], &write[..]].concat());
        assert_eq!(output.code, 0, "{output}");
        // dd's own time: the launch and the end of the cell are not what is limited.
        let seconds = output.text.split("copied, ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_default();
        let rate = 16.0 / seconds.parse::<f64>().unwrap_or_else(|_| panic!("{output}"));
        assert!((3.6..=4.4).contains(&rate), "{rate:.2} MiB/s: {output}");
        fs::remove_file(disk.place.join("file")).unwrap();
        drop(disk);
    });
}

#[test]
fn frozen_and_thawed() {
    let _alone = MACHINE.write();
    lab!(World::Root, |lab| {
        let parent = "/cellblock-frozen";
        let count = "echo up; n=0; while :; do n=$((n+1)); echo $n > /mnt/count; sleep 0.01; done";
        let shared = lab.folder.join("shared");
        fs::create_dir(&shared).unwrap();
        let volume = format!("{}:/mnt", shared.display());
        let mut child = start(lab, parent, &["-v", &volume, "sh", "-c", count]);
        let group = directories(parent).into_iter().find(|path| !path.join("tasks").exists()).unwrap();
        let group =
            fs::read_dir(group).unwrap().flatten().map(|entry| entry.path()).find(|path| path.is_dir()).unwrap();
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
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(orphans_end_within(Duration::from_secs(3)));
        run(lab, &["--cgroup-parent", parent, "prune"]);
        assert_eq!(directories(parent), Vec::<PathBuf>::new());
        fs::remove_dir_all(shared).unwrap();
    });
}

/// Limits cap, they do not reserve: a neighbour who may use everything takes half of what you have. A weight helps.
#[test]
fn a_noisy_neighbour() {
    let _alone = MACHINE.write();
    lab!(World::Root, |lab| {
        let [alone] = side_by_side(lab, ["100"]);
        let [together, neighbour] = side_by_side(lab, ["100", "100"]);
        let [preferred, outweighed] = side_by_side(lab, ["900", "100"]);
        eprintln!(
            "{}: seconds of a CPU: alone {alone:.1}; beside a neighbour {together:.1} and he {neighbour:.1}; \
             with nine times his weight {preferred:.1} and he {outweighed:.1}",
            classroom::lab::FIGURES
        );
        assert!(alone > 1.2 * together, "the neighbour costs");
        assert!((0.8..=1.25).contains(&(together / neighbour)), "half for each");
        assert!(preferred / outweighed > 4.0, "the weight helps");
    });
}

/// A node can be made no more, and one that is there cannot be opened: EPERM, not ENOENT.
#[test]
fn devices() {
    let _others = MACHINE.read();
    lab!(World::Root, |lab| {
        let script = "mknod /tmp/disk b 7 0; mknod /tmp/null c 1 3 && echo x > /tmp/null && echo null works; rm -f /tmp/null; \
                      cat /dev/nosuch; echo x > /dev/null && head -c 1 /dev/zero | wc -c";
        check!("cgroups_devices", run(lab, &["sh", "-c", script]));
        sh(&format!("mknod {}/tmp/disk b 7 0", lab.rootfs.display()));
        let output = run(lab, &["head", "-c", "1", "/tmp/disk"]);
        assert!(output.text.contains("Operation not permitted"), "a node that was there before: {output}");
        fs::remove_file(lab.rootfs.join("tmp/disk")).unwrap();
    });
}

#[test]
fn its_own_group_is_the_topmost() {
    let _others = MACHINE.read();
    lab!(World::Root, |lab| {
        let output = run(lab, &["cat", "/proc/self/cgroup"]);
        assert!(output.text.lines().all(|line| line.ends_with(":/")), "{output}");
    });
}

#[test]
fn oom_score() {
    let _others = MACHINE.read();
    lab!(World::Root, |lab| {
        assert_eq!(run(lab, &["--oom-score-adj", "500", "cat", "/proc/self/oom_score_adj"]).text, "500\n");
    });
}

// What is made must go.

#[test]
fn nothing_is_left() {
    let _others = MACHINE.read();
    lab!(World::Root, |lab| {
        let parent = "/cellblock-left";
        let limits = ["--cgroup-parent", parent, "--pids", "64", "--memory", "64m", "--cpus", "1"];
        for _ in 0..100 {
            assert_eq!(run(lab, &[&limits[..], &["true"]].concat()).code, 0);
        }
        assert_ne!(run(lab, &[&limits[..], &["nosuch"]].concat()).code, 0);
        // The init ends first; who is left in its namespace is killed, and the group goes all the same.
        assert_eq!(
            run(lab, &[&limits[..], &["--init", "sh", "-c", "sleep 100 & sleep 100 & exit 0"]].concat()).code,
            0
        );
        assert_eq!(directories(parent), Vec::<PathBuf>::new());
    });
}

#[test]
fn killed_at_twenty_moments() {
    let _others = MACHINE.read();
    lab!(World::Root, |lab| {
        let parent = "/cellblock-killed";
        let limits = ["--net", "none", "--cgroup-parent", parent, "--pids", "64", "--memory", "64m"];
        for round in 0..20 {
            let mut child = lab.start(STEP, &[&limits[..], &["sleep", "20"]].concat());
            sleep(Duration::from_micros(round * 1000));
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(orphans_end_within(Duration::from_secs(3)), "a process outlived its launcher");
            let next = lab.run(STEP, &[&limits[..], &["true"]].concat());
            assert_eq!((next.code, next.text.as_str()), (0, ""), "the next launch, after a kill at {round} ms");
            assert_eq!(directories(parent), Vec::<PathBuf>::new(), "it has removed what was left");
        }
        let mut child = start(lab, parent, &["--pids", "9", "sh", "-c", "echo up; exec sleep 20"]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(orphans_end_within(Duration::from_secs(3)));
        let removed = lab.run(STEP, &["--cgroup-parent", parent, "prune"]);
        assert!(removed.text.contains("removed the group /cellblock-killed/cell-"), "{removed}");
        assert_eq!(directories(parent), Vec::<PathBuf>::new());
    });
}

#[test]
fn cells_side_by_side_keep_their_groups() {
    let _others = MACHINE.read();
    lab!(World::Root, |lab| {
        let parent = "/cellblock-many";
        let mut cells: Vec<Child> =
            (0..8).map(|_| start(lab, parent, &["--pids", "9", "sh", "-c", "echo up; exec sleep 20"])).collect();
        let groups =
            || fs::read_dir(&directories(parent)[0]).unwrap().flatten().filter(|entry| entry.path().is_dir()).count();
        assert_eq!(groups(), 8, "a new launch removes nobody's");
        cells.iter_mut().for_each(|cell| {
            cell.kill().unwrap();
            cell.wait().unwrap();
        });
        assert!(orphans_end_within(Duration::from_secs(3)));
        run(lab, &["--cgroup-parent", parent, "prune"]);
        assert_eq!(directories(parent), Vec::<PathBuf>::new());
    });
}

#[test]
fn failures() {
    let _others = MACHINE.read();
    lab!(World::Root, |lab| {
        let wrong: &[&[&str]] = &[
            &["--memory", "0", "true"],
            &["--memory", "100k", "true"],
            &["--memory", "64x", "true"],
            &["--cpus", "0", "true"],
            &["--cpus", "1000", "true"],
            &["--cpus", "half", "true"],
            &["--cpuset-cpus", "1-0", "true"],
            &["--cpu-weight", "0", "true"],
            &["--pids", "0", "true"],
            &["--io-max", "/dev/nosuch:rbps=1m", "true"],
            &["--io-max", "/dev/null:rbps=1m", "true"],
            &["--io-max", "/dev/loop0:speed=1m", "true"],
            &["--oom-score-adj", "2000", "true"],
            &["--cgroup-parent", "relative", "true"],
            &["--cgroup-parent", "/a/../../b", "true"],
        ];
        let said: String = wrong.iter().map(|arguments| format!("{}\n", lab.run(STEP, arguments))).collect();
        let cpus = std::thread::available_parallelism().unwrap().to_string();
        let said = said
            .replace(&format!("this machine has {cpus}"), "this machine has N")
            .replace(&format!("0.01 to {cpus},"), "0.01 to N,");
        check!("cgroups_failures", said);
    });
}

#[test]
fn without_rights() {
    let _others = MACHINE.read();
    lab!(World::User, |lab| {
        let output = run(lab, &["--pids", "64", "true"]);
        assert_eq!(output.code, 125);
        assert!(output.text.contains("hint: limits need root, or a part of the tree that was delegated"), "{output}");
    });
}

#[test]
fn exit_codes() {
    let _others = MACHINE.read();
    lab!(World::Root, |lab| {
        lab.run(STEP, &["true"]); // says that forwarding was off
        every_step::exit_codes(lab, STEP, &["--init"]);
        sleep(Duration::from_millis(300)); // the kernel takes killed cells' networks down in the background
        lab.run(STEP, &["prune"]);
    });
}

/// On v2 nothing is moved: no process id is written anywhere.
#[test]
fn born_into_its_group() {
    let _others = MACHINE.read();
    lab!(World::Root, |lab| {
        let story = run(lab, &["--explain", "--pids", "64", "true"]).text;
        assert!(story.contains("cgroup=<group>"), "{story}");
        assert!(!story.contains("cgroup.procs"), "{story}");
        assert!(Path::new("/proc/self/cgroup").exists());
    });
}
