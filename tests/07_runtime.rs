//! Step 7, the prison: the verbs of the runtime, on a plain bundle and without any engine.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use classroom::groups::directories;
use classroom::lab::binary;
use classroom::run::code;
use classroom::{Lab, Output, World, check, lab};
use kernel::Fd;
use kernel::sys::socket::receive_fd;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, read, write};
use serde_json::{Value, json};

const STEP: &str = "cellblock";
/// No verb takes longer, in seconds: one that waits for ever is to be told of.
const PATIENCE: &str = "30";

/// A bundle, a place for the state, and a parent for the groups. All of it goes when dropped.
struct Desk<'a> {
    lab: &'a Lab,
    bundle: PathBuf,
    root: PathBuf,
    parent: String,
}

/// The lab's folder has a number of its own among all clones on this machine, which share the tree of groups.
fn own_number(lab: &Lab) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&fs::metadata(&lab.folder).expect("it is ours"))
}

impl<'a> Desk<'a> {
    /// The bundle is what `cellblock spec` writes, with a command that sleeps instead of a shell at a terminal.
    fn new(lab: &'a Lab, test: &str) -> Desk<'a> {
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

    fn remove_groups(&self) {
        for group in [format!("{}/one", self.parent), self.parent.clone()] {
            directories(&group).into_iter().for_each(|directory| drop(fs::remove_dir(directory)));
        }
    }

    /// Changes the configuration.
    fn configure(&self, change: impl FnOnce(&mut Value)) {
        let file = self.bundle.join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&file).expect("spec wrote it")).expect("it is JSON");
        change(&mut config);
        fs::write(file, config.to_string()).expect("it is ours");
    }

    /// What runs when the container starts.
    fn set_command(&self, script: &str) {
        self.configure(|config| config["process"]["args"] = json!(["sh", "-c", script]));
    }

    /// The runtime, with our bundle in the place of target/bundle.
    fn command(&self, words: &[&str]) -> Command {
        let bundle = self.bundle.display().to_string();
        let words = words.iter().map(|word| word.replace("target/bundle", &bundle));
        let mut command = Command::new("timeout");
        command.args(["--foreground", "--signal=KILL", PATIENCE]).arg(binary(STEP)).arg("--root").arg(&self.root);
        command.args(words).stdin(Stdio::null()).env_remove("TERM");
        command
    }

    /// As a learner types it. A container keeps what it was given as standard output: so that is a file, for the end of
    /// a pipe would not come before the container's.
    fn run(&self, words: &[&str]) -> Output {
        let runtime = self.command(words);
        let mut shell = Command::new("sh");
        shell.args(["-c", "\"$@\" >\"$0\" 2>&1; code=$?; cat \"$0\"; rm \"$0\"; exit $code"]);
        shell.arg(self.lab.folder.join("output")).arg(runtime.get_program()).args(runtime.get_args());
        shell.env_remove("TERM").stdin(Stdio::null());
        self.lab.output(format!("# cellblock {}", words.join(" ")), shell)
    }

    fn succeed(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert_eq!(output.code, 0, "{output}");
        output.text
    }

    /// It must fail, and say this.
    fn fail(&self, words: &[&str], says: &str) {
        let output = self.run(words);
        assert!(output.code == 125 && output.text.contains(says), "{says}: {output}");
    }

    fn create(&self) {
        self.succeed(&["create", "--bundle", "target/bundle", "one"]);
    }

    /// A running container, whose command has said that it is up.
    fn start(&self, script: &str) {
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

    fn state(&self) -> Value {
        serde_json::from_str(&self.succeed(&["state", "one"])).expect("it is JSON")
    }

    fn wait_for(&self, status: &str) {
        let end = Instant::now() + Duration::from_secs(10);
        while self.state()["status"] != status {
            assert!(Instant::now() < end, "it does not get {status}: {}", self.state());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn kill(&self) {
        self.succeed(&["kill", "one", "KILL"]);
        self.wait_for("stopped");
    }

    /// Nothing of any container is on disk or among the groups.
    fn nothing_is_left(&self) {
        let remembered: Vec<_> = fs::read_dir(&self.root).into_iter().flatten().flatten().collect();
        assert!(remembered.is_empty(), "{remembered:?}");
        for group in directories(&self.parent) {
            let below = fs::read_dir(&group).expect("it is there").flatten();
            let below: Vec<_> = below.filter(|entry| entry.path().is_dir()).collect();
            assert!(below.is_empty(), "{below:?}");
        }
    }

    /// An output without what differs from run to run, and with the paths of the chapter.
    fn shown(&self, output: impl ToString) -> String {
        let text = output.to_string().replace("target/lab/", "target/");
        text.lines().map(|line| one_for_all(line) + "\n").collect()
    }

    /// What lies in the store, as `ls` shows it.
    fn stored(&self) -> Output {
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

/// Ends a visitor who was left alone. It is our child by now, and until it is reaped its pid namespace cannot end.
fn reap(pid: i32) {
    let pid = Pid::from_raw(pid);
    kill(pid, Signal::SIGKILL).expect("we are root");
    waitpid(pid, None).expect("orphans come to us");
}

/// From create to delete, as the chapter has it typed.
#[test]
fn by_hand() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "by-hand");
        let create = desk.run(&["create", "--bundle", "target/bundle", "one"]);
        check!("runtime_created", desk.shown(format!("{create}{}{}", desk.run(&["state", "one"]), desk.stored())));
        let start = desk.run(&["start", "one"]);
        let ps = desk.run(&["exec", "one", "ps"]);
        check!("runtime_running", desk.shown(format!("{start}{ps}{}", desk.stored())));
        let kill = desk.run(&["kill", "one", "KILL"]);
        desk.wait_for("stopped");
        let state = desk.run(&["state", "one"]);
        let delete = desk.run(&["delete", "one"]);
        check!("runtime_stopped", desk.shown(format!("{kill}{state}{delete}{}", desk.run(&["list", "--quiet"]))));
    });
}

/// A story with every purpose, once, and the calls of those that this step is about.
fn new_in_this_step(story: &str) -> String {
    const OURS: [&str; 5] = ["our own file", "a hatch", "all is made", "say start", "nobody may look"];
    const CALLS: [&str; 3] = ["clone3(", "listen(", "execve"];
    // Which groups there are, and what must be covered, differs between machines.
    const LEFT_OUT: [&str; 8] = [
        "the group",
        "same group",
        "a group",
        "this group",
        "groups from",
        "devices can be opened",
        "cover what",
        "would change the host",
    ];
    let (mut text, mut last, mut ours, mut begun) = (String::new(), "", false, false);
    for line in story.lines() {
        if let Some((_, purpose)) = line.split_once(" > ") {
            begun = true;
            ours = OURS.iter().any(|word| purpose.starts_with(word));
            let skip = purpose == last || LEFT_OUT.iter().any(|word| purpose.contains(word));
            if skip {
                continue;
            }
            last = purpose;
        } else if line.contains("/sys/fs/cgroup") || begun && !ours && !CALLS.iter().any(|call| line.contains(call)) {
            continue;
        }
        text += line;
        text += "\n";
    }
    text
}

#[test]
fn explained() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "explained");
        let story = desk.run(&["--explain", "create", "--bundle", "target/bundle", "one"]);
        check!("runtime_explained_create", new_in_this_step(&desk.shown(story)));
        check!("runtime_explained_start", desk.shown(desk.run(&["--explain", "start", "one"])));
        let story = desk.run(&["--explain", "exec", "one", "true"]);
        check!("runtime_explained_exec", new_in_this_step(&desk.shown(story)));
        desk.succeed(&["delete", "--force", "one"]);
    });
}

#[test]
fn failures() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "failures");
        let create = ["create", "--bundle", "target/bundle", "one"];
        let mut told = Vec::new();
        let mut tell = |words: &[&str]| told.push(desk.run(words).to_string());
        tell(&["create", "--bundle", "target/nosuch", "one"]);
        tell(&["create", "--bundle", "target", "one"]);
        tell(&["create", "--bundle", "target/bundle", "../one"]);
        let good = fs::read_to_string(desk.bundle.join("config.json")).unwrap();
        let mut with = |change: &dyn Fn(&mut Value)| {
            desk.configure(change);
            tell(&create);
            fs::write(desk.bundle.join("config.json"), &good).unwrap();
        };
        with(&|config| config["process"]["cwd"] = json!("tmp"));
        with(&|config| config["process"]["user"]["uid"] = json!("root"));
        with(&|config| config["process"]["args"] = json!(["nosuch"]));
        with(&|config| config["process"]["terminal"] = json!(true));
        with(&|config| config["mounts"][1]["options"] = json!(["sized=1m"]));
        with(&|config| config["linux"]["intelRdt"] = json!({}));
        fs::write(desk.bundle.join("config.json"), &good[..good.len() - 1]).unwrap();
        tell(&create);
        fs::write(desk.bundle.join("config.json"), &good).unwrap();
        desk.nothing_is_left();
        tell(&["state", "one"]);
        desk.create();
        tell(&create);
        desk.succeed(&["start", "one"]);
        tell(&["start", "one"]);
        tell(&["delete", "one"]);
        tell(&["resume", "one"]);
        tell(&["kill", "one", "NOSUCH"]);
        tell(&["exec", "--user", "root", "one", "true"]);
        tell(&["exec", "one", "nosuch"]);
        desk.kill();
        tell(&["exec", "one", "true"]);
        tell(&["kill", "one"]);
        tell(&["checkpoint", "one"]);
        desk.succeed(&["delete", "one"]);
        check!("runtime_failures", desk.shown(told.concat()));
    });
}

/// A value in one line, where it is short; else its parts, each in a line.
fn outline(path: &str, value: &Value, text: &mut String) {
    const WIDTH: usize = 96;
    let line = format!("{path}: {value}\n");
    match value {
        Value::Object(fields) if line.len() > WIDTH => {
            let inside = |name: &String| if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            fields.iter().for_each(|(name, value)| outline(&inside(name), value, text));
        }
        Value::Array(items) if line.len() > WIDTH => {
            let name = |item: &Value| item.get("destination").or(item.get("type")).unwrap_or(item).to_string();
            let names: Vec<String> = items.iter().map(|item| name(item).replace('"', "")).collect();
            let line = format!("{path}: {} of them: {}", names.len(), names.join(", "));
            let whole = line.len() <= WIDTH;
            let cut = line.get(..WIDTH).and_then(|start| start.rfind(", ")).filter(|_| !whole).unwrap_or(line.len());
            *text += &format!("{}{}\n", &line[..cut], if whole { "" } else { ", ..." });
        }
        _ => *text += &line,
    }
}

/// What `spec` writes and what `features` prints are JSON, and what the chapter says of them.
#[test]
fn spec_and_features() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "spec");
        fs::remove_file(desk.bundle.join("config.json")).unwrap();
        desk.succeed(&["spec", "--bundle", "target/bundle"]);
        desk.fail(&["spec", "--bundle", "target/bundle"], "exists");
        let config: Value = serde_json::from_slice(&fs::read(desk.bundle.join("config.json")).unwrap()).unwrap();
        let mut text = String::new();
        outline("", &config, &mut text);
        check!("runtime_spec", text);
        let features: Value = serde_json::from_str(&desk.succeed(&["features"])).unwrap();
        let mut text = String::new();
        outline("", &features, &mut text);
        check!("runtime_features", text.replace(env!("CARGO_PKG_VERSION"), "<version>"));
    });
}

#[test]
fn lifecycle() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "lifecycle");
        desk.set_command("echo hello; exit 7");
        desk.create();
        assert_eq!(desk.state()["status"], "created");
        desk.succeed(&["start", "one"]);
        desk.wait_for("stopped");
        desk.fail(&["start", "one"], "cannot start a container that has stopped");
        desk.succeed(&["delete", "one"]);
        desk.fail(&["delete", "one"], "container does not exist");
        desk.succeed(&["delete", "--force", "one"]);
        // From every state, by force.
        desk.create();
        desk.succeed(&["delete", "--force", "one"]);
        desk.start("sleep 60 & sleep 60");
        desk.succeed(&["delete", "--force", "one"]);
        desk.start("sleep 60");
        desk.succeed(&["pause", "one"]);
        desk.succeed(&["delete", "--force", "one"]);
        // It waits for start, and gets a signal instead.
        desk.create();
        desk.kill();
        desk.fail(&["start", "one"], "cannot start a container that has stopped");
        desk.succeed(&["delete", "one"]);
    });
}

#[test]
fn exit_codes() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "exit-codes");
        let run = |args: Value| {
            desk.configure(|config| config["process"]["args"] = args);
            desk.run(&["run", "--bundle", "target/bundle", "one"]).code
        };
        assert_eq!(run(json!(["true"])), 0);
        assert_eq!(run(json!(["sh", "-c", "exit 7"])), 7);
        assert_eq!(run(json!(["sh", "-c", "kill -KILL $$; exit 7"])), 7, "PID 1 does not hear its own KILL");
        assert_eq!(run(json!(["nosuch"])), 127);
        assert_eq!(run(json!(["/bin/nosuch"])), 127);
        assert_eq!(run(json!(["/etc"])), 126);
        desk.start("sleep 60");
        let exec = |script: &str| desk.run(&["exec", "one", "sh", "-c", script]).code;
        assert_eq!(exec("exit 7"), 7);
        assert_eq!(exec("kill -KILL $$"), 137);
        assert_eq!(desk.run(&["exec", "one", "nosuch"]).code, 127);
        assert_eq!(desk.run(&["exec", "one", "/etc"]).code, 126);
        assert_eq!(desk.run(&["exec", "one"]).code, 125);
        desk.succeed(&["delete", "--force", "one"]);
    });
}

#[test]
fn exec() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "exec");
        desk.start("sleep 60");
        let exec =
            |options: &[&str], script: &str| desk.succeed(&[&["exec"], options, &["one", "sh", "-c", script]].concat());
        assert_eq!(exec(&["--user", "1000:100", "-g", "7"], "id -u; id -g; id -G"), "1000\n100\n100 7\n");
        assert_eq!(exec(&["--cwd", "/usr"], "pwd"), "/usr\n");
        assert_eq!(exec(&["--env", "A=b", "-e", "C=d"], "echo $A $C"), "b d\n");
        let set = "grep -o 'CapEff.*' /proc/self/status";
        assert_eq!(exec(&[], set), "CapEff:\t0000000020000420\n");
        assert_eq!(exec(&["--cap", "CAP_SYS_CHROOT"], set), "CapEff:\t0000000020040420\n");
        assert_eq!(exec(&[], "grep -o 'NoNewPrivs.*' /proc/self/status"), "NoNewPrivs:\t1\n");
        // Nothing comes along: neither descriptors nor a way back by them.
        let mut command = Command::new("sh");
        let script = "exec 7</; exec \"$0\" --root \"$1\" exec one ls /proc/self/fd";
        command.args(["-c", script]).arg(binary(STEP)).arg(&desk.root);
        assert_eq!(lab.output(String::new(), command).text, "0\n1\n2\n3\n", "3 is what ls reads");
        let leads_out = desk.run(&["exec", "--cwd", "/proc/self/fd/7", "one", "true"]);
        assert_ne!(leads_out.code, 0, "{leads_out}");
        // From a file, detached, with its number.
        let process = lab.folder.join("process.json");
        let numbers = lab.folder.join("pid");
        let asked = json!({"args": ["/bin/sleep", "50"], "cwd": "/", "user": {"uid": 1000, "gid": 1000}});
        fs::write(&process, asked.to_string()).unwrap();
        let (process, number) = (process.display().to_string(), numbers.display().to_string());
        desk.succeed(&["exec", "--detach", "--process", &process, "--pid-file", &number, "one"]);
        let pid: i32 = fs::read_to_string(&number).unwrap().parse().unwrap();
        let json: Vec<i32> = serde_json::from_str(&desk.succeed(&["ps", "--format", "json", "one"])).unwrap();
        assert!(json.contains(&pid), "{pid} is not in {json:?}");
        assert!(desk.succeed(&["ps", "one"]).contains("sleep 50"));
        reap(pid);
        desk.succeed(&["pause", "one"]);
        desk.fail(&["exec", "one", "true"], "paused");
        desk.succeed(&["delete", "--force", "one"]);
        desk.fail(&["exec", "one", "true"], "container does not exist");
        fs::remove_file(process).unwrap();
        fs::remove_file(number).unwrap();
    });
}

#[test]
fn pause_and_resume() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "pause");
        desk.start("while :; do date +%N > /dev/shm/now; done");
        let now = || desk.succeed(&["exec", "--ignore-paused", "one", "cat", "/dev/shm/now"]);
        desk.succeed(&["pause", "one"]);
        assert_eq!(desk.state()["status"], "paused");
        desk.fail(&["pause", "one"], "already paused");
        desk.fail(&["delete", "one"], "not stopped: paused");
        desk.succeed(&["resume", "one"]);
        assert_eq!(desk.state()["status"], "running");
        desk.fail(&["resume", "one"], "container not paused");
        let (first, end) = (now(), Instant::now() + Duration::from_secs(10));
        while now() == first {
            assert!(Instant::now() < end, "it does not go on");
        }
        desk.succeed(&["pause", "one"]);
        desk.kill();
        desk.succeed(&["delete", "one"]);
    });
}

/// Six moments, in this order, each with the container's state on standard input.
#[test]
fn hooks() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "hooks");
        let folder = lab.folder.join("log");
        fs::create_dir(&folder).unwrap();
        let hook = |moment: &str, place: &str| {
            let script = format!("{{ echo {moment}; cat; echo; }} >> {place}/told");
            json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}])
        };
        let outside = folder.display().to_string();
        desk.configure(|config| {
            config["hooks"] = json!({
                "prestart": hook("prestart", &outside),
                "createRuntime": hook("createRuntime", &outside),
                "createContainer": hook("createContainer", &outside),
                "startContainer": hook("startContainer", "/mnt"),
                "poststart": hook("poststart", &outside),
                "poststop": hook("poststop", &outside),
            });
            config["annotations"] = json!({"who": "me"});
            let mounts = config["mounts"].as_array_mut().unwrap();
            mounts.push(json!({"destination": "/mnt", "type": "bind", "source": outside, "options": ["bind"]}));
        });
        let told = || fs::read_to_string(folder.join("told")).unwrap();
        let moments = |text: &str| text.lines().step_by(2).collect::<Vec<_>>().join(" ");
        desk.create();
        assert_eq!(moments(&told()), "prestart createRuntime createContainer");
        let pid = desk.state()["pid"].clone();
        desk.succeed(&["start", "one"]);
        desk.kill();
        desk.succeed(&["delete", "one"]);
        let text = told();
        let all = "prestart createRuntime createContainer startContainer poststart poststop";
        assert_eq!(moments(&text), all);
        for (moment, state) in text.lines().step_by(2).zip(text.lines().skip(1).step_by(2)) {
            let state: Value = serde_json::from_str(state).unwrap();
            assert_eq!((&state["id"], &state["annotations"]["who"]), (&json!("one"), &json!("me")), "{moment}");
            assert_eq!(state["bundle"], json!(desk.bundle), "{moment}");
            let expected = match moment {
                "prestart" | "createRuntime" => Some((json!("creating"), pid.clone())),
                "poststart" => Some((json!("running"), pid.clone())),
                "poststop" => Some((json!("stopped"), Value::Null)),
                _ => None,
            };
            if let Some((status, pid)) = expected {
                assert_eq!((&state["status"], &state["pid"]), (&status, &pid), "{moment}");
            }
        }
        // One that fails before the command runs takes everything back, and says what it said.
        for moment in ["prestart", "createRuntime", "createContainer"] {
            desk.configure(|config| {
                config["hooks"] =
                    json!({moment: [{"path": "/bin/sh", "args": ["sh", "-c", "echo sorry >&2; exit 1"]}]});
            });
            desk.fail(&["create", "--bundle", "target/bundle", "one"], "sorry");
            desk.nothing_is_left();
        }
        desk.configure(|config| {
            config["hooks"] = json!({"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "60"], "timeout": 1}]});
        });
        desk.fail(&["create", "--bundle", "target/bundle", "one"], "longer than 1 s");
        desk.nothing_is_left();
        // One that fails at start ends the container, and start says why.
        desk.configure(|config| config["hooks"] = json!({"startContainer": [{"path": "/bin/false"}]}));
        desk.create();
        desk.fail(&["start", "one"], "startContainer");
        desk.wait_for("stopped");
        desk.succeed(&["delete", "one"]);
        fs::remove_dir_all(&folder).unwrap();
    });
}

/// The terminal that comes out of a console socket.
fn receive(socket: &UnixListener) -> Fd {
    let (connection, _) = socket.accept().expect("somebody connects");
    receive_fd(&Fd::new(connection.into(), "connection"), "master").expect("it comes")
}

/// Reads until this has come; a terminal whose other end is gone says EIO.
fn read_until(terminal: &Fd, what: &str) -> String {
    let (mut text, mut buffer) = (String::new(), [0; 256]);
    while !text.contains(what) {
        match read(terminal, &mut buffer) {
            Ok(count) if count > 0 => text += &String::from_utf8_lossy(&buffer[..count]),
            _ => panic!("it has ended without {what:?}: {text:?}"),
        }
    }
    text
}

#[test]
fn a_terminal_by_its_socket() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "console");
        let path = lab.folder.join("console");
        let socket = UnixListener::bind(&path).unwrap();
        let place = path.display().to_string();
        desk.configure(|config| {
            config["process"]["terminal"] = json!(true);
            config["process"]["consoleSize"] = json!({"height": 40, "width": 100});
            config["process"]["args"] =
                json!(["sh", "-c", "tty; stty size; ls -l /dev/console; read line; echo got $line"]);
        });
        desk.succeed(&["create", "--bundle", "target/bundle", "--console-socket", &place, "one"]);
        let master = receive(&socket);
        desk.succeed(&["start", "one"]);
        let said = read_until(&master, "/dev/console\r\n");
        for part in ["/dev/pts/0", "40 100", "136,"] {
            assert!(said.contains(part), "{part}: {said:?}");
        }
        assert_eq!(write(&master, b"letter\n"), Ok(7));
        read_until(&master, "got letter");
        desk.wait_for("stopped");
        desk.succeed(&["delete", "one"]);
        // A visitor's.
        desk.configure(|config| config["process"]["terminal"] = json!(false));
        desk.start("sleep 60");
        let (number, script) = (lab.folder.join("pid").display().to_string(), "tty; read line");
        let options = ["--tty", "--detach", "--console-socket", &place, "--pid-file", &number];
        desk.succeed(&[&["exec"], &options[..], &["one", "sh", "-c", script]].concat());
        let master = receive(&socket);
        read_until(&master, "/dev/pts/");
        reap(fs::read_to_string(&number).unwrap().parse().unwrap());
        fs::remove_file(number).unwrap();
        desk.succeed(&["delete", "--force", "one"]);
        // Who asks for one must say where it goes, and the reverse.
        desk.fail(&["exec", "--tty", "--detach", "one", "true"], "container does not exist");
        desk.fail(&["create", "--bundle", "target/bundle", "--console-socket", &place, "one"], "has no terminal");
        fs::remove_file(path).unwrap();
    });
}

/// At a terminal of our own (man 1 script).
#[test]
fn a_terminal_in_the_foreground() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "foreground");
        desk.configure(|config| {
            config["process"]["terminal"] = json!(true);
            config["process"]["args"] = json!(["sh", "-c", "tty; stty size; read line; echo got $line; exit 3"]);
        });
        let root = desk.root.display();
        let line = format!(
            "stty rows 40 cols 100; {} --root {root} run --bundle {} one",
            binary(STEP).display(),
            desk.bundle.display()
        );
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script is there");
        let mut input = child.stdin.take().unwrap();
        input.write_all(b"letter\n").unwrap();
        let mut text = String::new();
        child.stdout.as_mut().unwrap().read_to_string(&mut text).unwrap();
        drop(input);
        assert_eq!(code(child.wait().unwrap()), 3, "{text}");
        for part in ["/dev/pts/0", "40 100", "got letter"] {
            assert!(text.contains(part), "{part}: {text:?}");
        }
    });
}

#[test]
fn pid_file_and_descriptors() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "pid-file");
        let file = lab.folder.join("pid");
        let place = file.display().to_string();
        desk.succeed(&["create", "--bundle", "target/bundle", "--pid-file", &place, "one"]);
        let pid = fs::read_to_string(&file).unwrap();
        assert_eq!(desk.state()["pid"].to_string(), pid);
        // It waits as a copy that nobody can change, and has nothing of ours open but what it needs.
        let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap();
        assert!(exe.starts_with("/memfd:cellblock (deleted)"), "{}", exe.display());
        desk.succeed(&["delete", "--force", "one"]);
        fs::remove_file(&file).unwrap();
        // Handed on when asked for, and only then.
        fs::write(&file, "letter\n").unwrap();
        desk.set_command("cat <&3");
        let run = |options: &str| {
            let script = format!("exec 3<{place}; exec \"$0\" --root \"$1\" run {options} --bundle \"$2\" one");
            let mut command = Command::new("sh");
            command.args(["-c", &script]).arg(binary(STEP)).arg(&desk.root).arg(&desk.bundle);
            lab.output(String::new(), command)
        };
        assert_eq!(run("--preserve-fds 1").text, "letter\n");
        assert_ne!(run("").code, 0);
        fs::remove_file(&file).unwrap();
    });
}

/// 32 launches want the same name at the same time: one gets it, the others say that it is taken.
#[test]
fn one_of_many_wins() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "many");
        let file = lab.folder.join("said");
        let said = fs::File::options().create(true).append(true).open(&file).unwrap();
        let create = || {
            let mut command = desk.command(&["create", "--bundle", "target/bundle", "one"]);
            command.stdout(Stdio::null()).stderr(said.try_clone().unwrap()).spawn().expect("it was built")
        };
        let all: Vec<_> = (0..32).map(|_| create()).collect();
        let ended = all.into_iter().filter_map(|mut child| child.wait().ok());
        assert_eq!(ended.filter(|status| status.success()).count(), 1);
        let said = fs::read_to_string(&file).unwrap();
        assert_eq!(said.matches("container with given ID already exists").count(), 31, "{said}");
        fs::remove_file(file).unwrap();
        assert_eq!(desk.state()["status"], "created");
        desk.succeed(&["delete", "--force", "one"]);
    });
}

/// A create that is killed leaves at most what delete --force finds, and never a process.
#[test]
fn killed_while_creating() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "killed");
        for moment in 0..40 {
            let mut create = Command::new(binary(STEP));
            create.arg("--root").arg(&desk.root).args(["create", "--bundle"]).arg(&desk.bundle).arg("one");
            let mut child =
                create.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it was built");
            std::thread::sleep(Duration::from_millis(moment * 2));
            child.kill().unwrap();
            child.wait().unwrap();
            desk.succeed(&["delete", "--force", "one"]);
            desk.nothing_is_left();
        }
    });
}
