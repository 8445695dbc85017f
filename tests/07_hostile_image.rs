//! Step 7, the runtime on a root filesystem that an attacker has made: its /etc/passwd may be anything, its names may have
//! anything in them, and its root may be the host's.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use classroom::{Desk, Lab, World, lab};
use nix::fcntl::AT_FDCWD;
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

/// A container that sees the host's processes, and through /proc/PID/root a file that is not its own: `path` from inside.
fn with_the_hosts_processes(desk: &Desk, name: &str, text: &str) -> String {
    let outside = desk.lab.folder.join(name);
    fs::write(&outside, text).unwrap();
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o600)).unwrap();
    desk.configure(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "pid");
    });
    format!("/proc/{}/root{}", std::process::id(), outside.display())
}

/// No field of a file of the host's becomes HOME.
#[test]
fn links_through_processes_of_the_host() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "through");
        let secret = with_the_hosts_processes(&desk, "secret", "root:x:0:0::/leaked:/bin/sh\n");
        let passwd = lab.rootfs.join("etc/passwd");
        let before = fs::read(&passwd).unwrap();
        fs::remove_file(&passwd).unwrap();
        symlink(&secret, &passwd).unwrap();
        desk.set_command("echo at home in $HOME");
        let run = desk.run(&["run", "--bundle", "target/bundle", "one"]);
        assert!(run.text.starts_with("at home in /") && !run.text.contains("leaked"), "{run}");
        desk.start("sleep 1000");
        let exec = desk.run(&["exec", "one", "sh", "-c", "echo at home in $HOME"]);
        assert!(exec.text.starts_with("at home in /") && !exec.text.contains("leaked"), "{exec}");
        desk.succeed(&["delete", "--force", "one"]);
        fs::remove_file(&passwd).unwrap();
        fs::write(&passwd, before).unwrap();
        fs::remove_file(lab.folder.join("secret")).unwrap();
    });
}

/// Another process exchanges files of a volume for links to a file of the host's while containers copy the volume up.
#[test]
fn what_is_copied_up_meanwhile() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "swap");
        let secret = with_the_hosts_processes(&desk, "secret", "secret\n");
        let volume = lab.folder.join("volume");
        let pairs: Vec<_> = (0..20).map(|pair| [format!("file{pair}"), format!("link{pair}")]).collect();
        fs::create_dir(&volume).unwrap();
        for [file, link] in &pairs {
            fs::write(volume.join(file), "harmless\n").unwrap();
            symlink(&secret, volume.join(link)).unwrap();
        }
        desk.configure(|config| {
            let mounts = config["mounts"].as_array_mut().unwrap();
            mounts.push(json!({"destination": "/volume", "source": volume, "options": ["rbind"]}));
            mounts.push(json!({"destination": "/volume", "type": "tmpfs", "options": ["tmpcopyup"]}));
        });
        desk.set_command("cd /volume; for file in *; do [ -L $file ] || cat $file; done; echo copied");
        let (done, deadline) = (AtomicBool::new(false), Instant::now() + Duration::from_secs(5));
        let outputs = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    exchange(&volume, &pairs)
                }
            });
            let run = || desk.run(&["run", "--bundle", "target/bundle", "one"]);
            let until = |_: &()| Instant::now() < deadline;
            let outputs: Vec<_> = std::iter::repeat_n((), 60).take_while(until).map(|()| run()).collect();
            done.store(true, Ordering::Relaxed);
            outputs
        });
        assert!(!outputs.is_empty());
        for output in &outputs {
            assert!(output.text.contains("copied") && !output.text.contains("secret"), "{output}");
        }
        fs::remove_dir(lab.rootfs.join("volume")).unwrap(); // the place that was made for it
        fs::remove_dir_all(volume).unwrap();
        fs::remove_file(lab.folder.join("secret")).unwrap();
    });
}

fn exchange(folder: &Path, pairs: &[[String; 2]]) {
    let whole = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
    for [file, link] in pairs {
        nix::fcntl::renameat2(AT_FDCWD, &folder.join(file), AT_FDCWD, &folder.join(link), whole).unwrap();
    }
}

/// What speaks to a terminal, and begins a line of its own in a log.
const FORGED: &str = "/x\u{1b}[2J\nlevel=info msg=fine";

/// A name from the image speaks to no terminal, and makes no second line.
#[test]
fn names_are_printed_escaped() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "names");
        fs::write(lab.rootfs.join("bin/strange"), program_with_loader(FORGED)).unwrap();
        fs::set_permissions(lab.rootfs.join("bin/strange"), fs::Permissions::from_mode(0o755)).unwrap();
        for command in [FORGED, "/bin/strange"] {
            desk.configure(|config| config["process"]["args"] = json!([command]));
            ["text", "json"].iter().for_each(|format| assert_nothing_is_forged(&desk, format));
            for launcher in ["chroot", "pivot-root"] {
                let output = lab.run(launcher, &[command]);
                assert!(output.code == 127 && is_harmless(&output.text), "{output}");
            }
        }
        fs::remove_file(lab.rootfs.join("bin/strange")).unwrap();
        // A path that a failure tells as it is.
        desk.configure(|config| {
            config["mounts"]
                .as_array_mut()
                .unwrap()
                .push(json!({"destination": "/mnt", "source": FORGED, "options": ["bind"]}));
        });
        ["text", "json"].iter().for_each(|format| assert_nothing_is_forged(&desk, format));
    });
}

fn assert_nothing_is_forged(desk: &Desk, format: &str) {
    let log = desk.lab.folder.join("log");
    let words =
        ["--log", &log.display().to_string(), "--log-format", format, "run", "--bundle", "target/bundle", "one"];
    let output = desk.run(&words);
    let logged = fs::read_to_string(&log).unwrap();
    fs::remove_file(log).unwrap();
    assert!(is_harmless(&output.text) && is_harmless(&logged), "{output}{logged:?}");
    assert_eq!(logged.lines().count(), 1, "{logged}");
    if format == "json" {
        // An engine reads the message out of the object, and prints it.
        let line: serde_json::Value = serde_json::from_str(&logged).unwrap();
        let message = line["msg"].as_str().unwrap();
        assert!(!message.contains(char::is_control), "{message:?}");
    }
}

fn is_harmless(text: &str) -> bool {
    !text.contains(|c: char| c.is_control() && c != '\n') && !text.lines().any(|line| line.starts_with("level=info"))
}

/// A program of this machine that the loader of that name is to start (man 5 elf): a header, one PT_INTERP, the name.
fn program_with_loader(name: &str) -> Vec<u8> {
    let (header, entry, length) = (64_u16, 56_u16, name.len() as u64 + 1);
    let machine: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    [2, machine].iter().for_each(|number| file.extend(number.to_le_bytes())); // an executable
    file.extend(1_u32.to_le_bytes());
    [0, u64::from(header), 0].iter().for_each(|number| file.extend(number.to_le_bytes()));
    file.extend(0_u32.to_le_bytes());
    [header, entry, 1, 0, 0, 0].iter().for_each(|number| file.extend(number.to_le_bytes()));
    [3_u32, 4].iter().for_each(|number| file.extend(number.to_le_bytes())); // PT_INTERP, readable
    let start = u64::from(header + entry);
    [start, start, start, length, length, 1].iter().for_each(|number| file.extend(number.to_le_bytes()));
    file.extend(name.as_bytes());
    file.push(0);
    file
}

/// With the network of the host, a user namespace gets no sysfs of its own: the host's is shown, and nothing of it can be
/// written, also not what is mounted below it, whatever the options of the mount are.
#[test]
fn sysfs_of_the_host() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "sysfs");
        desk.map_users(0, 65536);
        desk.configure(|config| {
            let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|namespace| namespace["type"] != "network");
            config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/sys/fs/cgroup");
        });
        desk.set_command("awk '$5 ~ \"^/sys\" { print $5, $6 }' /proc/self/mountinfo");
        for options in [json!(["nosuid", "ro"]), json!([]), json!(["rw"]), json!(["rrw", "rdev"])] {
            desk.configure(|config| {
                let mounts = config["mounts"].as_array_mut().unwrap();
                mounts.iter_mut().find(|mount| mount["destination"] == "/sys").unwrap()["options"] = options.clone();
            });
            assert_is_read_only(&desk, &options.to_string());
        }
    });
}

fn assert_is_read_only(desk: &Desk, what: &str) {
    let output = desk.run(&["run", "--bundle", "target/bundle", "one"]);
    assert_eq!(output.code, 0, "{what}: {output}");
    let is_below = |line: &str| line.starts_with("/sys/fs/cgroup");
    assert!(output.text.lines().any(is_below), "{what}: nothing is mounted below: {output}");
    for line in output.text.lines() {
        let options = line.split(' ').next_back().unwrap_or_default();
        assert!(options.split(',').any(|option| option == "ro"), "{what}: {line}: {output}");
    }
}
