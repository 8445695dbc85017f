//! Step 7, mounts as ordinary images and configurations ask for them: links of a distribution's, every word of an option,
//! places of the host's, working directories of other users.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use classroom::short::ShortPath;
use classroom::{Desk, World, lab};
use kernel::Fd;
use kernel::sys::socket::receive_fd;
use serde_json::{Value, json};

const RUN: [&str; 4] = ["run", "--bundle", "target/bundle", "one"];

/// Adds a mount to the configuration.
fn add_mount(config: &mut Value, mount: Value) {
    config["mounts"].as_array_mut().expect("spec wrote some").push(mount);
}

/// A link of the image's without an end, as target or on the way: its end is made inside, then mounted on.
#[test]
fn a_link_without_an_end() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "link");
        let file = desk.bundle.join("resolv");
        fs::write(&file, "nameserver 192.0.2.1\n").unwrap();
        let original = desk.bundle.join("config.json");
        let plain = fs::read(&original).unwrap();
        let above = "../".repeat(20);
        for (link, target, place) in [
            ("etc/dangling", "../run/systemd/resolve/stub".to_owned(), "/etc/dangling"),
            ("etc/dangling", "/run/of/its/own".to_owned(), "/etc/dangling"),
            ("etc/dangling", format!("{above}escape/file"), "/etc/dangling"),
            ("etc/folder", "/run/made".to_owned(), "/etc/folder/below/file"),
        ] {
            symlink(&target, lab.rootfs.join(link)).unwrap();
            let mount = json!({"destination": place, "type": "bind", "source": file, "options": ["bind", "ro"]});
            desk.configure(|config| add_mount(config, mount));
            desk.set_command(&format!("cat {place}"));
            assert_eq!(desk.succeed(&RUN), "nameserver 192.0.2.1\n", "{link} -> {target}");
            fs::write(&original, &plain).unwrap();
            lab.restore();
        }
        // Links that lead from one to the other end, and none leads to the kernel's own.
        symlink("two", lab.rootfs.join("etc/one")).unwrap();
        symlink("one", lab.rootfs.join("etc/two")).unwrap();
        symlink("/proc/nosuch", lab.rootfs.join("etc/sly")).unwrap();
        for (place, says) in [("/etc/one", "ELOOP"), ("/etc/sly", "cannot mount /etc/sly")] {
            let mount = json!({"destination": place, "type": "bind", "source": file, "options": ["bind"]});
            desk.configure(|config| add_mount(config, mount));
            desk.fail(&RUN, says);
            fs::write(&original, &plain).unwrap();
        }
        lab.restore();
    });
}

/// What is masked or read-only behind a link of the image's is found where the link leads in there; but not in /proc.
#[test]
fn closed_behind_a_link() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "closed");
        let secrets = lab.rootfs.join("run/secrets");
        fs::create_dir_all(&secrets).unwrap();
        fs::write(secrets.join("key"), "key\n").unwrap();
        symlink("/run/secrets", lab.rootfs.join("etc/way")).unwrap();
        symlink("/proc/self/attr", lab.rootfs.join("etc/sly")).unwrap();
        desk.configure(|config| config["root"]["readonly"] = json!(false));
        desk.configure(|config| config["linux"]["maskedPaths"] = json!(["/etc/way"]));
        desk.set_command("ls -A /run/secrets | wc -l");
        assert_eq!(desk.succeed(&RUN).trim(), "0");
        desk.configure(|config| config["linux"]["maskedPaths"] = json!(["/etc/way/key", "/nosuch"]));
        desk.set_command("wc -c </run/secrets/key");
        assert_eq!(desk.succeed(&RUN).trim(), "0");
        desk.configure(|config| {
            config["linux"]["maskedPaths"] = json!([]);
            config["linux"]["readonlyPaths"] = json!(["/etc/way"]);
        });
        desk.set_command("touch /run/secrets/new 2>&1 | grep -o Read-only");
        assert_eq!(desk.succeed(&RUN), "Read-only\n");
        for list in ["maskedPaths", "readonlyPaths"] {
            desk.configure(|config| {
                config["linux"]["maskedPaths"] = json!([]);
                config["linux"]["readonlyPaths"] = json!([]);
                config["linux"][list] = json!(["/etc/sly"]);
            });
            desk.fail(&RUN, "/etc/sly: it leads into /proc");
        }
        lab.restore();
    });
}

/// Each word that `features` lists is one that a mount can be made with.
#[test]
fn every_word_of_an_option() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "words");
        let features: Value = serde_json::from_str(&desk.succeed(&["features"])).unwrap();
        let words: Vec<&str> = features["mountOptions"].as_array().unwrap().iter().flat_map(Value::as_str).collect();
        for must in ["silent", "loud", "iversion", "noiversion"] {
            assert!(words.contains(&must), "{must}: {words:?}");
        }
        desk.set_command("grep -c ' /mnt ' /proc/self/mountinfo");
        let original = desk.bundle.join("config.json");
        let plain = fs::read(&original).unwrap();
        for word in words.into_iter().filter(|word| !["idmap", "ridmap"].contains(word)) {
            let is_bind = ["bind", "rbind"].contains(&word);
            let (kind, source) = if is_bind { ("none", "/usr") } else { ("tmpfs", "tmpfs") };
            let mount = json!({"destination": "/mnt", "type": kind, "source": source, "options": [word]});
            desk.configure(|config| add_mount(config, mount));
            assert_eq!(desk.succeed(&RUN), "1\n", "{word}");
            fs::write(&original, &plain).unwrap();
        }
    });
}

/// The host's /dev as a bind mount is left as it is: nothing is made in it, whether it can be written or not.
#[test]
fn a_dev_of_the_hosts() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "dev");
        let dev = lab.folder.join("dev");
        fs::create_dir(&dev).unwrap();
        ["pts", "shm", "mqueue"].iter().for_each(|name| fs::create_dir(dev.join(name)).unwrap());
        let list = || fs::read_dir(&dev).unwrap().flatten().map(|entry| entry.file_name()).collect::<BTreeSet<_>>();
        let before = list();
        desk.configure(|config| {
            config["linux"]["devices"] = json!([{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}])
        });
        for options in [json!(["rbind", "nosuid"]), json!(["rbind", "ro"])] {
            desk.configure(|config| {
                let mounts = config["mounts"].as_array_mut().unwrap();
                mounts.retain(|mount| mount["destination"] != "/dev");
                mounts.insert(1, json!({"destination": "/dev", "type": "bind", "source": dev, "options": options}));
            });
            desk.set_command("ls -A /dev");
            assert_eq!(desk.succeed(&RUN), "mqueue\npts\nshm\n", "{options}");
            assert_eq!(at_a_terminal(&desk, "test -c /dev/pts/0 && ls -A /dev | wc -l"), "3", "{options}");
            assert_eq!(list(), before, "{options}");
        }
        fs::remove_dir_all(&dev).unwrap();
    });
}

/// What a command says at a terminal of its own.
fn at_a_terminal(desk: &Desk, script: &str) -> String {
    let short = ShortPath::new(desk.lab);
    let path = short.join("console");
    let socket = UnixListener::bind(&path).unwrap();
    desk.configure(|config| config["process"]["terminal"] = json!(true));
    desk.set_command(&format!("{script}; read line"));
    let place = path.display().to_string();
    desk.succeed(&["create", "--bundle", "target/bundle", "--console-socket", &place, "one"]);
    let master = receive_fd(&Fd::new(socket.accept().unwrap().0.into(), "connection"), "master").unwrap();
    desk.succeed(&["start", "one"]);
    let (mut said, mut buffer) = (String::new(), [0; 256]);
    while !said.contains('\n') {
        let count = nix::unistd::read(&master, &mut buffer).expect("it says something");
        said += &String::from_utf8_lossy(&buffer[..count]);
    }
    desk.kill();
    desk.succeed(&["delete", "one"]);
    desk.configure(|config| config["process"]["terminal"] = json!(false));
    fs::remove_file(path).unwrap();
    said.trim().to_owned()
}

/// A file system in memory that is read-only at last holds the terminal, the devices and the working directory by then.
#[test]
fn a_read_only_dev_in_memory() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "read-only");
        for option in ["ro", "rro"] {
            desk.configure(|config| {
                let mounts = config["mounts"].as_array_mut().unwrap();
                mounts.retain(|mount| !["/dev", "/mnt"].contains(&mount["destination"].as_str().unwrap()));
                let memory = |place: &str, options: Value| json!({"destination": place, "type": "tmpfs", "source": "tmpfs", "options": options});
                mounts.insert(1, memory("/dev", json!(["nosuid", "mode=755", option])));
                mounts.push(memory("/mnt", json!([option])));
                config["process"]["cwd"] = json!("/mnt/work");
            });
            let script = "test -c /dev/console && test -c /dev/null && pwd | tr '\\n' ' '; touch /dev/new /mnt/new 2>&1 | grep -c Read-only";
            assert_eq!(at_a_terminal(&desk, script), "/mnt/work 2", "{option}");
        }
    });
}

/// A device may lie anywhere, in the root itself too.
#[test]
fn a_device_in_the_root() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "device");
        desk.configure(|config| {
            config["linux"]["devices"] = json!([
                {"path": "/nothing", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666},
                {"path": "/made/for/it", "type": "p", "fileMode": 0o600}
            ]);
        });
        desk.set_command("echo gone >/nothing && cat /nothing && test -p /made/for/it && echo there");
        assert_eq!(desk.succeed(&RUN), "there\n");
        desk.configure(|config| config["linux"]["devices"][0]["path"] = json!("/"));
        desk.fail(&RUN, "nothing can be mounted on /");
        lab.restore();
    });
}

/// What shows other owners is the mount that asks for it, whatever a cgroup mount before it becomes.
#[test]
fn other_owners_behind_a_cgroup_mount() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "owners");
        let shared = lab.folder.join("shared");
        fs::create_dir(&shared).unwrap();
        fs::write(shared.join("file"), "text").unwrap();
        std::os::unix::fs::chown(shared.join("file"), Some(1000), Some(1000)).unwrap();
        desk.configure(|config| {
            let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|namespace| namespace["type"] != "cgroup");
            let mounts = config["mounts"].as_array_mut().unwrap();
            mounts.retain(|mount| mount["type"] != "cgroup");
            mounts.push(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}));
            let map = json!([{"containerID": 1000, "hostID": 5000, "size": 1}]);
            mounts.push(json!({"destination": "/mnt", "type": "bind", "source": shared, "options": ["bind"],
                "uidMappings": map, "gidMappings": map}));
        });
        desk.set_command("stat -c %u:%g /mnt/file; ls /sys/fs/cgroup | wc -l");
        let said = desk.succeed(&RUN);
        assert!(said.starts_with("5000:5000\n") && !said.ends_with("\n0\n"), "{said}");
        fs::remove_dir_all(&shared).unwrap();
    });
}

/// A working directory that the command's user may not enter, or only that user: in `run`, in `exec`, and in step 6.
#[test]
fn a_working_directory_of_another_user() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "workdir");
        for (name, owner) in [("roots", 0), ("theirs", 1000)] {
            let folder = lab.rootfs.join(name);
            fs::create_dir(&folder).unwrap();
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
            std::os::unix::fs::chown(&folder, Some(owner), Some(owner)).unwrap();
        }
        desk.configure(|config| config["process"]["capabilities"] = json!({}));
        let cases = [("/roots", 1000), ("/theirs", 1000), ("/theirs", 0), ("/roots", 0)];
        for (folder, user) in cases {
            desk.configure(|config| {
                config["process"]["cwd"] = json!(folder);
                config["process"]["user"] = json!({"uid": user, "gid": user});
            });
            desk.set_command("readlink /proc/self/cwd; id -u");
            assert_eq!(desk.succeed(&RUN), format!("{folder}\n{user}\n"));
        }
        desk.start("sleep 60");
        for (folder, user) in cases {
            let output = desk.run(&["exec", "--user", &user.to_string(), "--cwd", folder, "one", "id", "-u"]);
            assert_eq!((output.text, output.code), (format!("{user}\n"), 0), "{folder}");
        }
        desk.fail(&["exec", "--cwd", "/nosuch", "one", "true"], "cannot start in /nosuch");
        desk.kill();
        desk.succeed(&["delete", "one"]);
        for folder in ["/roots", "/theirs"] {
            let options = ["--net", "none", "--userns", "host", "--user", "1000", "--workdir", folder, "id", "-u"];
            let output = lab.run("privileges", &options);
            assert_eq!((output.text.as_str(), output.code), ("1000\n", 0), "{folder}: {output}");
        }
        fs::remove_dir(lab.rootfs.join("roots")).unwrap();
        fs::remove_dir(lab.rootfs.join("theirs")).unwrap();
    });
}

/// How mounts in the root propagate: each word of the specification, and what mountinfo says then (man 5 proc).
#[test]
fn the_roots_propagation() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "propagation");
        desk.set_command("awk '$5 == \"/\" { print $7 }' /proc/self/mountinfo");
        for (word, says) in [
            ("shared", "shared:"),
            ("rshared", "shared:"),
            ("unbindable", "unbindable"),
            ("runbindable", "unbindable"),
            ("private", "-"),
            ("rprivate", "-"),
        ] {
            desk.configure(|config| config["linux"]["rootfsPropagation"] = json!(word));
            let said = desk.succeed(&RUN);
            assert!(said.starts_with(says), "{word}: {said}");
        }
    });
}

/// A mount that is shared tells the host, and is told by it; its neighbour that is not hears at most.
#[test]
fn a_shared_mount() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "shared");
        let (shared, other) = (lab.folder.join("shared"), lab.folder.join("other"));
        let succeed = |command: &mut Command| assert!(command.status().unwrap().success(), "{command:?}");
        for folder in [&shared, &other] {
            fs::create_dir(folder).unwrap();
            succeed(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(folder));
            succeed(Command::new("mount").arg("--make-shared").arg(folder));
            fs::create_dir(folder.join("inside")).unwrap();
            fs::create_dir(folder.join("outside")).unwrap();
        }
        desk.configure(|config| {
            let all = json!(["CAP_SYS_ADMIN"]);
            config["process"]["capabilities"] = json!({"bounding": all, "effective": all, "permitted": all});
            for (place, source, options) in
                [("/mnt", &shared, json!(["rbind", "rshared"])), ("/opt", &other, json!(["rbind"]))]
            {
                add_mount(config, json!({"destination": place, "type": "bind", "source": source, "options": options}));
            }
        });
        let mounted = |folder: &Path| {
            let place = format!(" {} ", folder.display());
            fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&place)
        };
        for word in [json!("shared"), json!("rshared")] {
            desk.configure(|config| config["linux"]["rootfsPropagation"] = word.clone());
            desk.start("mount -t tmpfs tmpfs /mnt/inside; mount -t tmpfs tmpfs /opt/inside; sleep 60");
            let end = Instant::now() + Duration::from_secs(5);
            while !mounted(&shared.join("inside")) && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(5));
            }
            assert!(mounted(&shared.join("inside")), "{word}: it tells the host");
            succeed(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(shared.join("outside")));
            let seen = desk.succeed(&["exec", "one", "grep", "-c", " /mnt/outside ", "/proc/self/mountinfo"]);
            assert_eq!(seen, "1\n", "{word}: it is told by the host");
            assert!(!mounted(&other.join("inside")), "{word}: its neighbour tells nothing");
            desk.kill();
            desk.succeed(&["delete", "one"]);
            succeed(Command::new("umount").arg(shared.join("outside")).arg(shared.join("inside")));
        }
        for folder in [&shared, &other] {
            succeed(Command::new("umount").arg(folder));
            fs::remove_dir(folder).unwrap();
        }
    });
}
