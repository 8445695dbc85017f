//! Close-on-exec is too late: the kernel resolves the program, a symbolic link and a script's interpreter before it closes
//! anything. So a launcher holds nothing of the host's when it resolves the first path of a container, and neither does a
//! small init, which stays inside.
//!
//! Steps 1 and 2 are not here: their cells can be left by other ways.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use classroom::desk::has_proc_of_others;
use classroom::lab::not_run;
use classroom::{Desk, Lab, World, lab};
use serde_json::json;

const LAUNCHERS: [&str; 4] = ["pivot-root", "network", "cgroups", "privileges"];
/// What a program of the host prints, if it is run.
const OUTSIDE: &str = "a program of the host ran";
/// The numbers that a launcher's descriptors can have.
const NUMBERS: std::ops::Range<u32> = 3..18;

/// How the container's file leads to the host's.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// The command's own path.
    Path,
    /// A symbolic link in the image.
    Link,
    /// A script whose interpreter is such a link.
    Script,
    /// A script whose interpreter is such a script.
    Nested,
}

const WAYS: [Way; 4] = [Way::Path, Way::Link, Way::Script, Way::Nested];

/// A program outside, and in the root filesystem what leads to it by descriptor `number`; the command that follows it.
fn set_trap(lab: &Lab, number: u32, way: Way) -> Vec<String> {
    let outside = lab.folder.join("outside");
    if !outside.exists() {
        fs::create_dir(&outside).unwrap();
        fs::copy(lab.rootfs.join("bin/busybox"), outside.join("cat")).unwrap();
        fs::write(outside.join("secret"), OUTSIDE).unwrap();
    }
    let trap = lab.rootfs.join("trap");
    let _ = fs::remove_dir_all(&trap);
    fs::create_dir(&trap).unwrap();
    let path = format!("/proc/self/fd/{number}{}{}/cat", "/..".repeat(20), outside.display());
    symlink(&path, trap.join("cat")).unwrap();
    symlink("cat", trap.join("link")).unwrap(); // a busybox of another name would answer "applet not found"
    for (name, interpreter) in [("script", "/trap/cat"), ("nested", "/trap/script")] {
        let file = trap.join(name);
        fs::write(&file, format!("#!{interpreter}\n{OUTSIDE}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let program = match way {
        Way::Path => path,
        Way::Link => "/trap/cat".to_owned(),
        Way::Script => return vec!["/trap/script".to_owned()],
        Way::Nested => return vec!["/trap/nested".to_owned()],
    };
    vec![program, "/trap/script".to_owned()]
}

/// The trap closes when there is a way: with the program inside the container, each form prints what the script says.
#[test]
fn the_traps_work() {
    lab!(World::Root, |lab| {
        for way in WAYS {
            let mut command = set_trap(lab, 3, way);
            fs::remove_file(lab.rootfs.join("trap/cat")).unwrap();
            symlink("/bin/busybox", lab.rootfs.join("trap/cat")).unwrap();
            if way == Way::Path {
                command[0] = "/trap/cat".to_owned();
            }
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            assert!(lab.run("pivot-root", &words).text.contains(OUTSIDE), "{command:?}");
        }
        fs::remove_dir_all(lab.rootfs.join("trap")).unwrap();
        fs::remove_dir_all(lab.folder.join("outside")).unwrap();
    });
}

/// What a careless caller has open, and hands on: the host's root as a descriptor that reads nothing (O_PATH), at a number that
/// the traps try. It stays open until the test ends.
fn hand_on_a_path() {
    let root = nix::fcntl::open("/", nix::fcntl::OFlag::O_PATH, nix::sys::stat::Mode::empty()).unwrap();
    let number = std::os::fd::IntoRawFd::into_raw_fd(root) as u32;
    assert!(NUMBERS.contains(&number), "{number}");
}

fn no_launcher_runs_it(lab: &Lab) {
    hand_on_a_path();
    for number in NUMBERS {
        for way in WAYS {
            let command = set_trap(lab, number, way);
            for launcher in LAUNCHERS {
                for init in [&[][..], &["--init"]] {
                    let net: &[&str] = if launcher == "pivot-root" { &[] } else { &["--net", "none"] };
                    let words: Vec<&str> =
                        init.iter().chain(net).copied().chain(command.iter().map(String::as_str)).collect();
                    let output = lab.run(launcher, &words);
                    assert!(!output.text.contains(OUTSIDE) && output.code != 0, "{launcher} {words:?}: {output}");
                }
            }
        }
    }
    fs::remove_dir_all(lab.rootfs.join("trap")).unwrap();
    fs::remove_dir_all(lab.folder.join("outside")).unwrap();
}

#[test]
fn of_the_lessons() {
    lab!(World::Root, no_launcher_runs_it);
}

#[test]
fn of_the_lessons_rootless() {
    lab!(World::Rootless, no_launcher_runs_it);
}

#[test]
fn of_run_and_exec() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "last-exec");
        hand_on_a_path();
        let process = lab.folder.join("process.json");
        desk.start("sleep 1000");
        desk.configure(|config| {
            config["linux"].as_object_mut().unwrap().remove("cgroupsPath");
        });
        for number in NUMBERS {
            for way in WAYS {
                let command = set_trap(lab, number, way);
                let mut words = vec!["exec", "one"];
                words.extend(command.iter().map(String::as_str));
                let exec = desk.run(&words);
                fs::write(&process, json!({"cwd": "/", "args": command}).to_string()).unwrap();
                let (file, pid) = (process.display().to_string(), lab.folder.join("pid").display().to_string());
                let as_engines = desk.run(&["exec", "--process", &file, "--pid-file", &pid, "one"]);
                desk.configure(|config| config["process"]["args"] = json!(command));
                let run = desk.run(&["run", "--bundle", "target/bundle", "two"]);
                for output in [exec, as_engines, run] {
                    assert!(!output.text.contains(OUTSIDE) && output.code != 0, "{number} {command:?}: {output}");
                }
            }
        }
        desk.kill();
        desk.succeed(&["delete", "one"]);
        fs::remove_file(process).unwrap();
        fs::remove_dir_all(lab.rootfs.join("trap")).unwrap();
        fs::remove_dir_all(lab.folder.join("outside")).unwrap();
    });
}

/// What can be had from a small init: no file by its descriptors, no network, none of its variables and words, and a program
/// that nothing can change.
fn look_at_init(lab: &Lab) -> String {
    let outside = lab.folder.join("outside");
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join("secret"), OUTSIDE).unwrap();
    format!(
        "test -r /proc/1/stat && echo looked; readlink /proc/1/exe; for fd in /proc/1/fd/* /proc/1/cwd /proc/1/root; do \
         cat $fd{}{}/secret; readlink $fd; done 2>/dev/null; strings -n 3 /proc/1/environ /proc/1/cmdline; true",
        "/..".repeat(20),
        outside.display()
    )
}

fn holds_nothing(output: &str, who: &str) {
    assert!(output.contains("looked"), "{who}: {output}");
    for wrong in [OUTSIDE, "net:[", "mnt:[", "A_SECRET_OF_THE_CALLER", "--init", "CELLBLOCK_ROOTFS"] {
        assert!(!output.contains(wrong), "{who}: {wrong}: {output}");
    }
    assert!(output.lines().any(|line| line.contains("memfd:cellblock")), "{who}: {output}");
}

#[test]
fn of_the_lessons_init() {
    lab!(World::Root, |lab| {
        let script = look_at_init(lab);
        for launcher in ["pivot-root", "network", "cgroups"] {
            let mut command = lab.launcher(launcher, &["--init", "sh", "-c", &script]);
            command.env("A_SECRET_OF_THE_CALLER", "1");
            holds_nothing(&lab.output(String::new(), command).text, launcher);
        }
        // Step 6 lets no process look: its init is not dumpable, and belongs to the host's user namespace.
        let output = lab.run("privileges", &["--init", "--net", "none", "sh", "-c", &script]);
        assert!(output.text.contains("looked") && !output.text.contains(OUTSIDE), "{output}");
        fs::remove_dir_all(lab.folder.join("outside")).unwrap();
    });
}

#[test]
fn of_the_runtimes_init() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "small-init");
        desk.set_command(&look_at_init(lab));
        desk.configure(|config| {
            config["annotations"]["cellblock.init"] = json!("true");
            for set in ["bounding", "effective", "permitted"] {
                config["process"]["capabilities"][set].as_array_mut().unwrap().push(json!("CAP_SYS_PTRACE"));
            }
        });
        holds_nothing(&desk.succeed(&["run", "--bundle", "target/bundle", "one"]), "cellblock");
        fs::remove_dir_all(lab.folder.join("outside")).unwrap();
    });
}

/// A directory as standard input would be a way out of any root.
#[test]
fn a_directory_as_standard_input() {
    lab!(World::Root, |lab| {
        for launcher in ["chroot", "namespaces", "pivot-root", "network", "cgroups", "privileges"] {
            for flag in [nix::fcntl::OFlag::O_RDONLY, nix::fcntl::OFlag::O_PATH] {
                let mut command = lab.launcher(launcher, &["true"]);
                command.stdin(nix::fcntl::open("/", flag, nix::sys::stat::Mode::empty()).unwrap());
                let output = lab.output(String::new(), command);
                assert!(output.code == 125 && output.text.contains("standard input is a directory"), "{output}");
            }
        }
    });
}

/// A container whose processes may trace sees what joins it, and can attach to it: that holds nothing of the host's, and has no
/// capability that the container has not.
fn watch(lab: &Lab, change: impl FnOnce(&Desk), join: impl Fn(&Desk)) {
    let desk = Desk::new(lab, "watched");
    let secret = lab.folder.join("secret");
    fs::write(&secret, OUTSIDE).unwrap();
    desk.configure(|config| {
        for set in ["bounding", "effective", "permitted"] {
            config["process"]["capabilities"][set].as_array_mut().unwrap().push(json!("CAP_SYS_PTRACE"));
        }
        config["root"]["readonly"] = json!(false);
    });
    change(&desk);
    let watched = lab.rootfs.join("watched");
    fs::write(&watched, "").unwrap();
    fs::set_permissions(&watched, fs::Permissions::from_mode(0o666)).unwrap();
    let begin = std::time::Instant::now();
    desk.start(&format!("inmate watch 3 {} >/watched; echo done >>/watched; sleep 1000", secret.display()));
    let found = || fs::read_to_string(&watched).unwrap_or_default();
    while !found().contains("done") {
        assert!(begin.elapsed().as_secs() < 60, "the watcher does not end: {}", found());
        join(&desk);
    }
    let found = found();
    assert!(!found.contains("CLIMBED") && !found.contains("TOOK OVER"), "{found}");
    assert!(!found.contains("attached 0 times"), "the watcher was too slow to prove anything: {found}");
    desk.kill();
    desk.succeed(&["delete", "one"]);
    fs::remove_file(watched).unwrap();
    fs::remove_file(secret).unwrap();
}

#[test]
fn what_joins_is_watched() {
    lab!(World::Root, |lab| watch(lab, |_| {}, |desk| drop(desk.succeed(&["exec", "one", "true"]))));
}

/// A second container in the first one's namespaces of these kinds, as engines make pods.
fn join_pod(desk: &Desk, kinds: &[&str]) {
    let pid = desk.state()["pid"].clone();
    desk.configure(|config| {
        config["linux"]["cgroupsPath"] = json!(format!("{}/two", desk.parent));
        config["process"]["args"] = json!(["sh", "-c", "tr '\\0' ' ' </proc/1/cmdline"]);
        for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
            let kind = namespace["type"].as_str().unwrap().to_owned();
            if kinds.contains(&kind.as_str()) {
                namespace["path"] = json!(format!("/proc/{pid}/ns/{kind}"));
            }
        }
    });
    let output = desk.succeed(&["run", "--bundle", "target/bundle", "two"]);
    assert!(output.contains("inmate watch") || output.contains("sleep"), "its /proc is another's: {output}");
}

#[test]
fn what_joins_a_pod_is_watched() {
    lab!(World::Root, |lab| {
        if !has_proc_of_others() {
            return not_run("what_joins_a_pod_is_watched", "before Linux 6.17 a child cannot be born late");
        }
        watch(lab, |_| {}, |desk| join_pod(desk, &["pid"]));
    });
}

#[test]
fn what_joins_a_pod_with_users_of_its_own_is_watched() {
    lab!(World::Root, |lab| {
        let own_users = |desk: &Desk| desk.map_users(0, 65536);
        watch(lab, own_users, |desk| {
            desk.configure(|config| {
                ["uidMappings", "gidMappings"].iter().for_each(|maps| {
                    config["linux"].as_object_mut().unwrap().remove(*maps);
                });
            });
            join_pod(desk, &["user", "pid"]);
        });
    });
}
