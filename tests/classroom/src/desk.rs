//! Where step 7's tests sit: a bundle, a place for the state, and a parent for the groups.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::groups::directories;
use crate::lab::binary;
use crate::{Lab, Output};

const STEP: &str = "cellblock";
/// No verb takes longer, in seconds: one that waits for ever is to be told of.
const PATIENCE: &str = "30";

/// A bundle, a place for the state, and a parent for the groups. All of it goes when dropped.
pub struct Desk<'a> {
    /// The lab that it stands in.
    pub lab: &'a Lab,
    /// A bundle.
    pub bundle: PathBuf,
    /// Where containers are remembered.
    pub root: PathBuf,
    /// The group above theirs.
    pub parent: String,
}

/// The lab's folder has a number of its own among all clones on this machine, which share the tree of groups.
fn own_number(lab: &Lab) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&fs::metadata(&lab.folder).expect("it is ours"))
}

/// Waits until something is so; no test waits longer.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "it does not come about: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The runtime without `timeout` before it: a signal goes to the runtime itself.
pub fn runtime(root: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(binary("cellblock"));
    command.arg("--root").arg(root).args(words).stdin(Stdio::null()).stdout(Stdio::null()).env_remove("TERM");
    command
}

impl<'a> Desk<'a> {
    /// The bundle is what `cellblock spec` writes, with a command that sleeps instead of a shell at a terminal.
    pub fn new(lab: &'a Lab, test: &str) -> Desk<'a> {
        let (bundle, root) = (lab.folder.join("bundle"), lab.folder.join("cellblock"));
        fs::create_dir(&bundle).and_then(|()| symlink(&lab.rootfs, bundle.join("rootfs"))).expect("the lab is ours");
        let desk = Desk { lab, bundle, root, parent: format!("/cellblock-lab-{}-{test}", own_number(lab)) };
        desk.remove_groups(); // what a failed test has left
        desk.succeed(&["spec", "--bundle", "target/bundle"]);
        desk.configure(|config| {
            config["process"]["terminal"] = json!(false);
            config["process"]["args"] = json!(["sleep", "1000"]);
            config["linux"]["cgroupsPath"] = json!(format!("{}/one", desk.parent));
        });
        desk
    }

    /// The container gets a user namespace of its own: `size` ids from 0 on are those of the host from `host` on.
    pub fn map_users(&self, host: u32, size: u32) {
        self.configure(|config| {
            config["linux"]["namespaces"].as_array_mut().expect("the template has some").push(json!({"type": "user"}));
            for map in ["uidMappings", "gidMappings"] {
                config["linux"][map] = json!([{"containerID": 0, "hostID": host, "size": size}]);
            }
        });
    }

    /// The bundle is as an ordinary user with a single id writes it: no group, and no group of terminals.
    pub fn as_ordinary_user(&self) {
        self.map_users(0, 1);
        self.configure(|config| {
            config["linux"].as_object_mut().expect("the template has it").remove("cgroupsPath");
            let mounts = config["mounts"].as_array_mut().expect("the template has some");
            let terminals =
                mounts.iter_mut().find(|mount| mount["destination"] == "/dev/pts").expect("it is one of them");
            terminals["options"].as_array_mut().expect("it has some").retain(|option| option != "gid=5");
        });
    }

    fn remove_groups(&self) {
        for group in [format!("{}/one", self.parent), self.parent.clone()] {
            directories(&group).into_iter().for_each(|directory| drop(fs::remove_dir(directory)));
        }
    }

    /// Changes the configuration.
    pub fn configure(&self, change: impl FnOnce(&mut Value)) {
        let file = self.bundle.join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&file).expect("spec wrote it")).expect("it is JSON");
        change(&mut config);
        fs::write(file, config.to_string()).expect("it is ours");
    }

    /// What runs when the container starts.
    pub fn set_command(&self, script: &str) {
        self.configure(|config| config["process"]["args"] = json!(["sh", "-c", script]));
    }

    /// The runtime, with our bundle in the place of target/bundle.
    pub fn command(&self, words: &[&str]) -> Command {
        let bundle = self.bundle.display().to_string();
        let words = words.iter().map(|word| word.replace("target/bundle", &bundle));
        let mut command = Command::new("timeout");
        command.args(["--foreground", "--signal=KILL", PATIENCE]).arg(binary(STEP)).arg("--root").arg(&self.root);
        command.args(words).stdin(Stdio::null()).env_remove("TERM");
        command
    }

    /// As a learner types it. A container keeps what it was given as standard output: so that is a file, for the end of
    /// a pipe would not come before the container's.
    pub fn run(&self, words: &[&str]) -> Output {
        let runtime = self.command(words);
        let mut shell = Command::new("sh");
        shell.args(["-c", "\"$@\" >\"$0\" 2>&1; code=$?; cat \"$0\"; rm \"$0\"; exit $code"]);
        shell.arg(self.lab.folder.join("output")).arg(runtime.get_program()).args(runtime.get_args());
        shell.env_remove("TERM").stdin(Stdio::null());
        self.lab.output(format!("# cellblock {}", words.join(" ")), shell)
    }

    /// A script of bash's, with the runtime as `cellblock`, its path as `$0`, the bundle as `$bundle`, and the lab's folder as
    /// `$folder`.
    pub fn bash(&self, script: &str) -> Output {
        let mut shell = Command::new("bash");
        let head = "cellblock() { timeout --signal=KILL 30 \"$0\" --root \"$root\" \"$@\"; }\n";
        shell.args(["-c", &format!("{head}{script}")]).arg(binary(STEP)).stdin(Stdio::null());
        shell.env("root", &self.root).env("bundle", &self.bundle).env("folder", &self.lab.folder);
        self.lab.output(script.to_owned(), shell)
    }

    /// It must succeed; what it printed.
    pub fn succeed(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert_eq!(output.code, 0, "{output}");
        output.text
    }

    /// It must fail, and say this.
    pub fn fail(&self, words: &[&str], says: &str) {
        let output = self.run(words);
        assert!(output.code == 125 && output.text.contains(says), "{says}: {output}");
    }

    /// Makes the container.
    pub fn create(&self) {
        self.succeed(&["create", "--bundle", "target/bundle", "one"]);
    }

    /// A running container, whose command has said that it is up.
    pub fn start(&self, script: &str) {
        self.set_command(&format!("echo up; {script}"));
        let mut reader = {
            let (reader, writer) = std::io::pipe().expect("descriptors are left");
            let mut create = self.command(&["create", "--bundle", "target/bundle", "one"]);
            assert!(create.stdout(writer).status().expect("it was built").success());
            BufReader::new(reader)
        };
        self.succeed(&["start", "one"]);
        let mut line = String::new();
        reader.read_line(&mut line).expect("a pipe can be read");
        assert_eq!(line, "up\n");
    }

    /// What `state` says.
    pub fn state(&self) -> Value {
        serde_json::from_str(&self.succeed(&["state", "one"])).expect("it is JSON")
    }

    /// Waits until it has a status.
    pub fn wait_for(&self, status: &str) {
        let end = Instant::now() + Duration::from_secs(10);
        while self.state()["status"] != status {
            assert!(Instant::now() < end, "it does not get {status}: {}", self.state());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills it.
    pub fn kill(&self) {
        self.succeed(&["kill", "one", "KILL"]);
        self.wait_for("stopped");
    }

    /// Nothing of any container is on disk or among the groups.
    pub fn nothing_is_left(&self) {
        let remembered: Vec<_> = fs::read_dir(&self.root).into_iter().flatten().flatten().collect();
        assert!(remembered.is_empty(), "{remembered:?}");
        assert!(self.groups().is_empty(), "{:?}", self.groups());
    }

    /// The groups of containers that there are, in every tree.
    pub fn groups(&self) -> Vec<PathBuf> {
        let below = |group: PathBuf| fs::read_dir(group).expect("it is there").flatten().map(|entry| entry.path());
        directories(&self.parent).into_iter().flat_map(below).filter(|path| path.is_dir()).collect()
    }

    /// An output without what differs from run to run, and with the paths of the chapter.
    pub fn shown(&self, output: impl ToString) -> String {
        let text = output.to_string().replace("target/lab/", "target/");
        text.lines().map(|line| one_for_all(line) + "\n").collect()
    }

    /// What lies in the store, as `ls` shows it.
    pub fn stored(&self) -> Output {
        let mut ls = Command::new("ls");
        ls.arg("-1F").arg(self.root.join("one")).env("LC_ALL", "C");
        self.lab.output("# ls -1F target/cellblock/one".to_owned(), ls)
    }
}

/// Dates, numbers of processes, and how long our program is.
fn one_for_all(line: &str) -> String {
    const VARY: [(&str, &str); 3] =
        [("\"created\": ", "<when>,"), ("\"pid\": ", "<pid>,"), ("<own program>, ", "<length>) = 0")];
    for (before, shown) in VARY {
        let varies = line.split_once(before).filter(|(_, rest)| !rest.starts_with("0,")); // 0 is nobody
        if let Some((head, _)) = varies {
            return format!("{head}{before}{shown}");
        }
    }
    line.to_owned()
}

impl Drop for Desk<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.command(&["delete", "--force", "one"]).status();
        } else {
            self.nothing_is_left();
        }
        let _ = fs::remove_dir_all(&self.root);
        let _ = fs::remove_dir_all(&self.bundle);
        self.remove_groups();
    }
}

/// Whether a new /proc can show another pid namespace than its maker's (Linux 6.17). To be asked in a lab.
pub fn has_proc_of_others() -> bool {
    let script = "mount -t proc -o pidns=/proc/self/ns/pid proc /mnt && umount /mnt";
    Command::new("sh").args(["-c", script]).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Ends a visitor who was left alone. It is our child by now, and until it is reaped its pid namespace cannot end.
pub fn reap(pid: i32) {
    let pid = Pid::from_raw(pid);
    kill(pid, Signal::SIGKILL).expect("we are root");
    waitpid(pid, None).expect("orphans come to us");
}
