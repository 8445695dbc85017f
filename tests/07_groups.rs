//! Step 7: a group that outlives its maker, as the runtime needs it. Here there is no launcher: the
//! test is the runtime, and a shell that enters the group is the container.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cellblock::groups::Cgroup;
use cellblock::groups::device_rules::{Access, Kind, Rule};
use cellblock::spec::{Cpu, HugepageLimit, Memory, Pids, Resources};
use cgroups::Directories;
use classroom::every_step::wait_for_a_line;
use classroom::groups::{directories, world};
use classroom::{Lab, World, lab};
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, mkdirat};

/// A group of a test's: also if the test fails, it goes.
struct Made(Cgroup);

impl Made {
    fn at(path: &str, needed: &[&str]) -> Made {
        Made(Cgroup::make(path, needed).unwrap())
    }
}

impl std::ops::Deref for Made {
    type Target = Cgroup;

    fn deref(&self) -> &Cgroup {
        &self.0
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let gone = self.0.kill_all().and_then(|()| self.0.wait_until_empty()).and_then(|()| self.0.remove());
        assert!(gone.is_ok() || std::thread::panicking(), "{gone:?}");
    }
}

/// Starts a shell that enters the group, in every tree, and then runs a script. It writes a line, `up`, when it is in.
fn enter(group: &Cgroup, script: &str) -> Child {
    let joins: String =
        group.directories.all().map(|tree| format!("echo 0 >{}/cgroup.procs; ", tree.display())).collect();
    let mut shell = Command::new("sh");
    shell.args(["-ec", &format!("{joins} echo up; {script}")]).stdout(Stdio::piped());
    let mut child = shell.spawn().unwrap();
    assert_eq!(wait_for_a_line(&mut child), "up\n");
    child
}

/// What /proc says of a process: `S` sleeps, `R` runs, `D` waits.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn made_found_again_and_removed() {
    lab!(World::Root, |_lab| {
        let path = "/cellblock-kept-made/inner/cell";
        let made = Made::at(path, &["memory", "pids"]);
        let text = serde_json::to_string(&*made).unwrap();
        let found: Cgroup = serde_json::from_str(&text).unwrap();
        assert_eq!(found, *made);
        assert!(found.exists() && found.processes().is_empty() && !found.is_frozen());
        assert_eq!(found.directories.is_v2(), world() == "v2");
        assert!(directories(path).len() >= if world() == "v2" { 1 } else { 6 });
        found.remove().unwrap();
        found.remove().unwrap();
        assert!(!found.exists());
        assert_eq!(directories(path), [""; 0].map(PathBuf::from));
        remove_parents("/cellblock-kept-made");
    });
}

/// The groups above an absolute path are the caller's, and stay; a test's must go.
fn remove_parents(top: &str) {
    for directory in directories(top) {
        for inside in fs::read_dir(&directory).unwrap().flatten().filter(|entry| entry.path().is_dir()) {
            fs::remove_dir(inside.path()).unwrap();
        }
        fs::remove_dir(directory).unwrap();
    }
}

#[test]
fn killed_with_all_groups_inside() {
    lab!(World::Root, |_lab| {
        let group = Made::at("kept-killed", &[]);
        let inner: Vec<PathBuf> = group.directories.all().map(|tree| tree.join("inner/most")).collect();
        inner.iter().for_each(|directory| fs::create_dir_all(directory).unwrap());
        // A new group of v1's cpuset has no CPUs, and takes nobody in.
        for file in ["cpuset.cpus", "cpuset.mems"].iter().filter(|_| world() == "v1") {
            let tree = group.directories.legacy.iter().find(|tree| tree.join(file).exists()).unwrap();
            for below in ["inner", "inner/most"] {
                fs::copy(tree.join(file), tree.join(below).join(file)).unwrap();
            }
        }
        let inside = group.inside(&["inner/most"]).unwrap();
        assert!(group.inside(&["../other"]).is_err() && group.inside(&["nosuch"]).is_err());
        let mut outer = enter(&group, "sleep 100 & exec sleep 100");
        while group.processes().len() < 2 {
            std::thread::yield_now(); // the one in the background is about to be born
        }
        assert!(group.remove().is_err(), "somebody is in it");
        outer.kill().unwrap();
        outer.wait().unwrap();
        let mut children: Vec<Child> = if world() == "v1" { vec![enter(&inside, "exec sleep 100")] } else { vec![] };
        assert_eq!(group.processes().len(), 1 + children.len(), "the one in the background is left");
        group.freeze(true).unwrap();
        group.kill_all().unwrap();
        group.wait_until_empty().unwrap();
        children.iter_mut().for_each(|child| assert!(!child.wait().unwrap().success()));
        assert!(group.processes().is_empty());
        group.remove().unwrap();
        assert_eq!(directories("/cellblock/kept-killed"), [""; 0].map(PathBuf::from));
    });
}

/// An administrator's group keeps its limits, and stays. Its processes may have been killed all at once before.
#[test]
fn one_that_was_there_stays() {
    lab!(World::Root, |_lab| {
        let path = "/cellblock-kept-there";
        let mut theirs = Cgroup::make(path, &["pids"]).unwrap();
        let tree = theirs.directories.all().find(|tree| tree.join("pids.max").exists()).unwrap();
        let limit = tree.join("pids.max");
        fs::write(&limit, "77").unwrap();
        for _ in 0..2 {
            let group = Cgroup::make(path, &[]).unwrap();
            assert_eq!(fs::read_to_string(&limit).unwrap(), "77\n");
            assert!(group.entrance().unwrap().is_none(), "what is born into one that was killed once is killed");
            fs::create_dir(limit.with_file_name("inner")).unwrap();
            let mut child = enter(&group, "exec sleep 100");
            assert!(group.remove().is_err(), "a process is in it");
            group.kill_all().and_then(|()| group.wait_until_empty()).unwrap();
            child.wait().unwrap();
            group.remove().unwrap();
            assert_eq!(fs::read_to_string(&limit).unwrap(), "77\n", "it stays");
            assert!(!limit.with_file_name("inner").exists(), "what was made inside does not");
        }
        theirs.found.clear();
        theirs.remove().unwrap();
        assert_eq!(directories(path), [""; 0].map(PathBuf::from));
    });
}

/// A process in the innermost of that many groups, one in another.
fn sleep_below(group: &Path, depth: usize) -> Child {
    let list = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let mut here = open(group, list, Mode::empty()).unwrap();
    for _ in 0..depth {
        mkdirat(&here, "d", Mode::S_IRWXU).unwrap();
        here = openat(&here, "d", list, Mode::empty()).unwrap();
    }
    let child = Command::new("sleep").arg("100").spawn().unwrap();
    let procs = openat(&here, "cgroup.procs", OFlag::O_WRONLY, Mode::empty()).unwrap();
    nix::unistd::write(&procs, child.id().to_string().as_bytes()).unwrap();
    child
}

/// A way down of more than 4096 bytes is no path any more.
#[test]
fn deeper_than_any_path() {
    const DEPTH: usize = 2200;
    lab!(World::Root, |_lab| {
        let group = Made::at("/cellblock-kept-deep", &[]);
        let pids = group.directories.legacy.iter().filter(|tree| tree.join("pids.max").exists());
        let children: Vec<Child> =
            group.directories.unified.iter().chain(pids).map(|tree| sleep_below(tree, DEPTH)).collect();
        assert!(group.processes().contains(&(children[0].id() as i32)));
        assert!(group.remove().is_err(), "processes are in it");
        for mut child in children {
            child.kill().and_then(|()| child.wait()).unwrap();
        }
        group.remove().unwrap();
        assert!(!group.exists());
    });
}

#[test]
fn one_that_is_not_empty_is_refused() {
    lab!(World::Root, |_lab| {
        let path = "/cellblock-kept-full";
        let group = Made::at(path, &[]);
        let again = Cgroup::make(path, &[]).unwrap();
        assert_eq!(again.found.len(), directories(path).len(), "an empty one is taken");
        assert_eq!(Cgroup { found: Vec::new(), ..again }, *group);
        let mut child = enter(&group, "exec sleep 100");
        let refused = format!("{:#}", Cgroup::make(path, &[]).unwrap_err());
        assert!(refused.contains("is there already, and not empty"), "{refused}");
        assert!(group.exists(), "what was there stays");
        group.signal_all(15).unwrap();
        child.wait().unwrap();
        group.remove().unwrap();
        let refused = format!("{:#}", Cgroup::make("/cellblock-kept-none/x", &["nosuch"]).unwrap_err());
        assert!(refused.contains("nosuch"), "{refused}");
        assert_eq!(directories("/cellblock-kept-none"), [""; 0].map(PathBuf::from), "nothing of it stays");
    });
}

#[test]
fn frozen_and_thawed() {
    lab!(World::Root, |_lab| {
        let group = Made::at("kept-frozen", &[]);
        let mut child = enter(&group, "while :; do :; done");
        group.freeze(true).unwrap();
        assert!(group.is_frozen());
        let before = cpu_ticks(child.id());
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(cpu_ticks(child.id()), before, "it uses no time");
        group.freeze(false).unwrap();
        assert!(!group.is_frozen());
        let begin = Instant::now();
        while cpu_ticks(child.id()) < before + 2 {
            assert!(begin.elapsed() < Duration::from_secs(20), "it goes on");
            std::thread::sleep(Duration::from_millis(20));
        }
        group.freeze(true).unwrap();
        group.signal_all(9).unwrap();
        child.wait().unwrap();
        group.wait_until_empty().unwrap();
        group.remove().unwrap();
        assert!(!Path::new("/sys/fs/cgroup/cellblock/kept-frozen").exists());
    });
}

/// What a file of the group says, in whichever tree it is.
fn read(group: &Cgroup, file: &str) -> String {
    let found = group.directories.all().find(|tree| tree.join(file).exists());
    fs::read_to_string(found.unwrap_or_else(|| panic!("no {file}")).join(file)).unwrap().trim().to_owned()
}

/// On v1 the file of the first name, on v2 the one of the second.
fn read_either(group: &Cgroup, v1: &str, v2: &str) -> String {
    read(group, if world() == "v1" { v1 } else { v2 })
}

fn memory(limit: i64, swap: Option<i64>) -> Resources {
    Resources { memory: Memory { limit: Some(limit), swap, ..Memory::default() }, ..Resources::default() }
}

#[test]
fn limits_are_raised_and_lowered_while_it_lives() {
    lab!(World::Root, |_lab| {
        let group = Made::at("kept-limits", &["cpu", "memory", "pids"]);
        let mut child = enter(&group, "exec sleep 100");
        let counts_swap = ["memory.memsw.limit_in_bytes", "memory.swap.max"];
        let counts_swap = group.directories.all().any(|tree| counts_swap.iter().any(|file| tree.join(file).exists()));
        // Each step would be refused if memory were always written first, or always second.
        for mebibytes in [64, 256, 32, 128] {
            let bytes = mebibytes << 20;
            group.limit(&memory(bytes, counts_swap.then_some(bytes))).unwrap();
            let limit = read_either(&group, "memory.limit_in_bytes", "memory.max");
            assert_eq!(limit, bytes.to_string());
        }
        let refused = group.limit(&memory(4096, None)).err().map_or_else(String::new, |error| format!("{error:#}"));
        assert!(
            world() == "v2" || refused.contains("unable to set memory limit to 4096 (current usage: "),
            "{refused}"
        );
        group.limit(&memory(-1, None)).unwrap();
        for (quota, period) in [(5000, 10_000), (50_000, 100_000), (1000, 1000), (-1, 100_000)] {
            let cpu = Cpu { quota: Some(quota), period: Some(period), shares: Some(2048), ..Cpu::default() };
            group.limit(&Resources { cpu, pids: Some(Pids { limit: Some(20) }), ..Resources::default() }).unwrap();
        }
        assert_eq!(
            read_either(&group, "cpu.cfs_quota_us", "cpu.max"),
            if world() == "v1" { "-1" } else { "max 100000" }
        );
        assert_eq!(read(&group, "pids.max"), "20");
        let unified = [("memory.high".to_owned(), "max".to_owned())].into();
        let asked = group.limit(&Resources { unified, ..Resources::default() });
        assert_eq!(asked.is_ok(), world() == "v2", "{asked:?}");
        group.kill_all().unwrap();
        child.wait().unwrap();
        group.remove().unwrap();
    });
}

#[test]
fn a_limit_without_its_controller_is_named() {
    lab!(World::Root, |_lab| {
        let group = Made::at("kept-missing", &[]);
        let asked = Resources {
            hugepage_limits: vec![HugepageLimit { page_size: "2MB".to_owned(), limit: 0 }],
            ..Resources::default()
        };
        assert_eq!(asked.controllers(), ["hugetlb"]);
        let refused = format!("{:#}", group.limit(&asked).unwrap_err());
        assert!(refused.contains("no controller hugetlb for this group"), "{refused}");
        let wrong = Resources { cpu: Cpu { quota: Some(1), ..Cpu::default() }, ..Resources::default() };
        assert!(format!("{:#}", group.limit(&wrong).unwrap_err()).contains("EINVAL"));
        group.remove().unwrap();
    });
}

/// A real-time budget needs one of the groups above: those that are ours get what is needed, and lose it again.
#[test]
fn real_time_needs_room_above() {
    lab!(World::Root, |_lab| {
        let budget = |runtime: i64, period: Option<u64>| Resources {
            cpu: Cpu { realtime_runtime: Some(runtime), realtime_period: period, ..Cpu::default() },
            ..Resources::default()
        };
        let one = Made::at("kept-real-time/one", &[]);
        let budgets_of = |group: &Path| fs::read_to_string(group.join("cpu.rt_runtime_us")).unwrap();
        let Some(directory) = one.directories.legacy.iter().find(|tree| tree.join("cpu.rt_runtime_us").exists()) else {
            let refused = format!("{:#}", one.limit(&budget(1000, None)).unwrap_err());
            assert!(refused.contains("only cgroup v1 has it") || refused.contains("no cpu.rt_runtime_us"), "{refused}");
            return;
        };
        let above = directory.parent().unwrap();
        one.limit(&budget(1000, None)).unwrap();
        let two = Made::at("kept-real-time/two", &[]);
        two.limit(&budget(2000, Some(500_000))).unwrap();
        assert_eq!(budgets_of(above), "5000\n", "the second has twice the part, for half the period");
        two.limit(&budget(500, None)).unwrap();
        assert_eq!((budgets_of(above).as_str(), budgets_of(directory).as_str()), ("2000\n", "1000\n"));
        let refused = kernel::Failure::from_error(&two.limit(&budget(499_000, None)).unwrap_err());
        assert!(refused.lines("x").contains("cpu.rt_*_us"), "{refused}");
        assert_eq!(budgets_of(above), "2000\n", "what was not given is taken back");
        let inside = above.join("two/inside");
        fs::create_dir(&inside).and_then(|()| fs::write(inside.join("cpu.rt_runtime_us"), "200")).unwrap();
        two.remove().unwrap();
        assert_eq!(budgets_of(above), "1000\n", "a budget goes back although a group inside has a part of it");
        one.remove().unwrap();
        assert_eq!(directories("/cellblock/kept-real-time"), [""; 0].map(PathBuf::from));
    });
}

fn allow(kind: Kind, major: u32, minor: Option<u32>, access: &str) -> Rule {
    Rule { allow: true, kind, major: Some(major), minor, access: Access::parse(access).unwrap() }
}

/// What a shell in the group can do with the null, the zero and the full device, and with a loop device's node.
fn devices_of(group: &Cgroup, folder: &Path) -> String {
    let (disk, said) = (folder.join("disk"), folder.join("said"));
    let script = format!(
        "set +e; exec 1>'{said}'; for d in null zero full; do \
         (: </dev/$d) && echo -n \"read $d, \"; (: >/dev/$d) && echo -n \"write $d, \"; done; \
         mknod '{disk}' b 7 0 && rm '{disk}' && echo -n made",
        said = said.display(),
        disk = disk.display()
    );
    enter(group, &script).wait().unwrap();
    let text = fs::read_to_string(&said).unwrap();
    fs::remove_file(said).unwrap();
    text
}

fn guarded(lab: &Lab, group: &Cgroup) {
    let all = Rule { allow: true, kind: Kind::All, major: None, minor: None, access: Access::ALL };
    let none = Rule { allow: false, ..all };
    let everything = "read null, write null, read zero, write zero, read full, write full, made";
    assert_eq!(devices_of(group, &lab.folder), everything, "before");
    let rules = [none, allow(Kind::Character, 1, Some(3), "rw"), allow(Kind::Character, 1, Some(5), "r")];
    group.guard_devices(&rules).unwrap();
    assert_eq!(devices_of(group, &lab.folder), "read null, write null, read zero, ");
    // Another list, while it lives: full comes, zero goes.
    let rules = [none, allow(Kind::Character, 1, Some(3), "rw"), allow(Kind::Character, 1, Some(7), "r")];
    group.guard_devices(&rules).unwrap();
    assert_eq!(devices_of(group, &lab.folder), "read null, write null, read full, ");
    group.guard_devices(&[all, Rule { allow: false, ..allow(Kind::Block, 7, None, "m") }]).unwrap();
    assert_eq!(devices_of(group, &lab.folder), everything.trim_end_matches("made"));
}

#[test]
fn devices_are_guarded_as_the_rules_say() {
    lab!(World::Root, |lab| {
        let group = Made::at("kept-devices", &[]);
        guarded(lab, &group);
        group.remove().unwrap();
    });
}

/// v2's program works without controllers, too, so in a hybrid machine's tree.
#[test]
fn devices_are_guarded_by_a_program() {
    lab!(World::Root, |lab| {
        let made = Made::at("kept-program", &[]);
        let directories = Directories { legacy: Vec::new(), ..made.directories.clone() };
        let group = Cgroup { directories, ..Cgroup::clone(&made) };
        guarded(lab, &group);
        made.remove().unwrap();
    });
}

#[test]
fn what_it_has_used() {
    lab!(World::Root, |_lab| {
        let group = Made::at("kept-used", &["memory", "pids"]);
        group.limit(&Resources { pids: Some(Pids { limit: Some(30) }), ..memory(64 << 20, None) }).unwrap();
        let mut child = enter(&group, "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; echo done; exec sleep 100");
        let begin = Instant::now();
        while group.statistics()["cpu"]["usage"]["total"].as_u64().unwrap() < 5_000_000 {
            assert!(begin.elapsed() < Duration::from_secs(20), "{}", group.statistics());
            std::thread::sleep(Duration::from_millis(10));
        }
        let used = group.statistics();
        assert_eq!(used["pids"], serde_json::json!({"current": 1, "limit": 30}));
        assert_eq!(used["memory"]["usage"]["limit"], 64 << 20);
        assert!(used["memory"]["usage"]["usage"].as_u64().unwrap() > 4096, "{used}");
        assert!(!used["memory"]["raw"].as_object().unwrap().is_empty() && group.directories.used().cpu > 0.0);
        child.kill().unwrap();
        child.wait().unwrap();
    });
}

/// v1 alone, as on machines from before 2020: its freezer holds everybody still, and each process says when it ends.
#[test]
fn without_a_tree_of_v2() {
    lab!(World::Root, |_lab| {
        if world() == "v2" {
            return; // there the tree of v2 is all there is
        }
        let made = Made::at("kept-old", &["freezer"]);
        let directories = Directories { unified: None, ..made.directories.clone() };
        let group = Cgroup { directories, ..Cgroup::clone(&made) };
        assert!(group.entrance().unwrap().is_none());
        let mut child = enter(&made, "sleep 100 & exec sleep 100");
        while group.processes().len() < 2 {
            std::thread::yield_now();
        }
        group.freeze(true).unwrap();
        assert!(group.is_frozen());
        group.kill_all().unwrap();
        assert!(!group.is_frozen(), "v1's frozen do not hear of their death");
        assert!(!child.wait().unwrap().success());
        group.wait_until_empty().unwrap();
        let mut child = enter(&made, "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done");
        assert_eq!(wait_for_a_line(&mut child), "ready\n");
        group.signal_all(15).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(7));
        group.wait_until_empty().unwrap();
        group.remove().unwrap();
    });
}
