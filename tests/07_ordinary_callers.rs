//! Step 7, ordinary callers: what users of other runtimes take for granted, in the earlier steps as well where these can do it.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};

use classroom::groups::directories;
use classroom::lab::{Lab, binary};
use classroom::{Desk, Output, World, lab};
use nix::sys::stat::fstat;
use serde_json::json;

const RUN: [&str; 4] = ["run", "--bundle", "target/bundle", "one"];
/// What a user says by the names of the standard descriptors, which are opened again for it.
const SAY: &str = "echo out >>/dev/stdout; echo err >>/dev/stderr";
const SAID: &str = "out\nerr\n";

/// Runs a verb with pipes as standard output and error.
fn on_pipes(desk: &Desk, words: &[&str]) -> String {
    desk.lab.output(String::new(), desk.command(words)).text
}

fn set_user(desk: &Desk, uid: u32) {
    desk.configure(|config| config["process"]["user"] = json!({"uid": uid, "gid": uid}));
}

/// By a pipe and by a file, in `run` and in `exec`: /dev/stdout can be opened again by a user who is not root.
#[test]
fn standard_descriptors_are_the_users() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "standard");
        set_user(&desk, 1000);
        desk.set_command(SAY);
        assert_eq!(on_pipes(&desk, &RUN), SAID);
        let file = lab.folder.join("said");
        let output = fs::File::options().append(true).create(true).open(&file).unwrap();
        let mut run = desk.command(&RUN);
        run.stdout(output.try_clone().unwrap()).stderr(output);
        assert!(run.status().unwrap().success());
        assert_eq!((fs::read_to_string(&file).unwrap().as_str(), file.metadata().unwrap().uid()), (SAID, 1000));
        fs::remove_file(&file).unwrap();
        set_user(&desk, 0);
        desk.start("sleep 60");
        assert_eq!(on_pipes(&desk, &["exec", "--user", "1000", "one", "sh", "-c", SAY]), SAID);
        desk.succeed(&["delete", "--force", "one"]);
    });
}

/// Root of a user namespace is another user than the pipe's maker, too.
#[test]
fn standard_descriptors_in_a_user_namespace() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "standard-users");
        desk.map_users(100_000, 65536);
        for uid in [0, 1000] {
            set_user(&desk, uid);
            desk.set_command(SAY);
            assert_eq!(on_pipes(&desk, &RUN), SAID, "{uid}");
            desk.start("sleep 60");
            assert_eq!(on_pipes(&desk, &["exec", "one", "sh", "-c", SAY]), SAID, "exec as {uid}");
            desk.succeed(&["delete", "--force", "one"]);
        }
    });
}

#[test]
fn standard_descriptors_in_step_6() {
    lab!(World::Root, |lab| {
        for options in [&["--user", "1000"][..], &["--user", "1000", "--userns", "host"], &["--user", "0"]] {
            let output = lab.run("privileges", &[&["--net", "none"], options, &["sh", "-c", SAY]].concat());
            assert_eq!(output.text, SAID, "{options:?}");
        }
    });
}

/// A terminal that was made for the container is its user's; one of the caller's stays the caller's.
#[test]
fn terminals_are_given_to_their_users() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "standard-terminal");
        set_user(&desk, 1000);
        desk.set_command("echo out >/dev/stdout; : <$(tty) && echo mine");
        desk.configure(|config| config["process"]["terminal"] = json!(true));
        assert_eq!(on_pipes(&desk, &RUN), "out\nmine\n");
        desk.configure(|config| config["process"]["terminal"] = json!(false));
        let mut six = lab.launcher("privileges", &["--net", "none", "--user", "1000", "--userns", "host", "true"]);
        let mut seven = desk.command(&RUN);
        for command in [&mut six, &mut seven] {
            let terminal = nix::pty::openpty(None, None).unwrap();
            let owner = || fstat(terminal.slave.as_fd()).unwrap().st_uid;
            let before = owner();
            for set in [Command::stdin::<Stdio>, Command::stdout, Command::stderr] {
                set(command, terminal.slave.try_clone().unwrap().into());
            }
            let _ = command.status().unwrap();
            assert_eq!(owner(), before, "{command:?}");
        }
    });
}

/// /dev/null, which every process of the host uses, is never given away.
#[test]
fn the_hosts_null_device_stays_root() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "standard-null");
        set_user(&desk, 1000);
        desk.set_command("true");
        let to_null = |command: &Command| {
            let mut shell = Command::new("sh");
            shell.args(["-c", "\"$@\" </dev/null >/dev/null 2>/dev/null", "sh"]);
            shell.arg(command.get_program()).args(command.get_args());
            lab.output(String::new(), lab.on_own_dev(&shell))
        };
        let stays = |output: Output| {
            assert!(output.code == 0 && output.text.contains("outside: null 666 0:0\n"), "{output}");
        };
        stays(to_null(&desk.command(&RUN)));
        for options in [&["--userns", "host"][..], &[]] {
            let words = [&["--net", "none", "--user", "1000"], options, &["true"]].concat();
            stays(to_null(&lab.launcher("privileges", &words)));
        }
        set_user(&desk, 0);
        desk.start("sleep 60");
        stays(to_null(&desk.command(&["exec", "--user", "1000", "one", "true"])));
        desk.succeed(&["delete", "--force", "one"]);
    });
}

/// From version 1.3 of the specification on, 0 is a limit; before that it was "not set". -1 is no limit.
#[test]
fn a_limit_of_no_processes() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "no-processes");
        let group = format!("{}/one", desk.parent);
        let read = || {
            let files = directories(&group).into_iter().map(|directory| directory.join("pids.max"));
            files.filter_map(|file| fs::read_to_string(file).ok()).next().expect("it has a limit").trim().to_owned()
        };
        for (version, limit, expected) in
            [("1.3.0", 0, "0"), ("1.3.0", -1, "max"), ("1.2.0", 0, "max"), ("1.3.0", 7, "7")]
        {
            desk.configure(|config| {
                config["ociVersion"] = json!(version);
                config["linux"]["resources"]["pids"] = json!({"limit": limit});
            });
            desk.create();
            desk.succeed(&["start", "one"]);
            assert_eq!(read(), expected, "{version}: {limit}");
            desk.succeed(&["update", "--pids-limit", "0", "one"]);
            assert_eq!(read(), expected, "0 in an update is a number that was not given");
            desk.succeed(&["delete", "--force", "one"]);
        }
    });
}

/// Puts a program into a directory of the root filesystem.
fn put_program(lab: &Lab, directory: &str, name: &str) {
    let directory = lab.rootfs.join(directory);
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join(name), format!("#!/bin/sh\necho of {}\n", directory.file_name().unwrap().display()))
        .unwrap();
    fs::set_permissions(directory.join(name), PermissionsExt::from_mode(0o755)).unwrap();
}

/// A relative entry of PATH begins at the working directory, in every launcher and in `exec`.
#[test]
fn a_path_from_here() {
    lab!(World::Root, |lab| {
        put_program(lab, "app/tools", "mytool");
        let desk = Desk::new(lab, "path");
        desk.configure(|config| {
            config["process"]["env"] = json!(["PATH=tools:/bin"]);
            config["process"]["cwd"] = json!("/app");
            config["process"]["args"] = json!(["mytool"]);
        });
        assert_eq!(desk.succeed(&RUN), "of tools\n");
        desk.start("sleep 60");
        assert_eq!(desk.succeed(&["exec", "one", "mytool"]), "of tools\n");
        desk.succeed(&["delete", "--force", "one"]);
        let options = ["--workdir", "/app", "--env", "PATH=tools:/bin"];
        for (launcher, more) in [("chroot", &[][..]), ("pivot-root", &[]), ("privileges", &["--net", "none"])] {
            let output = lab.run(launcher, &[more, &options, &["mytool"]].concat());
            assert_eq!(output.text, "of tools\n", "{launcher}");
        }
        let rootfs = lab.rootfs.display().to_string();
        let run = [&["run", "--rootfs", &rootfs, "--net", "none"], &options[..], &["mytool"]].concat();
        assert_eq!(desk.succeed(&run), "of tools\n");
        fs::remove_dir_all(lab.rootfs.join("app")).unwrap();
    });
}

/// Of a variable that is given twice the last one counts, and the program is looked for by the last PATH.
#[test]
fn the_last_of_a_variable() {
    lab!(World::Root, |lab| {
        for directory in ["opt/first", "opt/last"] {
            put_program(lab, directory, "mytool");
        }
        let desk = Desk::new(lab, "variables");
        let variables = ["PATH=/opt/first:/bin", "COLOR=red", "COLOR=green"];
        desk.configure(|config| config["process"]["env"] = json!(variables));
        desk.set_command("env | grep ^COLOR; mytool");
        assert_eq!(desk.succeed(&RUN), "COLOR=green\nof first\n");
        desk.start("sleep 60");
        let exec = |words: &[&str]| desk.succeed(&[&["exec", "--env", "COLOR=blue"], words].concat());
        assert_eq!(exec(&["one", "sh", "-c", "env | grep ^COLOR"]), "COLOR=blue\n");
        assert_eq!(exec(&["--env", "PATH=/opt/last:/bin", "one", "mytool"]), "of last\n");
        desk.succeed(&["delete", "--force", "one"]);
        fs::remove_dir_all(lab.rootfs.join("opt/first")).unwrap();
        fs::remove_dir_all(lab.rootfs.join("opt/last")).unwrap();
    });
}

/// CPUs have numbers: a launcher that may itself run on the last one only may give that one to its cell (man 1 taskset).
#[test]
fn cpus_by_number() {
    lab!(World::Root, |lab| {
        let own = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).unwrap();
        let last = (0..nix::sched::CpuSet::count()).rev().find(|cpu| own.is_set(*cpu) == Ok(true)).unwrap();
        if last == 0 {
            return classroom::lab::not_run("cpus_by_number", "this machine has one CPU");
        }
        let number = last.to_string();
        let state = lab.folder.join("state");
        let rootfs = lab.rootfs.display().to_string();
        let run = ["--root", &state.display().to_string(), "run", "--rootfs", &rootfs].map(str::to_owned);
        for (launcher, before) in [("cgroups", &[][..]), ("privileges", &[]), ("cellblock", &run)] {
            let mut command = Command::new("taskset");
            command.args(["-c", &number]).arg(binary(launcher)).args(before);
            command.args(["--net", "none", "--cpuset-cpus", &number, "grep", "Cpus_allowed_list", "/proc/self/status"]);
            command.env("CELLBLOCK_ROOTFS", &lab.rootfs).stdin(Stdio::null());
            let output = lab.output(String::new(), command);
            assert_eq!(output.text, format!("Cpus_allowed_list:\t{number}\n"), "{launcher}");
        }
        fs::remove_dir(state).unwrap();
    });
}

/// The remedy that a failure names is one for its reason.
#[test]
fn hints_that_fit() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "hints");
        let files = |hard: u64| {
            desk.configure(|config| {
                config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 64, "hard": hard}]);
            });
        };
        files(2_000_000_000);
        desk.fail(&RUN, "fs.nr_open, which is ");
        files(2048);
        let runtime = desk.command(&RUN);
        let shell = |script: &str, command: &Command| {
            let mut shell = Command::new("sh");
            shell.args(["-c", script, "sh"]).arg(command.get_program()).args(command.get_args());
            shell.env("ROOTFS", &lab.rootfs).env("CELLBLOCK_ROOTFS", &lab.rootfs).stdin(Stdio::null());
            lab.output(String::new(), shell).text
        };
        let text = shell("ulimit -n 1024; exec setpriv --bounding-set=-sys_resource \"$@\"", &runtime);
        assert!(text.contains("it takes CAP_SYS_RESOURCE"), "{text}");
        let noexec = "mount --bind \"$ROOTFS\" \"$ROOTFS\" && mount -o remount,bind,noexec \"$ROOTFS\" && \"$@\"; \
                      umount \"$ROOTFS\"";
        files(1024);
        for launcher in ["pivot-root", "privileges"] {
            let text = shell(noexec, &lab.launcher(launcher, &["true"]));
            assert!(text.contains("noexec") && !text.contains("chmod"), "{launcher}: {text}");
        }
        let text = shell(noexec, &runtime);
        assert!(text.contains("noexec") && !text.contains("chmod"), "{text}");
        let mut rootless = Command::new("setpriv");
        rootless.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(binary("cellblock"));
        rootless.args(["run", "--rootfs"]).arg(&lab.rootfs).arg("true").env_remove("XDG_RUNTIME_DIR");
        let text = lab.output(String::new(), rootless).text;
        assert!(text.contains("hint: ") && text.contains("XDG_RUNTIME_DIR"), "{text}");
    });
}

/// `kill` takes each name that `kill -l` of a shell prints, and the signal is the one of that number.
#[test]
fn signals_by_name() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "signals");
        desk.start("exec sleep 60"); // the kernel spares the first process what it does not handle
        let shell = "for number in $(seq 64); do kill -l $number; done 2>/dev/null";
        let names = Command::new("bash").args(["-c", shell]).output().expect("bash is there").stdout;
        let names = String::from_utf8(names).unwrap();
        let names: Vec<&str> = names.lines().filter(|name| !["KILL", "STOP"].contains(name)).collect();
        assert!(names.len() > 50, "{names:?}");
        for name in names.iter().chain(&["SIGRTMIN+3", "POLL", "CLD", "SIGIOT"]) {
            desk.succeed(&["kill", "one", name]);
        }
        desk.succeed(&["delete", "--force", "one"]);
        desk.start("trap 'echo heard >/dev/heard' 37; echo >/dev/ready; while :; do sleep 0.05; done");
        desk.succeed(&["exec", "one", "sh", "-c", "until test -e /dev/ready; do sleep 0.05; done"]);
        desk.succeed(&["kill", "one", "RTMIN+3"]);
        let heard = "until test -s /dev/heard; do sleep 0.05; done; cat /dev/heard; rm /dev/heard";
        let heard = || desk.succeed(&["exec", "one", "sh", "-c", heard]);
        assert_eq!(heard(), "heard\n");
        desk.succeed(&["kill", "one", "RTMAX-27"]);
        assert_eq!(heard(), "heard\n");
        desk.succeed(&["delete", "--force", "one"]);
    });
}

/// Engines give their containers names of 64 digits: the columns stay below each other.
#[test]
fn columns_of_long_names() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "columns");
        let long = "0123456789abcdef".repeat(4);
        desk.configure(|config| drop(config["linux"].as_object_mut().unwrap().remove("cgroupsPath")));
        desk.succeed(&["create", "--bundle", "target/bundle", "one"]);
        let columns = |row: &str| row.find("PID").or_else(|| row.find(&desk.state()["pid"].to_string()));
        let one = desk.succeed(&["list"]);
        assert_eq!(one.lines().map(columns).collect::<Vec<_>>(), [Some(21); 2], "{one}");
        desk.succeed(&["create", "--bundle", "target/bundle", &long]);
        let both = desk.succeed(&["list"]);
        for word in ["PID", "STATUS", "CREATED", "BUNDLE"] {
            let column = both.lines().next().unwrap().find(word).unwrap();
            for row in both.lines() {
                assert!(&row[column - 1..column] == " " && &row[column..=column] != " ", "{word}: {both}");
            }
        }
        for id in ["one", &long] {
            desk.succeed(&["delete", "--force", id]);
        }
    });
}

/// By the configuration and by `update`, though the groups above are new and have none to give.
#[test]
fn real_time_budgets() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "real-time");
        desk.create();
        let budget = || {
            let files = desk.groups().into_iter().map(|group| group.join("cpu.rt_runtime_us"));
            files.filter_map(|file| fs::read_to_string(file).ok()).collect::<String>()
        };
        let update = ["update", "--cpu-rt-runtime", "3000", "one"];
        if budget().is_empty() {
            desk.fail(&update, "only cgroup v1 has it");
            desk.succeed(&["delete", "--force", "one"]);
            return;
        }
        desk.succeed(&update);
        assert_eq!(budget(), "3000\n");
        desk.succeed(&["delete", "--force", "one"]);
        desk.configure(|config| config["linux"]["resources"]["cpu"] = json!({"realtimeRuntime": 4000}));
        desk.create();
        assert_eq!(budget(), "4000\n");
        desk.succeed(&["delete", "--force", "one"]);
    });
}

/// `exec --cgroup`: one path for all trees, or one for each of v1's controllers, never out of the container's group.
#[test]
fn exec_in_a_group_inside() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "inside");
        desk.start("sleep 60");
        for group in desk.groups() {
            fs::create_dir(group.join("inner")).unwrap();
            for file in ["cpuset.cpus", "cpuset.mems"].iter().filter(|file| group.join(file).exists()) {
                fs::copy(group.join(file), group.join("inner").join(file)).unwrap_or_default();
            }
        }
        let groups = |options: &[&str]| {
            let text = desk.succeed(&[&["exec"], options, &["one", "cat", "/proc/self/cgroup"]].concat());
            let lines = text.lines().map(|line| line.splitn(3, ':').skip(1).map(str::to_owned).collect::<Vec<_>>());
            lines.map(|parts| (parts[0].clone(), parts[1].clone())).collect::<std::collections::BTreeMap<_, _>>()
        };
        assert_eq!(groups(&["--cgroup", "inner"])[""], "/inner");
        assert_eq!(groups(&["--cgroup", "/inner/"])[""], "/inner");
        assert_eq!(groups(&["--cgroup", "/"])[""], "/");
        let fail = |options: &[&str], says: &str| desk.fail(&[&["exec"], options, &["one", "true"]].concat(), says);
        for path in ["../inner", "inner/../..", "", "pids:../inner", "pids:inner/../../..", "pids:", "pids:nosuch"] {
            fail(&["--cgroup", path], "--cgroup");
        }
        fail(&["--cgroup", "nosuch:inner"], "no tree of cgroup v1 with the controller \"nosuch\"");
        if classroom::groups::world() == "v2" {
            fail(&["--cgroup", "pids:inner"], "cgroup v2 has one tree");
        } else {
            let some = groups(&["--cgroup", "pids:inner", "--cgroup", "memory,cpu:/inner"]);
            let is_inside = |controller: &str| some[controller] == "/inner";
            assert_eq!(
                ["pids", "memory", "cpu", "blkio", ""].map(is_inside),
                [true, true, true, false, false],
                "{some:?}"
            );
            fail(&["--cgroup", "pids:inner", "--cgroup", "cpu,pids:/"], "the controller pids is named twice");
            fail(&["--cgroup", "pids:inner", "--cgroup", "inner"], "CONTROLLER:PATH each time");
        }
        desk.succeed(&["delete", "--force", "one"]);
    });
}
