//! Step 7, the runtime: a container in the pid namespace of another one, as engines make pods. It is made outside, and born there
//! as the last thing before its command.

use std::fs;
use std::process::Command;

use classroom::desk::{has_proc_of_others, reap};
use classroom::lab::not_run;
use classroom::{Desk, World, lab};
use serde_json::json;

/// The first container sleeps; the configuration is then that of a second one in its pid namespace.
fn second(desk: &Desk) {
    desk.start("sleep 1000");
    let pid = desk.state()["pid"].clone();
    desk.configure(|config| {
        config["linux"]["cgroupsPath"] = json!(format!("{}/two", desk.parent));
        for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
            if namespace["type"] == "pid" {
                namespace["path"] = json!(format!("/proc/{pid}/ns/pid"));
            }
        }
    });
}

fn remove_first(desk: &Desk) {
    desk.kill();
    desk.succeed(&["delete", "one"]);
}

/// What a process sees of itself and of the others: it is in the /proc that shows the first container's.
const LOOK: &str = "[ -e /proc/$$/stat ] && echo seen; tr '\\0' ' ' </proc/1/cmdline | grep -q sleep && echo beside; [ $$ = 1 ] || echo another";

#[test]
fn it_sees_its_neighbours() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "pods");
        second(&desk);
        desk.set_command(LOOK);
        let run = || desk.succeed(&["run", "--bundle", "target/bundle", "two"]);
        assert_eq!(run(), "seen\nbeside\nanother\n");
        // As a user, with fewer rights; a filter that is there before the birth; a small init.
        desk.configure(|config| {
            config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
            config["process"]["noNewPrivileges"] = json!(false);
        });
        desk.set_command("id -u; grep -c 'CapEff:.0000000000000000' /proc/self/status");
        assert_eq!(run(), "1000\n1\n");
        desk.configure(|config| {
            config["process"]["user"] = json!({"uid": 0, "gid": 0});
            config["annotations"]["cellblock.init"] = json!("true");
        });
        desk.set_command(LOOK);
        assert_eq!(run(), "seen\nbeside\nanother\n");
        remove_first(&desk);
    });
}

/// What is copied into memory is opened by /proc, which does not show the process that copies.
#[test]
fn files_are_copied_up() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "pods");
        second(&desk);
        desk.configure(|config| {
            let mounts = config["mounts"].as_array_mut().unwrap();
            mounts.push(json!({"destination": "/etc", "type": "tmpfs", "options": ["tmpcopyup"]}));
        });
        desk.set_command("head -c 4 /etc/passwd; ls /proc/self/fd | wc -l");
        assert_eq!(desk.succeed(&["run", "--bundle", "target/bundle", "two"]), "root4\n");
        remove_first(&desk);
    });
}

#[test]
fn create_and_start() {
    lab!(World::Root, |lab| {
        if !has_proc_of_others() {
            return not_run("create_and_start", "before Linux 6.17 a child cannot be born late");
        }
        let desk = Desk::new(lab, "pods");
        second(&desk);
        let said = lab.folder.join("hook");
        desk.configure(|config| {
            config["root"]["readonly"] = json!(false);
            let words = json!(["sh", "-c", format!("readlink /proc/self/ns/pid >{}", said.display())]);
            config["hooks"] = json!({"createContainer": [{"path": "/bin/sh", "args": words}]});
        });
        desk.set_command(&format!("({LOOK}) >/seen; sleep 1000"));
        desk.succeed(&["create", "--bundle", "target/bundle", "two"]);
        // The hook is a program of the host's: no process in the pod may see it.
        let own = fs::read_link("/proc/self/ns/pid").unwrap().display().to_string();
        assert_eq!(fs::read_to_string(&said).unwrap().trim(), own);
        let state: serde_json::Value = serde_json::from_str(&desk.succeed(&["state", "two"])).unwrap();
        let (one, two) = (desk.state()["pid"].clone(), state["pid"].clone());
        let namespace = |pid| fs::read_link(format!("/proc/{pid}/ns/pid")).unwrap();
        assert_eq!((namespace(&one), state["status"].clone()), (namespace(&two), json!("created")));
        desk.succeed(&["start", "two"]);
        let seen = lab.rootfs.join("seen");
        let is_seen = || fs::read_to_string(&seen).is_ok_and(|text| text == "seen\nbeside\nanother\n");
        assert!((0..200).any(|_| is_seen() || {
            std::thread::sleep(std::time::Duration::from_millis(20));
            false
        }));
        assert_eq!(desk.succeed(&["exec", "two", "sh", "-c", LOOK]), "seen\nbeside\nanother\n");
        desk.succeed(&["delete", "--force", "two"]);
        reap(two.as_i64().unwrap() as i32);
        remove_first(&desk);
        fs::remove_file(seen).unwrap();
        fs::remove_file(said).unwrap();
    });
}

/// The terminal belongs to the session of the process that goes on.
#[test]
fn at_a_terminal() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "pods");
        second(&desk);
        desk.configure(|config| config["process"]["terminal"] = json!(true));
        desk.set_command("tty; echo to the terminal >/dev/tty; test -t 0 && echo sits");
        let runtime = desk.command(&["run", "--bundle", "target/bundle", "two"]);
        let words: Vec<String> = std::iter::once(runtime.get_program())
            .chain(runtime.get_args())
            .map(|word| format!("'{}'", word.display()))
            .collect();
        let mut script = Command::new("script");
        script.args(["-qec", &words.join(" "), "/dev/null"]);
        let output = lab.output(String::new(), script);
        for part in ["/dev/pts/0", "to the terminal", "sits"] {
            assert!(output.text.contains(part), "{part}: {output}");
        }
        remove_first(&desk);
    });
}
