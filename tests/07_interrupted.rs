//! Step 7, the runtime interrupted: a child that is killed at a bad moment, a caller that wants to end, a lock that another
//! process keeps, records that are lost.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Instant;

use classroom::desk::wait_until;
use classroom::run::code;
use classroom::{Desk, World, lab};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

/// The runtime, left to itself; what it says goes to a file, for a container keeps its standard output.
fn begin(desk: &Desk, words: &[&str]) -> Child {
    let file = fs::File::create(desk.lab.folder.join("said")).unwrap();
    let mut command = desk.command(words);
    command.stdout(Stdio::null()).stderr(file).spawn().unwrap()
}

fn end_of(desk: &Desk, mut child: Child) -> (i32, String) {
    let code = code(child.wait().unwrap());
    let file = desk.lab.folder.join("said");
    let said = fs::read_to_string(&file).unwrap();
    fs::remove_file(file).unwrap();
    (code, said)
}

/// A hook that says that it is there and then stays.
fn slow_hook(mark: &Path) -> serde_json::Value {
    let script = format!("touch {}; exec sleep 20", mark.display());
    json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}])
}

/// A child that is killed before its exec closes the report as the exec does. It has not started.
#[test]
fn killed_before_its_exec() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "killed");
        let mark = lab.folder.join("mark");
        for (verb, init) in [("create", false), ("run", false), ("run", true)] {
            desk.configure(|config| {
                config["annotations"] = json!({"cellblock.init": init.to_string()});
                config["hooks"] = json!({"createContainer": slow_hook(&mark)});
            });
            let words = [verb, "--bundle", "target/bundle", "--detach", "one"];
            let words: Vec<&str> = words.into_iter().filter(|word| verb == "run" || *word != "--detach").collect();
            let running = begin(&desk, &words);
            wait_until("the hook runs", || mark.exists());
            fs::remove_file(&mark).unwrap();
            let record = fs::read(desk.root.join("one/state.json")).unwrap();
            let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
            kill(Pid::from_raw(record["pid"].as_i64().unwrap() as i32), Signal::SIGKILL).unwrap();
            let (code, said) = end_of(&desk, running);
            assert!(code == 125 && said.contains("killed"), "{verb}, init {init}: {code} {said}");
            desk.nothing_is_left();
        }
    });
}

/// `start` is told by the container's first process, which is not its child.
#[test]
fn killed_while_it_starts() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "starts");
        let folder = lab.folder.join("log");
        fs::create_dir(&folder).unwrap();
        for init in [false, true] {
            desk.configure(|config| {
                let mark = Path::new("/mnt/mark");
                config["annotations"] = json!({"cellblock.init": init.to_string()});
                config["hooks"] = json!({"startContainer": slow_hook(mark)});
                let mounts = config["mounts"].as_array_mut().unwrap();
                mounts.retain(|mount| mount["destination"] != "/mnt");
                mounts.push(json!({"destination": "/mnt", "type": "bind", "source": folder, "options": ["bind"]}));
            });
            desk.create();
            let pid = desk.state()["pid"].as_i64().unwrap() as i32;
            let starting = begin(&desk, &["start", "one"]);
            wait_until("the hook runs", || folder.join("mark").exists());
            fs::remove_file(folder.join("mark")).unwrap();
            kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
            let (code, said) = end_of(&desk, starting);
            assert!(code == 125 && said.contains("killed"), "init {init}: {code} {said}");
            desk.wait_for("stopped");
            desk.succeed(&["delete", "one"]);
        }
        fs::remove_dir_all(folder).unwrap();
    });
}

/// The processes of the container's group but its first.
fn others(desk: &Desk, first: i32) -> Vec<i32> {
    let said = desk.run(&["ps", "--format", "json", "one"]).text;
    let all: Vec<i32> = serde_json::from_str(said.trim()).unwrap_or_default();
    all.into_iter().filter(|pid| *pid != first).collect()
}

/// A command of `exec` that is killed before its exec: it is frozen as soon as it enters the paused container's group.
#[test]
fn exec_killed_before_its_exec() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "exec");
        for own_pids in [true, false] {
            desk.configure(|config| {
                let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
                namespaces.retain(|namespace| own_pids || namespace["type"] != "pid");
                if !own_pids {
                    config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/proc");
                    config["linux"]["maskedPaths"] = json!([]);
                    config["linux"]["readonlyPaths"] = json!([]);
                }
            });
            desk.start("exec sleep 1000");
            let first = desk.state()["pid"].as_i64().unwrap() as i32;
            desk.succeed(&["pause", "one"]);
            let running = begin(&desk, &["exec", "--detach", "--ignore-paused", "one", "true"]);
            wait_until("it is in the group", || !others(&desk, first).is_empty());
            others(&desk, first).into_iter().for_each(|pid| kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap());
            desk.succeed(&["resume", "one"]);
            let (code, said) = end_of(&desk, running);
            assert!(code == 125 && said.contains("killed"), "own pids {own_pids}: {code} {said}");
            desk.kill();
            desk.succeed(&["delete", "one"]);
        }
    });
}

/// A caller that asks a launch to end is heard while a hook, or the child, keeps it waiting. Nothing is left.
#[test]
fn a_launch_can_be_ended() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "ended");
        let mark = lab.folder.join("mark");
        for moment in ["createRuntime", "createContainer"] {
            desk.configure(|config| config["hooks"] = json!({moment: slow_hook(&mark)}));
            for verb in ["create", "run"] {
                let begun = begin_alone(&desk, &[verb, "--bundle", "target/bundle", "one"]);
                wait_until("the hook runs", || mark.exists());
                fs::remove_file(&mark).unwrap();
                let since = Instant::now();
                kill(Pid::from_raw(begun.id() as i32), Signal::SIGTERM).unwrap();
                let (code, said) = end_of(&desk, begun);
                assert!(code != 0 && said.contains("SIGTERM"), "{verb} in {moment}: {code} {said}");
                assert!(since.elapsed().as_secs() < 5, "{verb} in {moment}: {:?}", since.elapsed());
                desk.nothing_is_left();
            }
        }
    });
}

/// As `begin`, without `timeout` before it: a signal goes to the runtime itself.
fn begin_alone(desk: &Desk, words: &[&str]) -> Child {
    let file = fs::File::create(desk.lab.folder.join("said")).unwrap();
    let words = words.iter().map(|word| word.replace("target/bundle", &desk.bundle.display().to_string()));
    let mut command = std::process::Command::new(classroom::lab::binary("cellblock"));
    command.arg("--root").arg(&desk.root).args(words).stdin(Stdio::null()).env_remove("TERM");
    command.stdout(Stdio::null()).stderr(file).spawn().unwrap()
}

/// `delete --force` kills before it waits, and does not wait for ever for what keeps the lock.
#[test]
fn delete_force_comes_to_an_end() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "delete");
        desk.start("exec sleep 1000");
        let lock = fs::File::open(desk.root.join("one")).unwrap();
        lock.lock().unwrap();
        desk.fail(&["delete", "--force", "one"], "another command works on it");
        assert_eq!(desk.state()["status"], "stopped", "it is killed all the same");
        drop(lock);
        desk.succeed(&["delete", "--force", "one"]);
        // A create that a hook without a limit keeps busy: the child is killed, and so create gives the lock up.
        let mark = lab.folder.join("mark");
        desk.configure(|config| config["hooks"] = json!({"createContainer": slow_hook(&mark)}));
        let creating = begin(&desk, &["create", "--bundle", "target/bundle", "one"]);
        wait_until("the hook runs", || mark.exists());
        fs::remove_file(&mark).unwrap();
        let since = Instant::now();
        desk.succeed(&["delete", "--force", "one"]);
        assert!(since.elapsed().as_secs() < 8, "{:?}", since.elapsed());
        let (code, said) = end_of(&desk, creating);
        assert!(code == 125 && said.contains("killed"), "{code} {said}");
    });
}

/// What is lost of what is remembered: each way, nothing lives on, and nothing is hidden.
#[test]
fn lost_records() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "lost");
        let in_root = |file: &str| desk.root.join("one").join(file);
        let ways: [(&str, &dyn Fn()); 5] = [
            ("no record", &|| fs::remove_file(in_root("state.json")).unwrap()),
            ("a directory", &|| {
                fs::remove_file(in_root("state.json")).unwrap();
                fs::create_dir(in_root("state.json")).unwrap();
            }),
            ("another version, and no configuration", &|| {
                let text = fs::read_to_string(in_root("state.json")).unwrap();
                fs::write(in_root("state.json"), text.replace("\"created\"", "\"made\"")).unwrap();
                fs::remove_file(in_root("config.json")).unwrap();
            }),
            ("no configuration", &|| fs::remove_file(in_root("config.json")).unwrap()),
            ("a configuration that is empty", &|| fs::write(in_root("config.json"), "").unwrap()),
        ];
        for (way, damage) in ways {
            desk.start("exec sleep 1000");
            let pid = desk.state()["pid"].as_i64().unwrap();
            damage();
            if way.contains("record") || way.contains("version") || way.contains("directory") {
                desk.fail(&["state", "one"], "damaged");
                desk.fail(&["prune"], "damaged");
                assert!(desk.succeed(&["list"]).contains("damaged"), "{way}");
            }
            let kept = desk.run(&["delete", "one"]);
            assert!(kept.code == 125 && desk.root.join("one").exists(), "{way}: {kept}");
            desk.succeed(&["delete", "--force", "one"]);
            wait_until(way, || !Path::new(&format!("/proc/{pid}/exe")).exists());
            desk.nothing_is_left();
        }
        fs::set_permissions(&desk.root, fs::Permissions::from_mode(0o777)).unwrap();
        desk.fail(&["list"], "others may write to it");
        desk.fail(&["prune"], "others may write to it");
        fs::set_permissions(&desk.root, fs::Permissions::from_mode(0o700)).unwrap();
    });
}

/// A group that an administrator has made, with a limit, is used as it is, and stays: also one whose processes were all killed.
#[test]
fn a_group_that_was_there() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "there");
        let path = format!("{}/theirs", desk.parent);
        desk.configure(|config| config["linux"]["cgroupsPath"] = json!(path));
        let theirs = cellblock::groups::Cgroup::make(&path, &["pids"]).unwrap();
        let limit = theirs.directories.all().map(|tree| tree.join("pids.max"));
        let limit = limit.into_iter().find(|file| file.exists()).unwrap();
        fs::write(&limit, "77").unwrap();
        for _ in 0..2 {
            desk.start("exec sleep 1000");
            desk.succeed(&["exec", "one", "true"]);
            assert_eq!(desk.run(&["ps", "--format", "json", "one"]).text.matches(',').count(), 0, "it is in there");
            desk.succeed(&["delete", "--force", "one"]);
            assert_eq!(fs::read_to_string(&limit).unwrap(), "77\n");
        }
        theirs.remove().unwrap();
    });
}
