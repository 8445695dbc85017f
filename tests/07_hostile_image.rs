//! Step 7, the runtime on a root filesystem that an attacker has made: its /etc/passwd may be anything, its names may have
//! anything in them, and its root may be the host's.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use classroom::{Desk, Lab, World, lab};
use nix::sys::stat::Mode;
use serde_json::json;

/// What an attacker puts in the place of a file that every launcher reads.
const KINDS: [&str; 6] = ["fifo", "device", "link to a device", "link to a descriptor", "endless", "directory"];

fn plant(file: &Path, kind: &str) {
    let _ = fs::remove_file(file).or_else(|_| fs::remove_dir(file));
    match kind {
        "fifo" => nix::unistd::mkfifo(file, Mode::S_IRUSR).unwrap(),
        "device" => {
            let zero = nix::sys::stat::makedev(1, 5);
            nix::sys::stat::mknod(file, nix::sys::stat::SFlag::S_IFCHR, Mode::S_IRUSR, zero).unwrap();
        }
        "link to a device" => symlink("/dev/zero", file).unwrap(),
        "link to a descriptor" => symlink("/proc/self/fd/3", file).unwrap(),
        "endless" => fs::File::create(file).unwrap().set_len(1 << 40).unwrap(),
        _ => fs::create_dir(file).unwrap(),
    }
}

fn each_kind(lab: &Lab, try_it: impl Fn(&str)) {
    for name in ["passwd", "group"] {
        let file = lab.rootfs.join("etc").join(name);
        let before = fs::read(&file).ok();
        for kind in KINDS {
            plant(&file, kind);
            let begin = Instant::now();
            try_it(&format!("/etc/{name} is {kind}"));
            assert!(begin.elapsed().as_secs() < 15, "/etc/{name} is {kind}: {:?}", begin.elapsed());
        }
        let _ = fs::remove_file(&file).or_else(|_| fs::remove_dir(&file));
        if let Some(text) = before {
            fs::write(&file, text).unwrap();
        }
    }
}

#[test]
fn files_that_the_runtime_reads() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "hostile");
        each_kind(lab, |what| {
            desk.set_command("echo at home in $HOME");
            let run = desk.run(&["run", "--bundle", "target/bundle", "one"]);
            assert!(run.code == 0 && run.text.starts_with("at home in /"), "{what}: {run}");
            desk.start("sleep 1000");
            let exec = desk.run(&["exec", "one", "sh", "-c", "echo at home in $HOME"]);
            assert!(exec.code == 0 && exec.text.starts_with("at home in /"), "{what}: {exec}");
            desk.succeed(&["delete", "--force", "one"]);
        });
    });
}

#[test]
fn files_that_step_six_reads() {
    lab!(World::Root, |lab| {
        let count = "grep -c '^Uid:.1000' /proc/self/status"; // busybox's id would read the planted file itself
        each_kind(lab, |what| {
            let output = lab.run("privileges", &["--net", "none", "--user", "1000:1000", "sh", "-c", count]);
            assert!(output.code == 0 && output.text == "1\n", "{what}: {output}");
        });
    });
}

/// A name from the image speaks to no terminal, and makes no second line.
#[test]
fn names_are_printed_escaped() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "names");
        let forged = "/x\u{1b}[2J\nlevel=info msg=fine";
        desk.configure(|config| config["process"]["args"] = json!([forged]));
        let log = lab.folder.join("log");
        let words = ["--log", &log.display().to_string(), "run", "--bundle", "target/bundle", "one"];
        let output = desk.run(&words);
        let logged = fs::read_to_string(&log).unwrap();
        for text in [&output.text, &logged] {
            assert!(!text.contains('\u{1b}') && !text.lines().any(|line| line.starts_with("level=info")), "{text:?}");
        }
        assert_eq!(logged.lines().count(), 1, "{logged}");
        for launcher in ["chroot", "pivot-root"] {
            let output = lab.run(launcher, &[forged]);
            assert!(!output.text.contains('\u{1b}') && !output.text.contains("\nlevel"), "{output}");
        }
        fs::remove_file(log).unwrap();
    });
}

fn identity_mapped(desk: &Desk) {
    desk.configure(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
    });
}

fn sh(script: &str) {
    assert!(Command::new("sh").args(["-ec", script]).status().unwrap().success(), "{script}");
}

/// The host's root, as root of a user namespace, owns the host's nodes: it takes no permission away from the whole machine.
/// Here the host's /dev is one of the lab's own.
#[test]
fn device_nodes_of_the_host() {
    lab!(World::Root, |lab| {
        sh("mkdir -p /dev/shm; mount -t tmpfs none /dev; cd /dev; mknod -m 666 null c 1 3; mknod -m 666 zero c 1 5; \
            mknod -m 666 full c 1 7; mknod -m 666 random c 1 8; mknod -m 666 urandom c 1 9; mknod -m 666 tty c 5 0");
        let desk = Desk::new(lab, "nodes");
        identity_mapped(&desk);
        desk.set_command("chmod 600 /dev/null; chown 5 /dev/zero; echo x >/dev/null && echo tried");
        let output = desk.run(&["run", "--bundle", "target/bundle", "one"]);
        assert!(output.text.contains("tried"), "{output}");
        for node in ["null", "zero", "full", "random", "urandom", "tty"] {
            let found = fs::metadata(Path::new("/dev").join(node)).unwrap();
            assert_eq!(found.permissions().mode() & 0o777, 0o666, "{node}: {output}");
            assert_eq!(std::os::unix::fs::MetadataExt::uid(&found), 0, "{node}");
        }
        sh("cd /; umount /dev");
    });
}

/// With the network of the host, a user namespace gets no sysfs of its own: the host's is shown, and nothing of it can be
/// written, also not what is mounted below it.
#[test]
fn sysfs_of_the_host() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "sysfs");
        identity_mapped(&desk);
        desk.configure(|config| {
            let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|namespace| namespace["type"] != "network");
            config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/sys/fs/cgroup");
        });
        desk.set_command("awk '$5 ~ \"^/sys\" { print $5, $6 }' /proc/self/mountinfo");
        let output = desk.run(&["run", "--bundle", "target/bundle", "one"]);
        assert_eq!(output.code, 0, "{output}");
        assert!(
            output.text.lines().any(|line| line.starts_with("/sys/fs/cgroup")),
            "nothing is mounted below: {output}"
        );
        for line in output.text.lines() {
            let options = line.split(' ').next_back().unwrap_or_default();
            assert!(options.split(',').any(|option| option == "ro"), "{line}: {output}");
        }
    });
}
