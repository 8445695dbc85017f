//! Step 7, identity: whether a name, a number or a lock still means what it meant. A command that stood still, a namespace from which
//! nothing is seen, another start of the machine, a launch that was killed early, the records of an older version.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use classroom::desk::{runtime, wait_until};
use classroom::groups::directories;
use classroom::lab::binary;
use classroom::run::code;
use classroom::{Desk, World, lab};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// The record of container `one`, changed.
fn change_record(desk: &Desk, change: impl FnOnce(&mut Value)) {
    let file = desk.root.join("one/state.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    change(&mut record);
    fs::write(file, record.to_string()).unwrap();
}

/// A `run` in the foreground stands still; its container is ended and deleted, and another one takes the name. Then it goes on.
#[test]
fn a_run_that_stood_still() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "still");
        let bundle = desk.bundle.display().to_string();
        let mut run = runtime(&desk.root, &["run", "--bundle", &bundle, "one"]).spawn().unwrap();
        wait_until("it runs", || desk.run(&["state", "one"]).text.contains("\"running\""));
        let first = desk.state()["pid"].clone();
        let run_pid = Pid::from_raw(run.id() as i32);
        kill(run_pid, Signal::SIGSTOP).unwrap();
        desk.kill();
        desk.succeed(&["delete", "one"]);
        desk.start("sleep 1000");
        let successor = desk.state()["pid"].clone();
        assert_ne!(first, successor);
        kill(run_pid, Signal::SIGCONT).unwrap();
        assert_eq!(code(run.wait().unwrap()), 137);
        assert_eq!((&desk.state()["status"], &desk.state()["pid"]), (&json!("running"), &successor));
        desk.succeed(&["delete", "--force", "one"]);
    });
}

/// A command that waits for the lock of a name gets it when the name is another one's; and it does not wait for ever.
#[test]
fn a_lock_and_a_successor() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "lock");
        for verb in [&["delete", "one"][..], &["start", "one"], &["delete", "--force", "one"]] {
            desk.create();
            let lock = fs::File::open(desk.root.join("one")).unwrap();
            lock.lock().unwrap();
            let mut waiting = runtime(&desk.root, verb).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(300));
            assert_eq!(waiting.try_wait().unwrap(), None, "{verb:?} waits");
            let pid = desk.state()["pid"].as_i64().unwrap() as i32;
            if pid > 0 {
                kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap(); // delete --force has done it already
            }
            desk.wait_for("stopped");
            fs::rename(desk.root.join("one"), lab.folder.join("away")).unwrap();
            desk.create();
            drop(lock);
            waiting.wait().unwrap();
            assert_eq!(desk.state()["status"], "created", "{verb:?} has come to its successor");
            desk.succeed(&["delete", "--force", "one"]);
            fs::remove_dir_all(lab.folder.join("away")).unwrap();
        }
        desk.create();
        let lock = fs::File::open(desk.root.join("one")).unwrap();
        lock.lock().unwrap();
        for words in
            [&["delete", "one"][..], &["start", "one"], &["pause", "one"], &["update", "--pids-limit", "9", "one"]]
        {
            desk.fail(words, "another command works on it");
        }
        drop(lock);
        desk.succeed(&["delete", "one"]);
    });
}

/// From another pid namespace, by another clock, without /proc: what cannot be seen is not stopped.
#[test]
fn unseen_is_not_stopped() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "unseen");
        desk.start("sleep 1000");
        let pid = desk.state()["pid"].clone();
        let ways = ["--pid --fork --mount-proc", "--pid --fork", "--time --boottime 100000 --fork", "--mount"];
        for way in ways {
            let hide = if way == "--mount" { "umount -l /proc;" } else { "" };
            let elsewhere = |words: &str| {
                let mut command = Command::new("sh");
                let script =
                    format!("exec unshare {way} sh -c '{hide} exec \"$0\" --root \"$1\" {words}' \"$0\" \"$1\"");
                command.args(["-c", &script]).arg(binary("cellblock")).arg(&desk.root);
                lab.output(format!("# {way}: cellblock {words}"), command)
            };
            let said = elsewhere("prune");
            assert!(!said.text.contains("removed"), "{said}");
            assert_eq!((&desk.state()["status"], &desk.state()["pid"]), (&json!("running"), &pid), "{said}");
            for words in ["delete one", "exec one true", "kill one KILL", "pause one", "update --pids-limit 5 one"] {
                assert_eq!(elsewhere(words).code, 125, "{way}: {words}");
            }
            assert!(elsewhere("list").text.contains("unknown"), "{way}");
            assert_eq!((&desk.state()["status"], &desk.state()["pid"]), (&json!("running"), &pid), "{way}");
        }
        desk.kill();
        // Its group is empty: so it has stopped, as is known even there.
        let mut prune = Command::new("unshare");
        prune
            .args(["--pid", "--fork", "--mount-proc"])
            .arg(binary("cellblock"))
            .arg("--root")
            .arg(&desk.root)
            .arg("prune");
        let said = lab.output(String::new(), prune);
        assert!(said.text.contains("removed the container one"), "{said}");
    });
}

/// Number and time of a process come again after the machine was started anew, if the root is on a disk.
#[test]
fn another_start_of_the_machine() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "boot");
        desk.start("sleep 1000");
        desk.kill();
        let mut stranger = Command::new("sleep").arg("1000").spawn().unwrap();
        let stat = fs::read_to_string(format!("/proc/{}/stat", stranger.id())).unwrap();
        let begun: u64 = stat.rsplit(") ").next().unwrap().split(' ').nth(19).unwrap().parse().unwrap();
        change_record(&desk, |record| {
            record["pid"] = json!(stranger.id());
            record["begun"] = json!(begun);
        });
        assert_eq!(desk.state()["status"], "running", "so it would be taken for the container's");
        change_record(&desk, |record| record["vantage"]["boot"] = json!("6c1f0000-0000-4000-8000-000000000000"));
        assert_eq!(desk.state()["status"], "stopped");
        desk.fail(&["kill", "one", "KILL"], "not running");
        desk.succeed(&["delete", "--force", "one"]);
        assert_eq!(stranger.try_wait().unwrap(), None, "a stranger was ended");
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    });
}

/// A launch that was killed before its child was born.
#[test]
fn launches_that_were_killed_early() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "early");
        let a_name = |half_a_mark: bool| {
            let place = desk.root.join("one");
            fs::remove_dir_all(&place).and_then(|()| fs::create_dir(&place)).unwrap();
            fs::set_permissions(&place, fs::Permissions::from_mode(0o1700)).unwrap();
            if half_a_mark {
                fs::write(place.join("..cellblock.0123abcd"), "0123").unwrap();
            }
            let groups = directories(&format!("{}/one", desk.parent));
            groups.into_iter().for_each(|group| fs::remove_dir(group).unwrap());
        };
        let ways: [(&str, &dyn Fn()); 6] = [
            ("no child", &|| change_record(&desk, |record| record["pid"] = Value::Null)),
            ("no group", &|| {
                change_record(&desk, |record| {
                    record["pid"] = Value::Null;
                    record["group"] = Value::Null;
                });
            }),
            ("no record", &|| fs::remove_file(desk.root.join("one/state.json")).unwrap()),
            ("half a record", &|| {
                let place = desk.root.join("one");
                fs::rename(place.join("state.json"), place.join(".state.json.0123abcd")).unwrap();
            }),
            ("a name", &|| a_name(false)),
            ("half a mark", &|| a_name(true)),
        ];
        for (way, damage) in ways {
            desk.start("sleep 1000");
            desk.kill();
            damage();
            assert_eq!(desk.succeed(&["prune"]), "removed the container one\n", "{way}");
            desk.nothing_is_left();
        }
    });
}

/// Standard input may take its time: no other command waits for it.
#[test]
fn an_update_that_is_still_being_typed() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "typed");
        desk.start("sleep 1000");
        let mut update =
            runtime(&desk.root, &["update", "--resources", "-", "one"]).stdin(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        let since = Instant::now();
        desk.succeed(&["pause", "one"]);
        desk.succeed(&["resume", "one"]);
        assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
        update.stdin.take().unwrap().write_all(b"{\"pids\": {\"limit\": 77}}").unwrap();
        assert!(update.wait().unwrap().success());
        let limits = directories(&format!("{}/one", desk.parent)).into_iter().map(|tree| tree.join("pids.max"));
        assert!(limits.into_iter().any(|file| fs::read_to_string(file).is_ok_and(|text| text == "77\n")));
        desk.succeed(&["delete", "--force", "one"]);
    });
}

/// As version 0.7.0 wrote it: no version, no token, no mark, no vantage point; its group a list of directories.
fn as_of_0_7_0(desk: &Desk) {
    change_record(desk, |record| {
        let group = |name: &str| record["group"][name].clone();
        for directory in group("legacy").as_array().unwrap().iter().chain([&group("unified")]) {
            directory.as_str().into_iter().for_each(|path| kernel::sys::group_owner::clear(Path::new(path)));
        }
        *record = json!({
            "id": "one",
            "oci_version": record["oci_version"],
            "bundle": record["bundle"],
            "rootfs": record["rootfs"],
            "pid": record["pid"],
            "begun": record["begun"],
            "created": record["created"],
            "annotations": {},
            "group_path": record["group_path"],
            "group": {"legacy": group("legacy"), "unified": group("unified"), "parents": group("parents")},
        });
    });
    fs::remove_file(desk.root.join("one/.cellblock")).unwrap();
}

/// Containers that version 0.7.0 has made can be listed, killed and deleted.
#[test]
fn records_of_an_older_version() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "older");
        for removal in [&["delete", "one"][..], &["prune"], &["delete", "--force", "one"]] {
            desk.start("sleep 1000");
            as_of_0_7_0(&desk);
            assert!(desk.succeed(&["list"]).contains("one "));
            assert_eq!(desk.state()["status"], "running");
            desk.succeed(&["exec", "one", "true"]);
            if !removal.contains(&"--force") {
                desk.kill();
            }
            desk.succeed(removal);
            desk.nothing_is_left();
        }
        desk.create();
        change_record(&desk, |record| record["version"] = json!(99));
        desk.fail(&["state", "one"], "a newer version of cellblock");
        desk.fail(&["prune"], "a newer version of cellblock");
        change_record(&desk, |record| record["version"] = json!(1));
        desk.succeed(&["delete", "one"]);
    });
}
