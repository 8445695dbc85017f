//! Step 7: the options of the verbs, as ordinary callers type them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use classroom::desk::runtime;
use classroom::lab::not_run;
use classroom::runtimes::installed;
use classroom::{Desk, Output, World, lab};
use serde_json::{Value, json};

/// Without a pid namespace of its own nothing ends with the first process: KILL is for all of the group, as runc has it.
#[test]
fn kill_where_the_pid_namespace_is_shared() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "kill-shared");
        desk.configure(|config| {
            config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "pid");
        });
        let processes =
            || -> Vec<i32> { serde_json::from_str(&desk.succeed(&["ps", "--format", "json", "one"])).unwrap() };
        let all_end = |pids: &[i32]| {
            let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
            while pids.iter().any(|pid| is_alive(*pid)) {
                assert!(std::time::Instant::now() < end, "some of {pids:?} live on");
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        };
        for verb in [&["kill", "one", "KILL"][..], &["delete", "--force", "one"]] {
            desk.start("sleep 1000 & setsid sleep 1000 & wait");
            while processes().len() < 3 {}
            let pids = processes();
            desk.succeed(&["kill", "one", "0"]);
            assert_eq!(processes(), pids, "0 is no signal");
            desk.succeed(verb);
            all_end(&pids);
            desk.succeed(&["delete", "--force", "one"]);
        }
        // Also when the first process has ended, and left others behind.
        desk.start("sleep 1000 & exec sleep 0.1");
        desk.wait_for("stopped");
        let pids = processes();
        assert_eq!(pids.len(), 1);
        desk.succeed(&["kill", "one", "KILL"]);
        all_end(&pids);
        desk.fail(&["kill", "one", "KILL"], "not running");
        desk.succeed(&["delete", "one"]);
    });
}

fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// How a visitor is scheduled: as the container's own process, unless its file says otherwise.
#[test]
fn exec_is_scheduled_as_the_container() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "exec-schedule");
        desk.configure(|config| {
            config["linux"]["personality"] = json!({"domain": "LINUX32"});
            config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 3});
            config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_IDLE"});
            config["process"]["oomScoreAdj"] = json!(77);
        });
        desk.start("sleep 1000");
        let script = "cat /proc/self/personality /proc/self/oom_score_adj; set -- $(cat /proc/self/stat); echo ${19} ${41}; \
            ionice -p $$";
        let expected = "00000008\n77\n3 3\nidle";
        let file = desk.bundle.join("process.json");
        let said = desk.succeed(&["exec", "one", "sh", "-c", script]);
        assert!(said.starts_with(expected), "{said}");
        fs::write(&file, json!({"cwd": "/", "env": ["PATH=/bin:/usr/bin"], "args": ["sh", "-c", script]}).to_string())
            .unwrap();
        let said = desk.succeed(&["exec", "--process", file.to_str().unwrap(), "one"]);
        assert!(said.starts_with(expected), "{said}");
        let other = json!({"cwd": "/", "env": ["PATH=/bin:/usr/bin"], "args": ["sh", "-c", script], "oomScoreAdj": 88,
            "scheduler": {"policy": "SCHED_OTHER", "nice": 4}});
        fs::write(&file, other.to_string()).unwrap();
        let said = desk.succeed(&["exec", "--process", file.to_str().unwrap(), "one"]);
        assert!(said.starts_with("00000008\n88\n4 0\nidle"), "{said}");
        desk.succeed(&["delete", "--force", "one"]);
    });
}

const ALLOWED: &str = "grep Cpus_allowed_list /proc/self/status";

/// Whatever CPU the caller is bound to: the container runs on all that its group may use.
#[test]
fn the_callers_cpus_are_not_inherited() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "affinity");
        let allowed = |text: &str| text.lines().find_map(|line| line.split_once("list:\t")).unwrap().1.to_owned();
        let all = allowed(&fs::read_to_string("/proc/self/status").unwrap().replace("allowed_list", "list"));
        if !all.contains(['-', ',']) {
            return not_run("the_callers_cpus_are_not_inherited", "this machine has one CPU");
        }
        let bound = |rest: &str| {
            let output = desk.bash(&format!("taskset -p -c 0 $$ >/dev/null; {rest}"));
            assert_eq!(output.code, 0, "{output}");
            output.text.lines().last().unwrap_or_default().rsplit('\t').next().unwrap().to_owned()
        };
        desk.set_command(ALLOWED);
        let run = "cellblock run --bundle \"$bundle\" one";
        assert_eq!(bound(run), all);
        desk.configure(|config| {
            config["process"]["execCPUAffinity"] = json!({"initial": "0", "final": "0"});
        });
        assert_eq!(bound(run), all, "that is for exec");
        desk.start("sleep 1000");
        let exec = format!("cellblock exec one {ALLOWED}");
        assert_eq!(bound(&exec), "0");
        let with = |affinity: Value| {
            let process = json!({"cwd": "/", "env": ["PATH=/bin:/usr/bin"], "args": ALLOWED.split(' ').collect::<Vec<_>>(), "execCPUAffinity": affinity});
            fs::write(lab.folder.join("process.json"), process.to_string()).unwrap();
            bound("cellblock exec --process \"$folder\"/process.json one")
        };
        assert_eq!(with(json!({"initial": "0"})), all, "the last word is the group's");
        assert_eq!(with(json!({"initial": "0", "final": "1"})), "1");
        assert_eq!(with(json!({"initial": "", "final": ""})), all);
        desk.succeed(&["delete", "--force", "one"]);
        desk.configure(|config| drop(config["process"].as_object_mut().unwrap().remove("execCPUAffinity")));
        desk.start("sleep 1000");
        assert_eq!(bound(&exec), all);
        desk.succeed(&["delete", "--force", "one"]);
        fs::remove_file(lab.folder.join("process.json")).unwrap();
    });
}

/// As Docker's: the container's own files say which groups a user has. A group that is named stands alone.
#[test]
fn exec_as_another_user() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "exec-user");
        let files: [(&str, &str); 2] = [
            ("passwd", "root:x:0:0::/root:/bin/sh\nana:x:1000:50::/:/bin/sh\n7:x:0:0::/:/bin/sh\n"),
            ("group", "root:x:0:\nstaff:x:50:\naudio:x:63:bob,ana\nlp:x:7:bob\n"),
        ];
        desk.configure(|config| {
            config["process"]["user"] = json!({"uid": 0, "gid": 0, "additionalGids": [5]});
            for (name, text) in files {
                fs::write(desk.bundle.join(name), text).unwrap();
                let mount = json!({"destination": format!("/etc/{name}"), "type": "bind",
                    "source": desk.bundle.join(name), "options": ["bind"]});
                config["mounts"].as_array_mut().unwrap().push(mount);
            }
        });
        desk.start("sleep 1000");
        let id = |user: &[&str]| {
            let script = "echo $(id -u) $(id -g) $(grep Groups /proc/self/status)";
            desk.succeed(&[&["exec"], user, &["one", "sh", "-c", script]].concat()).trim().to_owned()
        };
        assert_eq!(id(&[]), "0 0 Groups: 5");
        assert_eq!(id(&["--user", "1000"]), "1000 50 Groups: 63");
        assert_eq!(id(&["--user", "1000", "-g", "9"]), "1000 50 Groups: 9 63");
        assert_eq!(id(&["--user", "1000:7"]), "1000 7 Groups:");
        assert_eq!(id(&["--user", "1001"]), "1001 0 Groups:");
        assert_eq!(id(&["--user", "7"]), "7 0 Groups:", "a number is a number");
        desk.succeed(&["delete", "--force", "one"]);
    });
}

/// Sizes as people write them, and every limit of the CPU that a configuration has.
#[test]
fn update_by_options() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "update");
        desk.start("sleep 1000");
        let limit = || {
            let event: Value = serde_json::from_str(&desk.succeed(&["events", "--stats", "one"])).unwrap();
            event["data"]["memory"]["usage"]["limit"].clone()
        };
        for (text, bytes) in [("50M", 50 << 20), ("51200k", 50 << 20), ("67108864", 64 << 20)] {
            desk.succeed(&["update", "--memory", text, "one"]);
            assert_eq!(limit(), json!(bytes), "{text}");
        }
        desk.fail(&["update", "--memory", "50X", "one"], "not a size");
        desk.succeed(&["update", "--memory", "-1", "one"]);
        // Words that the kernel, or the check before it, answers: so each has arrived.
        desk.fail(&["update", "--cpu-idle", "2", "one"], "neither 0 nor 1");
        desk.fail(&["update", "--cpu-quota", "5000", "--cpu-burst", "5001", "one"], "more than the quota");
        for option in ["--cpu-rt-runtime", "--cpu-rt-period"] {
            desk.run(&["update", option, "1000", "one"]); // most kernels have no budget for real time
            desk.fail(&["update", option, "x", "one"], option);
        }
        desk.succeed(&["delete", "--force", "one"]);
    });
}

/// A start with the configuration that a learner begins with prints what its command prints, and nothing else.
#[test]
fn a_start_without_noise() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "noise");
        let run = "cellblock run --bundle \"$bundle\" one";
        desk.set_command("echo ran");
        assert_eq!(said(&desk.bash(run)), "ran\n");
        // Ambient without inheritable, as runc's own template has it: peers leave it out silently.
        let log = format!("cellblock --log \"$folder\"/log {}", run.trim_start_matches("cellblock "));
        desk.configure(|config| {
            config["process"]["capabilities"]["inheritable"] = json!([]);
            config["process"]["capabilities"]["ambient"] = json!(["CAP_KILL", "CAP_AUDIT_WRITE"]);
        });
        assert_eq!(said(&desk.bash(run)), "ran\n");
        assert_eq!(said(&desk.bash(&log)), "ran\n");
        let text = fs::read_to_string(lab.folder.join("log")).unwrap();
        let is_told = text.contains("level=warning") && text.contains("CAP_KILL, CAP_AUDIT_WRITE");
        assert!(text.lines().count() == 1 && is_told, "the specification wants a warning: {text}");
        // One that does not exist is one line, in however many sets it is.
        desk.configure(|config| {
            for set in ["bounding", "effective", "permitted"] {
                let names = config["process"]["capabilities"][set].as_array_mut().unwrap();
                names.extend([json!("CAP_NO_SUCH"), json!("CAP_NOR_THIS")]);
            }
        });
        let text = said(&desk.bash(run));
        let is_told =
            text.contains("\"CAP_NO_SUCH\" (bounding, permitted, effective)") && text.contains("CAP_NOR_THIS");
        assert!(text.lines().count() == 2 && is_told, "{text}");
        fs::remove_file(lab.folder.join("log")).unwrap();
    });
}

/// The same with the template of runc itself.
#[test]
fn a_start_of_runcs_template_without_noise() {
    lab!(World::Root, |lab| {
        let Some(runc) = installed("runc") else {
            return not_run("a_start_of_runcs_template_without_noise", "runc is not installed");
        };
        let desk = Desk::new(lab, "noise-runc");
        let group = format!("{}/one", desk.parent);
        fs::remove_file(desk.bundle.join("config.json")).unwrap();
        assert!(Command::new(runc).args(["spec", "--bundle"]).arg(&desk.bundle).status().unwrap().success());
        desk.configure(|config| {
            config["process"]["terminal"] = json!(false);
            config["linux"]["cgroupsPath"] = json!(group);
        });
        desk.set_command("echo ran");
        assert_eq!(said(&desk.bash("cellblock run --bundle \"$bundle\" one")), "ran\n");
    });
}

/// What a script has printed, without the script.
fn said(output: &Output) -> String {
    assert_eq!(output.code, 0, "{output}");
    output.text.clone()
}

/// `events` as it goes on, and what it prints.
fn follow(desk: &Desk, interval: &str) -> (Child, BufReader<ChildStdout>) {
    let mut command = runtime(&desk.root, &["events", "--interval", interval, "one"]); // as long as it takes
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    (child, lines)
}

/// The next event of that type; the others between are left out.
fn next_event(lines: &mut impl BufRead, kind: &str) -> Value {
    loop {
        let mut line = String::new();
        assert!(lines.read_line(&mut line).unwrap() > 0, "there is no event {kind}");
        let event: Value = serde_json::from_str(&line).unwrap();
        if event["type"] == kind {
            return event;
        }
    }
}

/// Go's durations, as callers of runc write them.
#[test]
fn events_in_an_interval() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "interval");
        desk.start("sleep 1000");
        for interval in ["100ms", "0.1s", "0m0.1s"] {
            let (mut events, mut lines) = follow(&desk, interval);
            next_event(&mut lines, "stats"); // from here on it has begun
            let begin = std::time::Instant::now();
            (0..3).for_each(|_| drop(next_event(&mut lines, "stats")));
            assert!(begin.elapsed().as_secs() < 10, "{interval}: {:?}", begin.elapsed());
            events.kill().and_then(|()| events.wait()).unwrap();
        }
        for wrong in ["0", "-1s", "x", "5 s"] {
            desk.fail(&["events", &format!("--interval={wrong}"), "one"], "not a duration");
        }
        let (mut events, mut lines) = follow(&desk, "3600");
        assert_eq!(next_event(&mut lines, "stats")["id"], "one");
        desk.succeed(&["delete", "--force", "one"]);
        assert!(events.wait().unwrap().success(), "it ends with the container");
    });
}

/// A container that runs into its memory limit: told at once, also if that is its end.
#[test]
fn events_tell_of_memory_that_runs_out() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "oom");
        desk.configure(|config| config["linux"]["resources"]["memory"] = json!({"limit": 16 << 20, "swap": 16 << 20}));
        let hog = "echo 1000 >/proc/self/oom_score_adj; exec dd if=/dev/zero of=/dev/null bs=64M count=1";
        // It waits without a new process: the kernel could kill the first one for what another needs meanwhile.
        desk.start(&format!("mkfifo /dev/shm/go; read -r word </dev/shm/go; {hog}"));
        let (mut events, mut lines) = follow(&desk, "1h");
        next_event(&mut lines, "stats");
        for _ in 0..2 {
            assert_ne!(desk.run(&["exec", "one", "sh", "-c", hog]).code, 0);
            assert_eq!(next_event(&mut lines, "oom"), json!({"type": "oom", "id": "one"}));
        }
        desk.succeed(&["exec", "one", "sh", "-c", "echo go >/dev/shm/go"]);
        next_event(&mut lines, "oom");
        assert!(events.wait().unwrap().success(), "it ends with the container");
        desk.wait_for("stopped");
        desk.succeed(&["delete", "one"]);
    });
}

/// As crun has it: all containers whose names fit.
#[test]
fn delete_by_pattern() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "pattern");
        let names = || desk.succeed(&["list", "--quiet"]).split_whitespace().collect::<Vec<_>>().join(" ");
        let create = |id: &str| {
            desk.configure(|config| config["linux"]["cgroupsPath"] = json!(format!("{}/{id}", desk.parent)));
            desk.succeed(&["create", "--bundle", "target/bundle", id]);
        };
        ["web-1", "web-2", "my-web-3", "base"].into_iter().for_each(create);
        for wrong in ["web-(", "web-[", "*["] {
            let output = desk.run(&["delete", "--force", "--regex", wrong]);
            let line = output.text.lines().next().unwrap_or_default();
            assert!(output.code == 125 && line.contains("not a regular expression"), "{output}");
        }
        assert_eq!(names(), "base my-web-3 web-1 web-2", "nothing was removed");
        desk.succeed(&["delete", "--regex", "^nothing"]);
        desk.succeed(&["delete", "-r", "^web-[0-9]+$"]);
        assert_eq!(names(), "base my-web-3");
        ["web-1", "web-2"].into_iter().for_each(create);
        desk.succeed(&["start", "web-1"]);
        desk.fail(&["delete", "--regex", "web"], "web-1 that is not stopped");
        assert_eq!(names(), "base web-1", "the others have gone all the same");
        desk.succeed(&["delete", "--force", "--regex", "^(base|web-1)$"]);
        assert_eq!(names(), "");
    });
}
