//! Step 7, the runtime: programs of the caller's at six moments of a container's life.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use classroom::{Desk, World, lab};
use serde_json::{Value, json};

/// Six moments, in this order, each with the container's state on standard input.
#[test]
fn hooks() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "hooks");
        let folder = lab.folder.join("log");
        fs::create_dir(&folder).unwrap();
        let hook = |moment: &str, place: &str| {
            let script = format!("{{ echo {moment}; cat; echo; }} >> '{place}'/told");
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

/// Where each hook starts, with which variables, and what it sees of the mounts: in the container's mount namespace before the
/// root is exchanged, they are there, at the root filesystem's place on the host.
#[test]
fn what_hooks_find() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "found");
        let folder = lab.folder.join("log");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("there"), "").unwrap();
        let outside = folder.display().to_string();
        let rootfs = fs::canonicalize(desk.bundle.join("rootfs")).unwrap().display().to_string();
        let hook = |moment: &str, place: &str| {
            let seen = if moment == "startContainer" { "/mnt".to_owned() } else { format!("{rootfs}/mnt") };
            let script = format!(
                "echo {moment} $PWD ${{CELL_OWN-none}} ${{CELL_HOST-none}} $(ls '{seen}' | grep -c there) >>'{place}'/told"
            );
            json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}])
        };
        let moments = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
        desk.configure(|config| {
            config["hooks"] = moments.iter().map(|moment| ((*moment).to_owned(), hook(moment, &outside))).collect();
            config["hooks"]["startContainer"] = hook("startContainer", "/mnt");
            config["process"]["cwd"] = json!("/tmp");
            config["process"]["env"].as_array_mut().unwrap().push(json!("CELL_OWN=own"));
            let mounts = config["mounts"].as_array_mut().unwrap();
            mounts.push(json!({"destination": "/mnt", "type": "bind", "source": outside, "options": ["bind"]}));
        });
        desk.set_command("true");
        let bundle = desk.bundle.display().to_string();
        let expected = format!(
            "prestart {bundle} none host 0\ncreateRuntime {bundle} none host 0\n\
            createContainer {bundle} none host 1\nstartContainer /tmp own none 1\n\
            poststart {bundle} none host 0\npoststop {bundle} none host 0\n"
        );
        let sorted = |text: &str| {
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines.sort_unstable(); // poststart and startContainer may come together with `run`
            lines
        };
        for shared in [false, true] {
            desk.configure(|config| {
                config["linux"]["rootfsPropagation"] = if shared { json!("rshared") } else { Value::Null };
            });
            let mut command = desk.command(&["run", "--bundle", "target/bundle", "one"]);
            let output = command.env("CELL_HOST", "host").current_dir("/").output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let told = fs::read_to_string(folder.join("told")).unwrap();
            assert_eq!(sorted(&told), sorted(&expected), "shared {shared}");
            fs::remove_file(folder.join("told")).unwrap();
            assert!(fs::read_dir(format!("{rootfs}/mnt")).unwrap().next().is_none(), "the host sees no mount");
        }
        fs::remove_dir_all(&folder).unwrap();
    });
}

/// In a user namespace they see the mounts as well.
#[test]
fn hooks_see_the_mounts_in_a_user_namespace() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "users");
        desk.map_users(100_000, 65536);
        hooks_see_the_mounts(&desk);
    });
}

#[test]
fn hooks_see_the_mounts_rootless() {
    lab!(World::Rootless, |lab| {
        let desk = Desk::new(lab, "rootless");
        desk.as_ordinary_user();
        hooks_see_the_mounts(&desk);
    });
}

/// The hooks that run in the container's namespaces see its mounts, and can make one; nothing of the host is left in it.
fn hooks_see_the_mounts(desk: &Desk) {
    const NAMESPACES: &str = "for each in /proc/self/ns/*; do readlink $each; done";
    let log = desk.lab.folder.join("log");
    fs::create_dir(&log).unwrap();
    fs::set_permissions(&log, fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(log.join("there"), "").unwrap();
    let rootfs = fs::canonicalize(desk.bundle.join("rootfs")).unwrap().display().to_string();
    let tell = |root: &str, place: &str| {
        format!("{{ ls '{root}/mnt' | grep there; grep -c . '{root}/proc/self/mountinfo'; {NAMESPACES}; }} >'{place}'")
    };
    let hook =
        |script: String| json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}]);
    let early = format!(
        "set -e; mount -t tmpfs -o size=1m hooked '{rootfs}/tmp'; touch '{rootfs}/tmp/hooked'; {}",
        tell(&rootfs, &format!("{}/createContainer", log.display()))
    );
    desk.configure(|config| {
        config["hooks"] =
            json!({"createContainer": hook(early), "startContainer": hook(tell("", "/mnt/startContainer"))});
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.push(json!({"destination": "/mnt", "type": "bind", "source": log, "options": ["rbind"]}));
    });
    desk.set_command(&format!("ls /mnt/there /tmp; cut -d' ' -f5 /proc/self/mountinfo | grep -c '^/$'; {NAMESPACES}"));
    for propagation in [Value::Null, json!("rshared"), json!("rprivate")] {
        desk.configure(|config| config["linux"]["rootfsPropagation"] = propagation.clone());
        let said = desk.succeed(&["run", "--bundle", "target/bundle", "one"]);
        let (head, namespaces) = said.split_once("1\n").unwrap_or(("", &said));
        assert_eq!(head, "/mnt/there\n\n/tmp:\nhooked\n", "{propagation}: {said}");
        for moment in ["createContainer", "startContainer"] {
            let told = fs::read_to_string(log.join(moment)).unwrap();
            assert!(told.starts_with("there\n"), "{propagation}, {moment}: {told}");
            assert!(told.ends_with(namespaces), "{propagation}, {moment}: {told} {namespaces}");
        }
        assert!(fs::read_dir(format!("{rootfs}/mnt")).unwrap().next().is_none(), "the host sees no mount");
    }
    fs::remove_dir_all(&log).unwrap();
}

/// Where not even the caller's user can reach the root filesystem in a user namespace, they run all the same, and see no mounts.
#[test]
fn hooks_run_where_they_cannot_be_shown_the_mounts() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "closed");
        desk.map_users(100_000, 65536);
        desk.set_command("echo ran");
        std::os::unix::fs::chown(&lab.folder, Some(1000), Some(1000)).unwrap();
        fs::set_permissions(&lab.folder, fs::Permissions::from_mode(0o700)).unwrap();
        let set = |status: &str| {
            let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("exit {status}")]}]);
            desk.configure(|config| config["hooks"] = json!({"createContainer": hook}));
        };
        set("0");
        assert_eq!(desk.succeed(&["run", "--bundle", "target/bundle", "one"]), "ran\n");
        set("3");
        desk.fail(&["run", "--bundle", "target/bundle", "one"], "createContainer");
    });
}

/// That hooks are shown the mounts changes nothing of them: what a bind shares with the host it shares with a hook, too.
#[test]
fn hooks_change_no_propagation() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "propagation");
        let source = lab.folder.join("source");
        fs::create_dir(&source).unwrap();
        desk.set_command("sed -n 's|.* /mnt [^ ]* \\(.*\\) - .*|\\1|p' /proc/self/mountinfo");
        for (propagation, shared) in [("rshared", "shared:"), ("rslave", "master:")] {
            desk.configure(|config| {
                config["linux"]["rootfsPropagation"] = json!(propagation);
                config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/mnt");
                let options = json!(["rbind", propagation]);
                let mount = json!({"destination": "/mnt", "type": "bind", "source": source, "options": options});
                config["mounts"].as_array_mut().unwrap().push(mount);
            });
            let with_hooks = |hooks: Value| {
                desk.configure(|config| config["hooks"] = json!({"createContainer": hooks}));
                desk.succeed(&["run", "--bundle", "target/bundle", "one"])
            };
            let without = with_hooks(json!([]));
            assert!(without.starts_with(shared), "{propagation}: {without}");
            assert_eq!(with_hooks(json!([{"path": "/bin/true"}])), without, "{propagation}");
        }
        fs::remove_dir(source).unwrap();
    });
}

/// A mount that a createContainer hook makes in the root filesystem is in the container.
#[test]
fn a_hook_mounts() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "mounts");
        let rootfs = fs::canonicalize(desk.bundle.join("rootfs")).unwrap().display().to_string();
        let script = format!("mount -t tmpfs -o size=1m hooked '{rootfs}/mnt' && touch '{rootfs}/mnt/hooked'");
        desk.configure(|config| {
            config["hooks"] = json!({"createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]});
        });
        desk.set_command("ls /mnt; cut -d' ' -f2 /proc/mounts | grep -c '^/$'");
        assert_eq!(desk.succeed(&["run", "--bundle", "target/bundle", "one"]), "hooked\n1\n");
    });
}

/// From version 1.3.0 on it ends the container, which is removed with its poststop hooks; before, it is a warning, and the other
/// hooks run.
#[test]
fn poststart_fails() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "poststart");
        let told = lab.folder.join("told");
        let note = |what: &str| json!({"path": "/bin/sh", "args": ["sh", "-c", format!("echo {what} >>'{}'", told.display())]});
        desk.configure(|config| {
            config["hooks"] =
                json!({"poststart": [{"path": "/bin/false"}, note("second")], "poststop": [note("stop")]});
        });
        let run = ["run", "--detach", "--bundle", "target/bundle", "one"];
        for version in ["1.3.0", "1.0.2"] {
            desk.configure(|config| config["ociVersion"] = json!(version));
            for verbs in [&[&["create", "--bundle", "target/bundle", "one"][..], &["start", "one"]][..], &[&run[..]]] {
                let (last, first) = verbs.split_last().unwrap();
                first.iter().for_each(|words| drop(desk.succeed(words)));
                let output = desk.run(last);
                assert!(output.text.contains("hooks.poststart[0] /bin/false"), "{output}");
                if version == "1.3.0" {
                    assert_eq!((output.code, fs::read_to_string(&told).unwrap().as_str()), (125, "stop\n"));
                    desk.nothing_is_left();
                } else {
                    assert_eq!((output.code, desk.state()["status"].clone()), (0, json!("running")));
                    desk.succeed(&["delete", "--force", "one"]);
                    assert_eq!(fs::read_to_string(&told).unwrap(), "second\nstop\n");
                }
                fs::remove_file(&told).unwrap();
            }
        }
    });
}
