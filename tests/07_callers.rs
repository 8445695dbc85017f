//! Step 7, the runtime and its callers: terminals, descriptors and files that pass between them.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Command, Stdio};

use classroom::desk::reap;
use classroom::lab::binary;
use classroom::run::code;
use classroom::short::ShortPath;
use classroom::{Desk, Lab, World, lab};
use kernel::Fd;
use kernel::sys::socket::receive_fd;
use nix::unistd::{read, write};
use serde_json::json;

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
        let short = ShortPath::new(lab);
        let path = short.join("console");
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
            "stty rows 40 cols 100; '{}' --root '{root}' run --bundle '{}' one",
            binary("cellblock").display(),
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
        // It waits as a copy that cannot be changed, and has nothing of ours open but what it needs.
        let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap();
        assert!(exe.starts_with("/memfd:cellblock (deleted)"), "{}", exe.display());
        desk.succeed(&["delete", "--force", "one"]);
        fs::remove_file(&file).unwrap();
        // Handed on when asked for, and only then.
        fs::write(&file, "letter\n").unwrap();
        desk.set_command("cat <&3");
        let run = |options: &str| {
            let script = format!("exec 3<'{place}'; exec \"$0\" --root \"$1\" run {options} --bundle \"$2\" one");
            let mut command = Command::new("sh");
            command.args(["-c", &script]).arg(binary("cellblock")).arg(&desk.root).arg(&desk.bundle);
            lab.output(String::new(), command)
        };
        assert_eq!(run("--preserve-fds 1").text, "letter\n");
        assert_ne!(run("").code, 0);
        fs::remove_file(&file).unwrap();
    });
}

/// Sockets of a service manager go on, with their names, to the process whose number in the container is said; those of
/// --preserve-fds come after them. What is meant for another process, or closed, does not go on.
#[test]
fn sockets_of_a_service_manager() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "sockets");
        let (first, second) = (lab.folder.join("first"), lab.folder.join("second"));
        fs::write(&first, "letter\n").unwrap();
        fs::write(&second, "card\n").unwrap();
        let said = r#"echo "$LISTEN_FDS $LISTEN_FDNAMES $([ "$LISTEN_PID" = $$ ] && echo me)"; cat <&3; cat <&4"#;
        let call = |variables: &str, words: &[&str]| {
            let script = format!("exec 3<'{}' 4<'{}'; {variables} exec \"$@\"", first.display(), second.display());
            let mut command = Command::new("sh");
            let words = words.iter().map(|word| word.replace("target/bundle", &desk.bundle.display().to_string()));
            command.args(["-c", &script, "-"]).arg(binary("cellblock")).arg("--root").arg(&desk.root).args(words);
            lab.output(String::new(), command)
        };
        const OURS: &str = "LISTEN_FDNAMES=a:b LISTEN_PID=$$";
        let run = ["run", "--bundle", "target/bundle", "one"];
        let run_with_one_more = [&["run", "--preserve-fds", "1"], &run[1..]].concat();
        let both = "2 a:b me\nletter\ncard\n";
        desk.set_command(&format!("LISTEN_FDS=${{LISTEN_FDS}}; {said}"));
        desk.configure(|config| config["process"]["env"].as_array_mut().unwrap().push(json!("LISTEN_FDS=old")));
        assert_eq!(call(&format!("{OURS} LISTEN_FDS=2"), &run).text, both);
        assert_eq!(call(&format!("{OURS} LISTEN_FDS=1"), &run_with_one_more).text, both.replacen('2', "1", 1));
        for other in ["LISTEN_FDS=2 LISTEN_PID=1", "LISTEN_FDS=2"] {
            assert_ne!(call(other, &run).code, 0, "{other}: nothing goes on");
        }
        // Where it is not the first process: with a small init, in the host's pid namespace, in `exec`.
        desk.configure(|config| config["annotations"] = json!({"cellblock.init": "true"}));
        assert_eq!(call(&format!("{OURS} LISTEN_FDS=2"), &run).text, both);
        desk.configure(|config| config["annotations"] = json!({}));
        let namespaces = |config: &mut serde_json::Value, pid: bool| {
            let all = config["linux"]["namespaces"].as_array_mut().unwrap();
            all.retain(|namespace| namespace["type"] != "pid");
            pid.then(|| all.push(json!({"type": "pid"})));
        };
        desk.configure(|config| namespaces(config, false));
        assert_eq!(call(&format!("{OURS} LISTEN_FDS=2"), &run).text, both);
        desk.configure(|config| namespaces(config, true));
        desk.start("exec sleep 1000");
        assert_eq!(call(&format!("{OURS} LISTEN_FDS=2"), &["exec", "one", "sh", "-c", said]).text, both);
        desk.succeed(&["delete", "--force", "one"]);
        // A number that is closed, or none.
        for (variables, words, why) in [
            ("LISTEN_FDS=3", &run[..], "LISTEN_FDS 3: the descriptor 5 is not open"),
            ("LISTEN_FDS=2", &run_with_one_more[..], "--preserve-fds 1: the descriptor 5 is not open"),
            ("LISTEN_FDS=x", &run[..], "is not a number of descriptors"),
        ] {
            let output = call(&format!("{OURS} {variables}"), words);
            assert!(output.code == 125 && output.text.contains(why), "{why}: {output}");
        }
        desk.nothing_is_left();
        [first, second].iter().for_each(|file| fs::remove_file(file).unwrap());
    });
}

/// Only what the caller has open is handed on. One number more would be the first that the runtime opens itself: its state, a
/// group, a namespace of the host's. And no hook gets any of them.
#[test]
fn a_closed_descriptor_is_not_handed_on() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "closed");
        let letter = lab.folder.join("letter");
        fs::write(&letter, "letter\n").unwrap();
        let seen = lab.folder.join("seen");
        let hook =
            json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("ls /proc/self/fd >>'{}'", seen.display())]}]);
        let as_root = json!([{"path": "/bin/sh", "args": ["sh", "-c", "ls /proc/self/fd >/hook"]}]);
        desk.set_command("cat <&3; ls /proc/self/fd");
        desk.configure(|config| {
            config["root"]["readonly"] = json!(false);
            config["hooks"] = json!({"prestart": hook, "poststart": hook, "startContainer": as_root});
        });
        let run = |verb: &str| {
            let script = format!("exec 3<'{}' 5<&3; exec \"$0\" --root \"$1\" {verb}", letter.display());
            let mut command = Command::new("sh");
            command.args(["-c", &script]).arg(binary("cellblock")).arg(&desk.root).arg(&desk.bundle);
            lab.output(String::new(), command)
        };
        for count in ["2", "3", "9", "1000000", "4294967295"] {
            for verb in ["run", "create"] {
                let output = run(&format!("{verb} --preserve-fds {count} --bundle \"$2\" one"));
                let refused = output.code == 125 && output.text.contains("the descriptor 4 is not open");
                assert!(refused && !output.text.contains("letter"), "{verb} {count}: {output}");
                assert_eq!(desk.run(&["list", "--quiet"]).text, "", "{verb} {count}");
            }
        }
        assert_eq!(run("run --preserve-fds 1 --bundle \"$2\" one").text, "letter\n0\n1\n2\n3\n4\n", "ls has opened 4");
        let hooks = fs::read_to_string(&seen).unwrap() + &fs::read_to_string(lab.rootfs.join("hook")).unwrap();
        assert!(
            hooks.lines().all(|number| ["0", "1", "2", "3"].contains(&number)),
            "ls opens 3, and nothing was 4: {hooks}"
        );
        desk.configure(|config| drop(config.as_object_mut().unwrap().remove("hooks")));
        desk.set_command("sleep 60");
        desk.succeed(&["create", "--bundle", "target/bundle", "one"]);
        desk.succeed(&["start", "one"]);
        assert_eq!(run("exec --preserve-fds 1 one cat /proc/self/fd/3").text, "letter\n");
        let output = run("exec --preserve-fds 2 one ls /proc/self/fd");
        assert!(output.code == 125 && output.text.contains("the descriptor 4 is not open"), "{output}");
        desk.succeed(&["delete", "--force", "one"]);
        for file in [&letter, &seen, &lab.rootfs.join("hook")] {
            fs::remove_file(file).unwrap();
        }
    });
}

#[test]
fn a_descriptor_of_the_first_process() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "pidfd");
        let short = ShortPath::new(lab);
        let path = short.join("pidfd.sock");
        let (place, socket) = (path.display().to_string(), UnixListener::bind(&path).unwrap());
        let pid_of = |fd: &Fd| {
            let fdinfo = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd())).unwrap();
            let line = fdinfo.lines().find_map(|line| line.strip_prefix("Pid:"));
            line.expect("it is of a process").trim().to_owned()
        };
        desk.succeed(&["create", "--bundle", "target/bundle", "--pidfd-socket", &place, "one"]);
        assert_eq!(pid_of(&receive(&socket)), desk.state()["pid"].to_string());
        desk.succeed(&["start", "one"]);
        desk.succeed(&["exec", "--pidfd-socket", &place, "one", "true"]);
        assert_eq!(pid_of(&receive(&socket)), "-1", "it has ended");
        desk.succeed(&["delete", "--force", "one"]);
        fs::remove_file(&path).unwrap();
        desk.fail(&["create", "--bundle", "target/bundle", "--pidfd-socket", &place, "one"], "nobody takes it there");
    });
}

/// As systemd waits for a service of `Type=notify`, and is told by one in a container.
#[test]
fn readiness_is_passed_on() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "ready");
        desk.configure(|config| {
            let tmpfs = json!({"destination": "/run", "type": "tmpfs", "source": "tmpfs"});
            config["mounts"].as_array_mut().unwrap().push(tmpfs);
        });
        desk.set_command("inmate ready && exec sleep 1000");
        let short = ShortPath::new(lab);
        let path = short.join("manager.sock");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let heard = || {
            let mut buffer = [0; 256];
            manager.recv(&mut buffer).map(|length| String::from_utf8_lossy(&buffer[..length]).into_owned()).ok()
        };
        let verb = |words: &[&str]| {
            let mut command = desk.command(words);
            command.env("NOTIFY_SOCKET", &path).stdout(Stdio::null()).stderr(Stdio::null());
            assert!(command.status().unwrap().success(), "{words:?}");
        };
        let ready = || Some(format!("MAINPID={}\nREADY=1\n", desk.state()["pid"]));
        verb(&["create", "--bundle", "target/bundle", "one"]);
        assert_eq!(heard(), None);
        verb(&["start", "one"]); // it comes back when the container is ready
        assert_eq!(heard(), ready());
        verb(&["delete", "--force", "one"]);
        verb(&["run", "--detach", "--bundle", "target/bundle", "one"]);
        assert_eq!(heard(), ready());
        verb(&["delete", "--force", "one"]);
        // Also if it is another user in there, and the caller's umask lets nobody in; and no stranger on the host reaches it.
        desk.configure(|config| config["process"]["user"] = json!({"uid": 1000, "gid": 1000}));
        let mut masked = Command::new("sh");
        masked.args(["-c", "umask 077; exec \"$@\"", "sh"]).arg(binary("cellblock")).arg("--root").arg(&desk.root);
        masked.args(["run", "--detach", "--bundle"]).arg(&desk.bundle).arg("one").env("NOTIFY_SOCKET", &path);
        assert!(masked.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
        assert_eq!(heard(), ready());
        let mut stranger = Command::new("setpriv");
        stranger.args(["--reuid", "12345", "--regid", "12345", "--clear-groups", "test", "-e"]);
        assert!(!stranger.arg(desk.root.join("one/notify")).status().unwrap().success());
        verb(&["delete", "--force", "one"]);
        desk.configure(|config| config["process"]["user"] = json!({"uid": 0, "gid": 0}));
        desk.set_command("true"); // never ready: its end is what there is to hear
        verb(&["run", "--bundle", "target/bundle", "one"]);
        assert_eq!(heard(), None);
        fs::remove_file(&path).unwrap();
    });
}

/// A caller that reads the log for the reason would wait for a line that never comes.
#[test]
fn a_log_that_cannot_be_opened() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "log");
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
        let fifo = lab.folder.join("fifo");
        nix::unistd::mkfifo(&fifo, mode).unwrap();
        for file in ["/nosuch/log", "/", fifo.to_str().unwrap()] {
            desk.fail(&["--log", file, "run", "--bundle", "target/bundle", "one"], "cellblock: --log ");
        }
        std::fs::remove_file(fifo).unwrap();
        desk.fail(&["kill", "one", "0"], "does not exist");
    });
}

/// crun's annotation, which `podman run --group-add keep-groups` sets: the caller's groups are the container's, also where it has no
/// ids for them, and where setgroups is denied.
#[test]
fn the_callers_groups_can_be_kept() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "keep-groups");
        let groups = "grep Groups /proc/self/status; cat /secret";
        fs::write(lab.rootfs.join("secret"), "secret\n").unwrap();
        chown(lab.rootfs.join("secret"), None, Some(12)).unwrap();
        fs::set_permissions(lab.rootfs.join("secret"), fs::Permissions::from_mode(0o640)).unwrap();
        let keep = |value: Option<&str>| {
            desk.configure(|config| {
                config["process"]["args"] = json!(["sh", "-c", groups]);
                config["process"]["user"] = json!({"uid": 7, "gid": 7, "additionalGids": [5]});
                config["annotations"] = value.map_or(json!({}), |value| json!({"run.oci.keep_original_groups": value}));
            });
        };
        let as_member = |words: &str| {
            let script = format!("setpriv --groups 11,12 \"$0\" --root \"$root\" {words} 2>&1");
            desk.bash(&script).text.replace(['\t', '\n'], " ").replace("  ", " ").trim().to_owned()
        };
        let run = "run --bundle \"$bundle\" one";
        for users in [false, true] {
            let (kept, own) = if users { ("65534 65534", "5") } else { ("11 12", "5") };
            for (value, expected, may) in [(None, own, false), (Some("0"), own, false), (Some("1"), kept, true)] {
                keep(value);
                let text = as_member(run);
                assert!(
                    text.starts_with(&format!("Groups: {expected} ")) && text.ends_with(" secret") == may,
                    "{text}"
                );
            }
            keep(Some("true"));
            desk.start("sleep 1000");
            let text = as_member(&format!("exec one sh -c '{groups}'"));
            assert_eq!(text, format!("Groups: {kept} secret"), "exec keeps those of its own caller");
            desk.succeed(&["delete", "--force", "one"]);
            desk.map_users(100_000, 1_000);
        }
        as_an_ordinary_user(lab, &desk, &keep);
        fs::remove_file(lab.rootfs.join("secret")).unwrap();
    });
}

/// One id is all there is, and setgroups is denied: the configuration's groups could not be had.
fn as_an_ordinary_user(lab: &Lab, desk: &Desk, keep: &dyn Fn(Option<&str>)) {
    fs::remove_file(desk.bundle.join("config.json")).unwrap();
    desk.succeed(&["spec", "--rootless", "--bundle", "target/bundle"]);
    keep(Some("1"));
    desk.configure(|config| {
        config["process"]["terminal"] = json!(false);
        config["process"]["user"] = json!({"uid": 0, "gid": 0, "additionalGids": [5]});
        for map in ["uidMappings", "gidMappings"] {
            config["linux"][map] = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
        }
    });
    let own = lab.folder.join("own");
    fs::create_dir(&own).and_then(|()| chown(&own, Some(1000), None)).unwrap();
    let user =
        "setpriv --reuid 1000 --regid 1000 --groups 11,12 \"$0\" --cgroup-manager disabled --root \"$folder\"/own/root";
    let run = desk.bash(&format!("{user} run --bundle \"$bundle\" one"));
    assert!(run.code == 0 && run.text == "Groups:\t65534 65534\nsecret\n", "{run}");
    let exec = "exec one sh -c 'grep Groups /proc/self/status; cat /secret'";
    desk.configure(|config| config["process"]["args"] = json!(["sleep", "1000"]));
    let script = format!(
        "{user} create --bundle \"$bundle\" one >/dev/null 2>&1 && {user} start one && {user} {exec}; \
        {user} delete --force one"
    );
    let exec = desk.bash(&script);
    assert!(exec.code == 0 && exec.text == "Groups:\t65534 65534\nsecret\n", "{exec}");
    fs::remove_dir_all(own).unwrap();
}
