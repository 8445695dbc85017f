//! Step 7, races: launches, visits, signals and removals of a few names by several callers at once, and commands that are stopped
//! or killed in between. In the end no process lives without a record, no record stays that cannot be removed, and no stranger
//! has come to harm.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use classroom::groups::directories;
use classroom::lab::{FIGURES, binary};
use classroom::{Desk, Lab, World, lab};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const NAMES: [&str; 3] = ["red", "green", "blue"];
const CALLERS: u64 = 4;
/// No command takes longer, whatever the others do: one that waits for ever is to be told of.
const PATIENCE: Duration = Duration::from_secs(60);

/// Numbers without a pattern (xorshift); the same seed gives the same.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// What the callers share.
struct Arena<'a> {
    desk: &'a Desk<'a>,
    bundles: PathBuf,
    done: AtomicU32,
}

impl Arena<'_> {
    /// A bundle for each name, with a group of its own.
    fn furnish(desk: &Desk) -> PathBuf {
        let bundles = desk.lab.folder.join("bundles");
        let config: Value = serde_json::from_slice(&fs::read(desk.bundle.join("config.json")).unwrap()).unwrap();
        for name in NAMES {
            let bundle = bundles.join(name);
            fs::create_dir_all(&bundle).unwrap();
            std::os::unix::fs::symlink(&desk.lab.rootfs, bundle.join("rootfs")).unwrap();
            let mut config = config.clone();
            config["linux"]["cgroupsPath"] = json!(format!("{}/{name}", desk.parent));
            config["process"]["args"] = json!(["sleep", if name == "blue" { "0.1" } else { "1000" }]);
            fs::write(bundle.join("config.json"), config.to_string()).unwrap();
        }
        bundles
    }

    fn words(&self, dice: &mut Dice) -> Vec<String> {
        let name = NAMES[dice.below(NAMES.len() as u64) as usize];
        let bundle = self.bundles.join(name).display().to_string();
        let words: Vec<&str> = match dice.below(12) {
            0 | 1 => vec!["create", "--bundle", &bundle, name],
            2 => vec!["run", "--detach", "--bundle", &bundle, name],
            3 => vec!["run", "--bundle", &bundle, name],
            4 | 5 => vec!["start", name],
            6 => vec!["exec", name, "true"],
            7 => vec!["kill", name, "KILL"],
            8 => vec!["delete", name],
            9 => vec!["delete", "--force", name],
            10 => vec!["prune"],
            _ => vec!["list"],
        };
        words.into_iter().map(str::to_owned).collect()
    }

    /// One caller: command after command, some of them stopped for a while, some killed.
    fn call(&self, seed: u64, end: Instant) {
        let mut dice = Dice(seed);
        while Instant::now() < end {
            let words = self.words(&mut dice);
            let mut command = Command::new(binary("cellblock"));
            command.arg("--root").arg(&self.desk.root).args(&words).env_remove("TERM");
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut running = command.spawn().unwrap();
            self.disturb(&mut dice, &running);
            self.wait(&words, &mut running);
            self.done.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn disturb(&self, dice: &mut Dice, running: &Child) {
        // It is ours, and not waited for yet.
        let send = |signal| kill(Pid::from_raw(running.id() as i32), signal).unwrap();
        let moment = Duration::from_micros(dice.below(40_000));
        match dice.below(4) {
            0 => {
                std::thread::sleep(moment);
                send(Signal::SIGSTOP);
                std::thread::sleep(Duration::from_millis(dice.below(150)));
                send(Signal::SIGCONT);
            }
            1 => {
                std::thread::sleep(moment);
                send(Signal::SIGKILL);
            }
            _ => {}
        }
    }

    /// A `run` in the foreground waits for its container, which another caller ends; or we do.
    fn wait(&self, words: &[String], running: &mut Child) {
        let begin = Instant::now();
        let is_run = words[0] == "run" && !words.contains(&"--detach".to_owned());
        while running.try_wait().unwrap().is_none() {
            if is_run && begin.elapsed() > Duration::from_millis(500) {
                let _ = kill(Pid::from_raw(running.id() as i32), Signal::SIGKILL);
            }
            assert!(begin.elapsed() < PATIENCE, "{words:?} does not end");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Each process in a group of ours is of a container that is remembered, and not as stopped.
    fn no_process_without_a_record(&self) {
        let list: Value = serde_json::from_str(&self.desk.succeed(&["list", "--format", "json"])).unwrap();
        for name in NAMES {
            let record = list.as_array().unwrap().iter().find(|row| row["id"] == name);
            let lives = record.is_some_and(|record| record["status"] != "stopped");
            let processes: Vec<String> = directories(&format!("{}/{name}", self.desk.parent))
                .iter()
                .map(|group| fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default())
                .collect();
            assert!(lives || processes.concat().is_empty(), "{name}: {record:?}: {processes:?}");
        }
    }
}

fn race(lab: &Lab, test: &str, time: Duration) {
    let desk = Desk::new(lab, test);
    let arena = Arena { bundles: Arena::furnish(&desk), desk: &desk, done: AtomicU32::new(0) };
    let mut stranger = Command::new("sleep").arg("1000").spawn().unwrap();
    fs::create_dir(&desk.root).unwrap();
    fs::create_dir_all(desk.root.join("theirs/src")).unwrap();
    fs::write(desk.root.join("theirs/src/main.rs"), "fn main() {}").unwrap();
    let end = Instant::now() + time;
    std::thread::scope(|callers| {
        for seed in 1..=CALLERS {
            let arena = &arena;
            callers.spawn(move || arena.call(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), end));
        }
    });
    let done = arena.done.load(Ordering::Relaxed);
    eprintln!("{FIGURES}: {done} commands of {CALLERS} callers in {} s", time.as_secs());
    std::thread::sleep(Duration::from_millis(500)); // children of killed launches die with their parents
    arena.no_process_without_a_record();
    for name in NAMES {
        desk.succeed(&["delete", "--force", name]);
    }
    desk.succeed(&["prune"]);
    assert_eq!(stranger.try_wait().unwrap(), None, "a stranger was ended");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    assert_eq!(fs::read_to_string(desk.root.join("theirs/src/main.rs")).unwrap(), "fn main() {}");
    fs::remove_dir_all(desk.root.join("theirs")).unwrap();
    desk.nothing_is_left();
    fs::remove_dir_all(&arena.bundles).unwrap();
}

#[test]
fn callers_get_in_each_others_way() {
    lab!(World::Root, |lab| race(lab, "race", Duration::from_secs(8)));
}

#[test]
#[ignore = "two minutes"]
fn callers_get_in_each_others_way_for_long() {
    lab!(World::Root, |lab| race(lab, "long-race", Duration::from_secs(110)));
}
