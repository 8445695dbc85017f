//! Step 5, rations: what a cell may take of the machine, on cgroup v1 and v2 alike. What needs the machine for itself is
//! in 05_timing.rs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use classroom::groups::{Cell, Outer, STEP, directories, names, run, used, world};
use classroom::lab::{FIGURES, not_run};
use classroom::trace::orphans_end_within;
use classroom::world::sh;
use classroom::{Lab, World, check, every_step, lab};

#[test]
fn fork_bomb() {
    lab!(World::Root, |lab| {
        check!("cgroups_fork_bomb", run(lab, &["--pids", "64", "inmate", "attack", "fork-bomb"]));
        assert_eq!(
            run(lab, &["inmate", "attack", "fork-bomb"]).code,
            1,
            "without a ration it gets through to its fuse"
        );
    });
}

/// The famous one-liner: each starts two of itself. At the limit each shell that cannot fork gives up, and the bomb has
/// burnt out before its fuse, `timeout`, comes to it. The parentheses keep the first shell alive: it forks once, and what
/// fails later fails in its child.
#[test]
fn the_second_bomb() {
    lab!(World::Root, |lab| {
        let outer = Outer::new(lab, "second");
        let shell = "bomb() { bomb | bomb & }; (bomb; wait) 2>/dev/null; echo the cell lives";
        let limits = ["--stats", "--pids", "64", "--cpus", "0.5", "--init", "timeout", "20", "sh", "-c", shell];
        let output = lab.output(String::new(), outer.launcher(lab, &limits));
        assert!(output.text.contains("the cell lives"), "{output}");
        assert!(output.text.contains("peak  unknown") || used(&output.text, "processes peak") <= 64.0, "{output}");
    });
}

/// The classic: `while (fork());`. Its children leave at once, and stay as zombies; one process spins.
#[test]
fn the_third_bomb() {
    const SOURCE: &str = "#include <unistd.h>\nint main() { while (fork()); }\n";
    lab!(World::Root, |lab| {
        let program = lab.rootfs.join("bin/bomb");
        fs::write(lab.folder.join("bomb.c"), SOURCE).unwrap();
        sh(&format!("cc -static -o '{}' '{}/bomb.c'", program.display(), lab.folder.display()));
        let outer = Outer::new(lab, "third");
        let limits = ["--pids", "64", "--cpus", "0.5", "--init", "timeout", "20", "bomb"];
        let mut launcher = outer.launcher(lab, &limits).spawn().unwrap();
        // Of 64 processes one is the init and one is `timeout`. One spins; the others have left, or are about to.
        let counted = || {
            let states = processes_named("bomb");
            (states.len(), states.iter().filter(|state| **state == 'Z').count())
        };
        let filled = (0..200).any(|_| {
            sleep(Duration::from_millis(50));
            counted() == (62, 61)
        });
        assert!(filled, "bombs, and zombies among them: {:?}", counted());
        let launcher_id = nix::unistd::Pid::from_raw(launcher.id() as i32);
        nix::sys::signal::kill(launcher_id, nix::sys::signal::Signal::SIGTERM).unwrap();
        launcher.wait().unwrap();
        fs::remove_file(program).unwrap();
        fs::remove_file(lab.folder.join("bomb.c")).unwrap();
    });
}

/// The states of the processes of that name, as `ps` shows them.
fn processes_named(name: &str) -> Vec<char> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let stats = entries.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    stats.filter_map(|stat| stat.split_once(&format!("({name}) "))?.1.chars().next()).collect()
}

#[test]
fn memory_hog() {
    lab!(World::Root, |lab| {
        check!("cgroups_memory", run(lab, &["--memory", "64m", "sh", "-c", "ulimit -v 500000; exec tail /dev/zero"]));
        let output = run(lab, &["--stats", "--memory", "64m", "inmate", "attack", "memory"]);
        assert_eq!(output.code, 0, "HELD");
        assert!((32.0..=64.0).contains(&used(&output.text, "memory peak")), "not more of the host's: {output}");
    });
}

#[test]
fn one_cpu_only() {
    lab!(World::Root, |lab| {
        let script = "nproc; grep Cpus_allowed_list /proc/self/status";
        let output = run(lab, &["--cpuset-cpus", "0", "sh", "-c", script]);
        assert_eq!(output.text, "1\nCpus_allowed_list:\t0\n");
    });
}

/// A node can be made no more, and one that is there cannot be opened: EPERM, not ENOENT.
#[test]
fn devices() {
    lab!(World::Root, |lab| {
        let script = "mknod /tmp/disk b 7 0; mknod /tmp/null c 1 3 && echo x > /tmp/null && echo null works; rm -f /tmp/null; \
                      cat /dev/nosuch; echo x > /dev/null && head -c 1 /dev/zero | wc -c";
        check!("cgroups_devices", run(lab, &["sh", "-c", script]));
        sh(&format!("mknod '{}/tmp/disk' b 7 0", lab.rootfs.display()));
        let output = run(lab, &["head", "-c", "1", "/tmp/disk"]);
        assert!(output.text.contains("Operation not permitted"), "a node that was there before: {output}");
        fs::remove_file(lab.rootfs.join("tmp/disk")).unwrap();
    });
}

#[test]
fn oom_score() {
    lab!(World::Root, |lab| {
        assert_eq!(run(lab, &["--oom-score-adj", "500", "cat", "/proc/self/oom_score_adj"]).text, "500\n");
    });
}

#[test]
fn exit_codes() {
    lab!(World::Root, |lab| {
        lab.run(STEP, &["true"]); // says that forwarding was off
        every_step::exit_codes(lab, STEP, &["--init"]);
        sleep(Duration::from_millis(300)); // the kernel takes killed cells' networks down in the background
        lab.run(STEP, &["--prune"]);
    });
}

#[test]
fn its_own_group_is_the_topmost() {
    lab!(World::Root, |lab| {
        let output = run(lab, &["cat", "/proc/self/cgroup"]);
        assert!(output.text.lines().all(|line| line.ends_with(":/")), "{output}");
    });
}

/// Its own part of each tree, under the names that programs look for, and nothing of it can be written.
#[test]
fn its_own_group_in_sys() {
    lab!(World::Root, |lab| {
        let script = "cd /sys/fs/cgroup/pids 2>/dev/null || cd /sys/fs/cgroup; \
                      cat pids.max; find . -type d; echo 9 >pids.max; mkdir mine";
        check!("cgroups_sys", run(lab, &["--pids", "64", "sh", "-c", script]));
        if world() == "v1" {
            // A tree for each controller; what shares a tree shares a directory, to which links lead.
            let script = "cd /sys/fs/cgroup; for c in cpu cpuacct memory pids blkio devices; do cat $c/tasks >/dev/null \
                          && echo $c; done; touch here; grep -c ' /sys/fs/cgroup/.* cgroup ro,' /proc/mounts";
            let output = run(lab, &["sh", "-c", script]);
            let lines: Vec<&str> = output.text.lines().collect();
            let (last, rest) = lines.split_last().unwrap();
            let refused = "touch: here: Read-only file system";
            assert_eq!(rest, ["cpu", "cpuacct", "memory", "pids", "blkio", "devices", refused], "{output}");
            assert!(last.parse::<usize>().unwrap() >= 4, "{output}");
        }
    });
}

// What is made must go.

/// Five hundred launches; where one takes long (an emulated machine), as many as half a minute has room for.
#[test]
fn nothing_is_left() {
    lab!(World::Root, |lab| {
        let parent = "/cellblock-left";
        let limits = ["--cgroup-parent", parent, "--pids", "64", "--memory", "64m", "--cpus", "1"];
        let (begin, mut launches) = (Instant::now(), 0);
        while launches < 500 && begin.elapsed() < Duration::from_secs(30) {
            let output = run(lab, &[&limits[..], &["true"]].concat());
            assert_eq!((output.code, output.text.as_str()), (0, ""), "{output}");
            launches += 1;
        }
        assert!(launches > 10, "{launches}");
        eprintln!("{FIGURES}: {launches} launches in {:.1} s leave no group", begin.elapsed().as_secs_f64());
        assert_ne!(run(lab, &[&limits[..], &["nosuch"]].concat()).code, 0);
        // The init ends first; what is left in its namespace is killed, and the group goes all the same.
        let leaves_two = ["--init", "sh", "-c", "sleep 100 & sleep 100 & exit 0"];
        assert_eq!(run(lab, &[&limits[..], &leaves_two].concat()).code, 0);
        assert_eq!(directories(parent), Vec::<PathBuf>::new());
    });
}

#[test]
fn killed_at_twenty_moments() {
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
        let mut cell = Cell::start(lab, parent, &["--pids", "9", "sh", "-c", "echo up; exec sleep 20"]);
        cell.launcher.kill().unwrap();
        cell.launcher.wait().unwrap();
        assert!(orphans_end_within(Duration::from_secs(3)));
        let removed = lab.run(STEP, &["--cgroup-parent", parent, "--prune"]);
        assert!(removed.text.contains("cellblock-killed/cell-"), "{removed}");
        assert_eq!(directories(parent), Vec::<PathBuf>::new());
    });
}

/// A lock is what tells a launcher that lives from one that was killed: another user must not be able to hold it.
#[test]
fn a_strangers_lock() {
    lab!(World::Root, |lab| {
        let parent = "/cellblock-locked";
        let mut cell = Cell::start(lab, parent, &["--pids", "9", "sh", "-c", "echo up; exec sleep 20"]);
        cell.launcher.kill().unwrap();
        cell.launcher.wait().unwrap();
        assert!(orphans_end_within(Duration::from_secs(3)));
        let left = directories(parent);
        let places: String = left.iter().map(|group| format!(" '{}'", group.display())).collect();
        let script = format!(
            "for place in $(find{places} -readable); do exec {{held}}<$place && flock -n $held; done; echo held; exec sleep 60"
        );
        let mut stranger = Command::new("setpriv");
        stranger.args(["--reuid", "12345", "--regid", "12345", "--clear-groups", "bash", "-c", &script]);
        let mut stranger = stranger.stdout(std::process::Stdio::piped()).spawn().unwrap();
        assert_eq!(every_step::wait_for_a_line(&mut stranger), "held\n");
        let is_free =
            |place: &PathBuf| Command::new("flock").arg("-n").arg(place).arg("true").status().unwrap().success();
        assert!(!left.is_empty() && !left.iter().any(is_free), "the stranger holds nothing");
        let removed = lab.run(STEP, &["--cgroup-parent", parent, "--prune"]);
        assert!(removed.text.contains("cellblock-locked/cell-"), "{removed}");
        assert_eq!(directories(parent), Vec::<PathBuf>::new());
        stranger.kill().and_then(|()| stranger.wait()).unwrap();
    });
}

/// Killed while it takes its own group away: what is left of that must still be found.
#[test]
fn killed_at_its_end() {
    lab!(World::Root, |lab| {
        let parent = "/cellblock-end";
        let launch = ["--net", "none", "--cgroup-parent", parent, "--pids", "64", "true"];
        for round in 0..60 {
            let mut child = lab.start(STEP, &launch);
            sleep(Duration::from_micros(3000 + round * 200));
            let _ = child.kill();
            child.wait().unwrap();
            assert!(orphans_end_within(Duration::from_secs(3)), "a process outlived its launcher");
            let next = lab.run(STEP, &launch);
            assert_eq!((next.code, next.text.as_str()), (0, ""), "the next launch");
            assert_eq!(directories(parent), Vec::<PathBuf>::new(), "after a kill at {} us", 3000 + round * 200);
        }
    });
}

#[test]
fn cells_side_by_side_keep_their_groups() {
    lab!(World::Root, |lab| {
        let parent = "/cellblock-many";
        let sleeper = ["--pids", "9", "--init", "sh", "-c", "echo up; exec sleep 120"];
        let cells: Vec<Cell> = (0..8).map(|_| Cell::start(lab, parent, &sleeper)).collect();
        assert_eq!(names(parent).len(), 8, "a new launch removes nobody's");
        cells.into_iter().for_each(|cell| drop(cell.end()));
        assert_eq!(directories(parent), Vec::<PathBuf>::new());
    });
}

#[test]
fn failures() {
    lab!(World::Root, |lab| {
        let wrong: &[&[&str]] = &[
            &["--memory", "0", "true"],
            &["--memory", "100k", "true"],
            &["--memory", "64x", "true"],
            &["--memory-low", "65m", "--memory", "64m", "true"],
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
    lab!(World::User, |lab| {
        let output = run(lab, &["--pids", "64", "true"]);
        assert_eq!(output.code, 125);
        assert!(output.text.contains("hint: limits need root"), "{output}");
    });
}

// A part of the tree that was delegated to an ordinary user. v1 has none: there is one clear refusal.

/// The group that was delegated; none on v1, after a look at the refusal.
fn delegated(lab: &Lab) -> Option<PathBuf> {
    if world() == "v1" {
        let output = run(lab, &["--pids", "64", "true"]);
        assert_eq!(output.code, 125);
        assert!(output.text.contains("hint: limits need root here: only a tree of cgroup v2"), "{output}");
        return None;
    }
    let ours = fs::read_to_string("/proc/self/cgroup").unwrap();
    let group = ours.trim().trim_start_matches("0::").strip_suffix("/supervisor").expect("the lab is in a leaf of it");
    Some(PathBuf::from(format!("/sys/fs/cgroup{group}")))
}

#[test]
fn a_user_limits_cells_in_what_was_delegated() {
    lab!(World::Delegated, |lab| {
        let Some(group) = delegated(lab) else { return };
        check!("cgroups_delegated", run(lab, &["--pids", "64", "--memory", "64m", "inmate", "attack", "fork-bomb"]));
        assert_eq!(run(lab, &["--memory", "64m", "inmate", "attack", "memory"]).code, 0, "HELD");
        let output = run(lab, &["--pids", "64", "sh", "-c", "cat /proc/self/cgroup /sys/fs/cgroup/pids.max"]);
        assert_eq!(output.text, "0::/\n64\n");
        assert!(!group.join("cellblock").exists(), "it goes with its last cell");
        let named = format!("{}/workshop", group.display().to_string().trim_start_matches("/sys/fs/cgroup"));
        let output = run(lab, &["--cgroup-parent", &format!("/{named}").replace("//", "/"), "--pids", "64", "true"]);
        assert_eq!((output.code, group.join("workshop").exists()), (0, false), "{output}");
        let output = run(lab, &["--cgroup-parent", "/elsewhere", "--pids", "64", "true"]);
        assert_eq!(output.code, 125);
        assert!(output.text.contains("hint: limits need root, or a part of the tree that was delegated"), "{output}");
        fs::write(group.join("cgroup.subtree_control"), "-cpu -cpuset -memory -pids -io").unwrap();
    });
}

/// No group may both have processes and pass controllers on. A launcher that is alone in the delegated group steps
/// aside; with a shell in there it cannot, and says what to do.
#[test]
fn the_delegated_group_must_have_no_processes() {
    lab!(World::Delegated, |lab| {
        let Some(group) = delegated(lab) else { return };
        fs::write(group.join("cgroup.subtree_control"), "+cpu +memory +pids").unwrap();
        let ours = group.join("ours");
        fs::create_dir(&ours).unwrap();
        let launch = lab.launcher(STEP, &["--net", "none", "--pids", "64", "echo", "hello"]);
        let launch = format!("'{}' {}", launch.get_program().display(), "--net none --pids 64 echo hello");
        let run_in = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("echo 0 >{}/cgroup.procs; {script}", ours.display())]);
            command.env("CELLBLOCK_ROOTFS", &lab.rootfs);
            lab.output(String::new(), command)
        };
        let alone = run_in(&format!("exec {launch}"));
        assert_eq!((alone.text.as_str(), alone.code), ("hello\n", 0), "{alone}");
        assert_eq!(names_in(&ours), [""; 0], "it has stepped back");
        let beside_a_shell = run_in(&format!("{launch}; exit $?"));
        assert_eq!(beside_a_shell.code, 125);
        let hint = format!(
            "your shell goes by: mkdir -p {0}/supervisor; echo $$ >{0}/supervisor/cgroup.procs",
            ours.display()
        );
        assert!(beside_a_shell.text.contains(&hint), "{beside_a_shell}");
        let as_hinted = run_in(&format!("{}; {launch}; exit $?", hint.split_once("by: ").unwrap().1));
        assert_eq!((as_hinted.text.as_str(), as_hinted.code), ("hello\n", 0), "{as_hinted}");
        fs::remove_dir(ours.join("supervisor")).unwrap();
        fs::remove_dir(ours).unwrap();
        fs::write(group.join("cgroup.subtree_control"), "-cpu -memory -pids").unwrap();
    });
}

fn names_in(group: &Path) -> Vec<String> {
    let entries = fs::read_dir(group).unwrap().flatten().filter(|entry| entry.path().is_dir());
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// On v2 nothing is moved: no process id is written anywhere. strace sees what --explain may not tell.
#[test]
fn born_into_its_group() {
    lab!(World::Root, |lab| {
        let story = run(lab, &["--explain", "--pids", "64", "true"]).text;
        assert!(story.contains("cgroup=<group>"), "{story}");
        assert!(!story.contains("cgroup.procs"), "{story}");
        if Command::new("strace").arg("--version").output().is_err() {
            return not_run("born_into_its_group", "strace is missing: scripts/bootstrap --with vm");
        }
        let record = lab.folder.join("strace");
        let launcher = lab.launcher(STEP, &["--net", "none", "--pids", "64", "true"]);
        let mut strace = Command::new("strace");
        strace.args(["-f", "-e", "trace=open,openat,openat2,clone3", "-o"]).arg(&record);
        strace.arg(launcher.get_program()).args(launcher.get_args()).env("CELLBLOCK_ROOTFS", &lab.rootfs);
        assert!(strace.status().unwrap().success());
        let seen = fs::read_to_string(&record).unwrap();
        assert!(seen.contains("CLONE_INTO_CGROUP") && seen.contains("pids.max"), "{seen}");
        assert!(!seen.contains("cgroup.procs"), "{seen}");
        let joins = seen.lines().filter(|line| line.contains("/tasks\"")).count();
        assert!((world() == "v1") == (joins > 0), "only v1's trees are joined: {seen}");
        fs::remove_file(record).unwrap();
    });
}
