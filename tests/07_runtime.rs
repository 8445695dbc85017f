//! Step 7, the prison: the verbs of the runtime, on a plain bundle and without any engine.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use classroom::desk::reap;
use classroom::lab::binary;
use classroom::{Desk, World, check, lab};
use serde_json::{Value, json};

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
    const OURS: [&str; 5] = ["our own file", "a channel", "all is made", "say start", "no other process may look"];
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
        fs::write(desk.bundle.join("config.json"), r#"{"ociVersion": "1.2.0""#).unwrap();
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
        command.args(["-c", script]).arg(binary("cellblock")).arg(&desk.root);
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

/// Numbers are used again: the one that is remembered may be a stranger's by now.
#[test]
fn another_process_with_its_number() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "number");
        desk.create();
        desk.succeed(&["start", "one"]);
        desk.kill();
        let file = desk.root.join("one/state.json");
        let mut record: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let mut stranger = Command::new("sleep").arg("100").spawn().unwrap();
        record["pid"] = json!(stranger.id());
        fs::write(&file, record.to_string()).unwrap();
        assert_eq!(desk.state()["status"], "stopped");
        desk.fail(&["kill", "one", "KILL"], "container not running");
        desk.fail(&["exec", "one", "true"], "container not running");
        desk.succeed(&["delete", "--force", "one"]);
        assert_eq!(stranger.try_wait().unwrap(), None, "nobody has touched it");
        stranger.kill().unwrap();
        stranger.wait().unwrap();
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
            let mut create = Command::new(binary("cellblock"));
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
