//! Step 7, the runtime among strangers: other users of the host, other containers' files, damaged records, hooks that misbehave.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;
use std::time::Instant;

use classroom::lab::binary;
use classroom::{Desk, World, lab};
use serde_json::json;

/// Every file and directory below a directory, with its mode.
fn modes(directory: &std::path::Path) -> Vec<(String, u32)> {
    let mut all = vec![(directory.display().to_string(), fs::symlink_metadata(directory).unwrap().mode() & 0o777)];
    if directory.is_dir() {
        all.extend(fs::read_dir(directory).unwrap().flatten().flat_map(|entry| modes(&entry.path())));
    }
    all
}

/// What the caller masks decides nothing: no other user reads a configuration, starts a container or adds a hook.
#[test]
fn modes_are_ours() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "modes");
        for mask in ["000", "022", "077"] {
            let mut create = Command::new("sh");
            create.args(["-c", &format!("umask {mask}; exec \"$@\" >/dev/null 2>&1"), "sh"]);
            create.arg(binary("cellblock")).arg("--root").arg(&desk.root);
            create.args(["create", "--bundle"]).arg(&desk.bundle).arg("one");
            assert_eq!(lab.output(String::new(), create).code, 0);
            for (file, mode) in modes(&desk.root) {
                assert_eq!(mode & 0o077, 0, "umask {mask}: {file} has mode {mode:o}");
            }
            let stranger = |script: &str| {
                let mut command = Command::new("setpriv");
                command.args(["--reuid", "12345", "--regid", "12345", "--clear-groups", "sh", "-c", script]);
                lab.output(String::new(), command).code
            };
            let root = desk.root.display();
            assert_ne!(stranger(&format!("cat {root}/one/config.json")), 0);
            assert_ne!(stranger(&format!("echo >> {root}/one/state.json")), 0);
            desk.succeed(&["start", "one"]);
            desk.succeed(&["delete", "--force", "one"]);
        }
    });
}

/// What others may write to is not trusted.
#[test]
fn a_root_that_others_may_write_to() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "open-root");
        desk.create();
        fs::set_permissions(&desk.root, fs::Permissions::from_mode(0o777)).unwrap();
        for words in [&["state", "one"][..], &["start", "one"], &["create", "--bundle", "target/bundle", "two"]] {
            desk.fail(words, "others may write to it");
        }
        fs::set_permissions(&desk.root, fs::Permissions::from_mode(0o700)).unwrap();
        fs::set_permissions(desk.root.join("one"), fs::Permissions::from_mode(0o722)).unwrap();
        desk.fail(&["start", "one"], "others may write to it");
        fs::set_permissions(desk.root.join("one"), fs::Permissions::from_mode(0o700)).unwrap();
        desk.succeed(&["delete", "--force", "one"]);
    });
}

/// `web.1` and `web.2` have no name in common on the way, and no link that waits there is followed.
#[test]
fn pid_files_of_neighbours() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "pid-files");
        let folder = lab.folder.join("pids");
        fs::create_dir(&folder).unwrap();
        fs::write(lab.folder.join("victim"), "untouched").unwrap();
        symlink(lab.folder.join("victim"), folder.join("web.new")).unwrap();
        desk.start("sleep 1000");
        let file = |number: usize| folder.join(format!("web.{number}"));
        for _ in 0..10 {
            let execs: Vec<_> = (1..=4)
                .map(|number| {
                    let place = file(number).display().to_string();
                    let words = ["exec", "--pid-file", &place, "one", "sh", "-c", "echo $$ >/dev/null; sleep 0.05"];
                    desk.command(&words).spawn().unwrap()
                })
                .collect();
            execs.into_iter().for_each(|mut exec| assert!(exec.wait().unwrap().success()));
            let pids: Vec<String> = (1..=4).map(|number| fs::read_to_string(file(number)).unwrap()).collect();
            let different: std::collections::BTreeSet<&String> = pids.iter().collect();
            assert_eq!(different.len(), 4, "{pids:?}");
        }
        assert_eq!(fs::read_to_string(lab.folder.join("victim")).unwrap(), "untouched");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 5, "four files, and the link");
        desk.kill();
        desk.succeed(&["delete", "one"]);
        fs::remove_dir_all(folder).unwrap();
        fs::remove_file(lab.folder.join("victim")).unwrap();
    });
}

/// "Cannot be read" is not "not there": `delete --force` ends what runs.
#[test]
fn damaged_records() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "damaged");
        for text in ["", "{", "[]", "{\"id\": 1}"] {
            desk.start("sleep 1000");
            let pid = desk.state()["pid"].to_string();
            fs::write(desk.root.join("one/state.json"), text).unwrap();
            desk.fail(&["state", "one"], "is damaged");
            assert!(desk.succeed(&["list"]).contains("is damaged"));
            desk.succeed(&["delete", "--force", "one"]);
            assert!(
                !std::path::Path::new(&format!("/proc/{pid}/root")).exists() || is_zombie(&pid),
                "{text:?}: it lives on"
            );
            assert!(!desk.root.join("one").exists());
        }
    });
}

fn is_zombie(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

/// A hook that says too much, that leaves a child which keeps its pipes, or that does not end, is no reason to wait.
#[test]
fn hooks_that_misbehave() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "bad-hooks");
        let run = |script: &str, timeout: i64| {
            desk.configure(|config| {
                config["process"]["args"] = json!(["true"]);
                let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script], "timeout": timeout, "env": ["PATH=/bin:/usr/bin"]});
                config["hooks"] = json!({ "prestart": [hook] });
                config["annotations"]["long"] = json!("x".repeat(100_000)); // more than a pipe holds
            });
            let begin = Instant::now();
            let output = desk.run(&["run", "--bundle", "target/bundle", "one"]);
            (output, begin.elapsed().as_secs())
        };
        let (output, _) = run("cat >/dev/null; head -c 200000 /dev/zero | tr '\\0' x >&2", 10);
        assert_eq!(output.code, 0, "{output}");
        let (output, seconds) = run("sleep 3 & exit 0", 10);
        assert!(output.code == 0 && seconds < 3, "{seconds} s: {output}");
        let (output, seconds) = run("sleep 3 & exit 3", 10);
        assert!(output.code == 125 && output.text.contains("exit status: 3") && seconds < 3, "{seconds} s: {output}");
        let (output, seconds) = run("sleep 20", 1);
        assert!(output.code == 125 && output.text.contains("longer than 1 s") && seconds < 8, "{seconds} s: {output}");
        std::thread::sleep(std::time::Duration::from_secs(2)); // until the hooks' own children have ended
    });
}

/// One reader for every file from outside, and `exec --process` is checked as config.json is.
#[test]
fn files_of_the_callers() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "files");
        let fifo = desk.bundle.join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        desk.start("sleep 1000");
        desk.fail(&["exec", "--process", &fifo.display().to_string(), "one"], "not a regular file");
        let file = desk.bundle.join("process.json");
        for (process, says) in [
            (json!({"cwd": "tmp", "args": ["true"]}), "process.cwd"),
            (json!({"cwd": "/", "args": []}), "process.args"),
            (json!({"cwd": "/", "args": ["true"], "env": ["=x"]}), "process.env[0]"),
            (
                json!({"cwd": "/", "args": ["true"], "terminal": true, "consoleSize": {"height": 70000, "width": 1}}),
                "process.consoleSize.height",
            ),
        ] {
            fs::write(&file, process.to_string()).unwrap();
            desk.fail(&["exec", "--process", &file.display().to_string(), "one"], says);
        }
        desk.kill();
        desk.succeed(&["delete", "one"]);
        fs::remove_file(desk.bundle.join("config.json")).unwrap();
        nix::unistd::mkfifo(&desk.bundle.join("config.json"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        desk.fail(&["create", "--bundle", "target/bundle", "two"], "not a regular file");
        let large = fs::File::create(&file).unwrap();
        large.set_len((16 << 20) + 1).unwrap();
        fs::rename(&file, desk.bundle.join("config.json")).unwrap();
        desk.fail(&["create", "--bundle", "target/bundle", "two"], "larger than 16 MiB");
    });
}

/// The end of the report is no proof that the command runs: a child that is killed before its exec leaves the same.
#[test]
fn killed_before_the_exec() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "killed");
        desk.configure(|config| {
            let kill = json!([{"names": ["execve", "execveat"], "action": "SCMP_ACT_KILL_PROCESS"}]);
            config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": kill});
            config["process"]["noNewPrivileges"] = json!(true);
        });
        for words in [&["run"][..], &["run", "--detach"]] {
            desk.fail(&[words, &["--bundle", "target/bundle", "one"]].concat(), "before its command began");
        }
        desk.nothing_is_left();
    });
}
