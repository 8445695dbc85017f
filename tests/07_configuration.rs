//! Step 7, the runtime: what a configuration can ask for, and where it shows.

use std::process::Command;
use std::time::Duration;

use classroom::run::{SEIZE_MOUNTED_NODES, SEIZE_NODES, assert_not_seized};
use classroom::{Desk, Lab, World, lab};
use serde_json::json;

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// On the host: its words must succeed.
fn ip(lab: &Lab, words: &str) -> String {
    let mut command = Command::new("ip");
    command.args(words.split(' '));
    let output = lab.output(format!("# ip {words}"), command);
    assert_eq!(output.code, 0, "{output}");
    output.text
}

#[test]
fn a_network_device_moves_in() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "device");
        let make = || {
            ip(lab, "link add card type veth peer name plug");
            ip(lab, "address add 192.0.2.5/24 dev card");
            ip(lab, "address add 2001:db8::5/64 dev card nodad");
            ip(lab, "link set card up");
        };
        make();
        desk.configure(|config| config["linux"]["netDevices"] = json!({"card": {"name": "eth7"}}));
        desk.set_command("ip -o address show dev eth7; ip -o link show eth7");
        let shown = desk.succeed(&["run", "--bundle", "target/bundle", "one"]);
        for part in ["192.0.2.5/24", "2001:db8::5/64", "UP"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        // A virtual device ends with the namespace that it moved into, and its peer with it: some milliseconds later.
        let has_gone = || {
            std::thread::sleep(Duration::from_millis(10));
            !ip(lab, "link").contains("plug")
        };
        assert!((0..500).any(|_| has_gone()), "{}", ip(lab, "link"));
        // A launch that fails gives it back.
        make();
        desk.configure(|config| config["process"]["args"] = json!(["nosuch"]));
        let before = ip(lab, "-o address show dev card");
        let refused = desk.run(&["run", "--bundle", "target/bundle", "one"]);
        assert_eq!(refused.code, 127, "{refused}");
        let link = ip(lab, "-o link show card");
        assert!(link.contains("UP") && ip(lab, "-o address show dev card").contains("192.0.2.5/24"), "{before}{link}");
        ip(lab, "link delete card");
        desk.fail(&["run", "--bundle", "target/bundle", "one"], "there is no network device card");
    });
}

#[test]
fn memory_comes_from_these_nodes() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "nodes");
        let policy = |mode: &str, nodes: &str, flags: &[&str]| {
            let policy = json!({"mode": mode, "nodes": nodes, "flags": flags});
            desk.configure(|config| config["linux"]["memoryPolicy"] = policy);
        };
        desk.set_command("head -1 /proc/self/numa_maps");
        let first = || desk.succeed(&["run", "--bundle", "target/bundle", "one"]);
        policy("MPOL_BIND", "0", &["MPOL_F_STATIC_NODES"]);
        assert!(first().contains(" bind=static:0 "), "{}", first());
        policy("MPOL_DEFAULT", "", &[]);
        assert!(first().contains(" default "), "{}", first());
        policy("MPOL_BIND", "1000", &[]);
        desk.fail(&["run", "--bundle", "target/bundle", "one"], "linux.memoryPolicy: set_mempolicy(");
        policy("MPOL_NOSUCH", "0", &[]);
        desk.fail(
            &["run", "--bundle", "target/bundle", "one"],
            "linux.memoryPolicy.mode: \"MPOL_NOSUCH\" is not known",
        );
        policy("MPOL_BIND", "zero", &[]);
        desk.fail(&["run", "--bundle", "target/bundle", "one"], "linux.memoryPolicy.nodes: \"zero\" is no list");
    });
}

/// As in a pod: the second container lives in the first one's user namespace, and the namespaces that it makes belong to that;
/// the third shares more of the first one's.
#[test]
fn the_user_namespace_of_another() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "users");
        desk.map_users(100_000, 65536);
        desk.create();
        desk.succeed(&["start", "one"]);
        let pid = desk.state()["pid"].to_string();
        let join = |kinds: &[&str]| {
            desk.configure(|config| {
                config["linux"]["cgroupsPath"] = json!(format!("{}/two", desk.parent));
                for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
                    let kind = namespace["type"].as_str().unwrap().to_owned();
                    let file = if kind == "network" { "net" } else { &kind };
                    if kinds.contains(&kind.as_str()) {
                        namespace["path"] = json!(format!("/proc/{pid}/ns/{file}"));
                    }
                }
            });
        };
        join(&["user"]);
        desk.set_command("cat /proc/self/uid_map; hostname; inmate report");
        let alone = desk.succeed(&["run", "--bundle", "target/bundle", "two"]);
        assert!(alone.contains("100000") && alone.contains("uid 0, gid 0"), "{alone}");
        assert!(!alone.contains("sleep 1000"), "its pid namespace is its own: {alone}");
        join(&["user", "pid", "ipc", "network", "uts"]);
        desk.set_command("ps; readlink /proc/self/ns/user");
        let together = desk.succeed(&["run", "--bundle", "target/bundle", "two"]);
        assert!(together.contains("sleep 1000"), "{together}");
        let users = std::fs::read_link(format!("/proc/{pid}/ns/user")).unwrap();
        assert!(together.contains(users.to_str().unwrap()), "{together}");
        desk.configure(|config| config["process"]["args"] = json!(["nosuch"]));
        assert_eq!(desk.run(&["run", "--bundle", "target/bundle", "two"]).code, 127);
        desk.succeed(&["delete", "--force", "one"]);
    });
}

/// Namespaces of the host's are joined with a user namespace of one's own, as `podman run --uidmap ... --network container:X` asks
/// for; and with one that is joined.
#[test]
fn namespaces_of_the_host_with_other_users() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "hosts");
        desk.create(); // its namespaces belong to the host: no process need run in them
        let pid = desk.state()["pid"].to_string();
        let of_the_first =
            |file: &str| std::fs::read_link(format!("/proc/{pid}/ns/{file}")).unwrap().display().to_string();
        desk.map_users(100_000, 65536);
        let kinds = [("network", "net"), ("ipc", "ipc"), ("uts", "uts")];
        desk.configure(|config| {
            config["linux"]["cgroupsPath"] = json!(format!("{}/two", desk.parent));
            config["hostname"] = json!(null);
            config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "mqueue");
            for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
                if let Some((_, file)) = kinds.iter().find(|(kind, _)| namespace["type"] == *kind) {
                    namespace["path"] = json!(format!("/proc/{pid}/ns/{file}"));
                }
            }
        });
        desk.set_command(
            "for kind in net ipc uts; do readlink /proc/self/ns/$kind; done; cat /proc/self/uid_map | tr -s ' '",
        );
        let expected: String = kinds.iter().map(|(_, file)| of_the_first(file) + "\n").collect();
        let said = desk.succeed(&["run", "--bundle", "target/bundle", "two"]);
        assert_eq!(said, format!("{expected} 0 100000 65536\n"));
        // In the pid namespace of the first one, too.
        desk.configure(|config| {
            for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
                if namespace["type"] == "pid" {
                    namespace["path"] = json!(format!("/proc/{pid}/ns/pid"));
                }
            }
            let mounts = config["mounts"].as_array_mut().unwrap();
            mounts.retain(|mount| mount["type"] != "proc");
            mounts.push(json!({"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"]}));
            config["linux"]["maskedPaths"] = json!([]);
            config["linux"]["readonlyPaths"] = json!([]);
        });
        desk.set_command("[ $$ = 1 ] || echo beside");
        assert_eq!(desk.succeed(&["run", "--bundle", "target/bundle", "two"]), "beside\n");
        desk.succeed(&["delete", "--force", "one"]);
    });
}

/// An ordinary user has rights in those namespaces only once he is root in the user namespace that they belong to.
#[test]
fn an_ordinary_user_joins_a_container_of_his_own() {
    lab!(World::User, |lab| {
        let desk = Desk::new(lab, "joined");
        std::fs::remove_file(desk.bundle.join("config.json")).unwrap();
        desk.succeed(&["spec", "--rootless", "--bundle", "target/bundle"]);
        desk.configure(|config| {
            config["process"]["terminal"] = json!(false);
            config["process"]["args"] = json!(["sleep", "1000"]);
        });
        desk.create();
        desk.succeed(&["start", "one"]);
        let pid = desk.state()["pid"].to_string();
        desk.configure(|config| {
            for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
                if let Some(kind @ ("user" | "pid" | "ipc")) = namespace["type"].as_str() {
                    namespace["path"] = json!(format!("/proc/{pid}/ns/{kind}"));
                }
            }
        });
        desk.set_command("ps; readlink /proc/self/ns/user");
        let together = desk.succeed(&["run", "--bundle", "target/bundle", "two"]);
        assert!(together.contains("sleep 1000"), "{together}");
        let users = std::fs::read_link(format!("/proc/{pid}/ns/user")).unwrap();
        assert!(together.contains(users.to_str().unwrap()), "{together}");
        desk.succeed(&["delete", "--force", "one"]);
    });
}

/// Root of this container is the host's root by number, and the nodes in its /dev are the host's.
#[test]
fn the_hosts_device_nodes_cannot_be_changed() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "nodes");
        desk.map_users(0, 65536);
        desk.configure(|config| {
            for set in ["bounding", "effective", "permitted"] {
                config["process"]["capabilities"][set] = json!(["CAP_CHOWN", "CAP_FOWNER", "CAP_DAC_OVERRIDE"]);
            }
        });
        desk.set_command(SEIZE_NODES);
        let run = desk.command(&["run", "--bundle", "target/bundle", "one"]);
        assert_not_seized(&lab.output("# an identity map".to_owned(), lab.on_own_dev(&run)));
        desk.configure(|config| {
            config["linux"].as_object_mut().unwrap().remove("seccomp");
            for set in ["bounding", "effective", "permitted"] {
                config["process"]["capabilities"][set].as_array_mut().unwrap().push(json!("CAP_SYS_ADMIN"));
            }
        });
        desk.set_command(SEIZE_MOUNTED_NODES);
        let run = desk.command(&["run", "--bundle", "target/bundle", "one"]);
        assert_not_seized(&lab.output("# an identity map, and it may mount".to_owned(), lab.on_own_dev(&run)));
    });
}

/// In a user namespace the nodes are as the configuration says, with the owners that it says.
#[test]
fn device_nodes_for_other_users() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "nodes");
        desk.map_users(100_000, 65536);
        desk.configure(|config| {
            config["annotations"]["cellblock.root.idmap"] = json!("true");
            let node = |path, minor| json!({"path": path, "type": "c", "major": 1, "minor": minor, "fileMode": 0o640, "uid": 5, "gid": 7});
            config["linux"]["devices"] = json!([node("/dev/mine", 5), node("/opt/full", 7)]);
        });
        desk.set_command("stat -c '%n %a %u:%g %t:%T' /dev/null /dev/mine /opt/full; head -c 3 /dev/zero | wc -c");
        let output = desk.succeed(&["run", "--bundle", "target/bundle", "one"]);
        assert_eq!(output, "/dev/null 666 0:0 1:3\n/dev/mine 640 5:7 1:5\n/opt/full 640 5:7 1:7\n3\n");
        std::fs::remove_file(lab.rootfs.join("opt/full")).unwrap(); // the place that was made
    });
}

/// systemd in a container does this: its own processes go into a group below, so that others can get limits beside them.
#[test]
fn exec_when_the_first_process_has_moved() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "moved");
        desk.configure(|config| {
            for mount in config["mounts"].as_array_mut().unwrap() {
                if mount["destination"] == "/sys/fs/cgroup" {
                    mount["options"] = json!(["nosuid", "noexec", "nodev", "rw"]);
                }
            }
        });
        desk.start(
            "cd /sys/fs/cgroup && [ ! -e cgroup.subtree_control ] || \
                { mkdir init && echo 1 >init/cgroup.procs && echo +pids >cgroup.subtree_control; }
            exec sleep 1000",
        );
        let group = desk.succeed(&["exec", "one", "cat", "/proc/self/cgroup"]);
        let is_v2_alone = group.lines().count() == 1;
        assert!(!is_v2_alone || group.trim().ends_with("/init"), "{group}");
        desk.succeed(&["delete", "--force", "one"]);
    });
}

/// No machine that this runs on has such a card, and few have the controller: the failure names either.
#[test]
fn a_limit_that_the_machine_cannot_set() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "rdma");
        desk.configure(|config| config["linux"]["resources"]["rdma"] = json!({"nosuch0": {"hcaHandles": 3}}));
        desk.fail(&["run", "--bundle", "target/bundle", "one"], "rdma");
    });
}

/// Debian's kernel has AppArmor, so scripts/test runs this in the virtual machine.
#[test]
#[ignore = "it needs a kernel with AppArmor: scripts/test --all"]
fn an_apparmor_profile() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "apparmor");
        let parser = |option: &str| {
            let script = format!(
                "mountpoint -q /sys/kernel/security || mount -t securityfs securityfs /sys/kernel/security
                echo 'profile cell-lab flags=(attach_disconnected) {{ file, capability, signal, deny /tmp/forbidden w, }}' |
                apparmor_parser {option} --skip-cache"
            );
            let output = lab.output(option.to_owned(), sh(&script));
            assert_eq!(output.code, 0, "{output}");
        };
        parser("--replace");
        desk.configure(|config| {
            config["process"]["apparmorProfile"] = json!("cell-lab");
            let tmpfs = json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"});
            config["mounts"].as_array_mut().unwrap().push(tmpfs);
        });
        desk.set_command("cat /proc/self/attr/current; echo >/tmp/allowed && ! echo >/tmp/forbidden");
        let said = desk.succeed(&["run", "--bundle", "target/bundle", "one"]);
        assert!(said.contains("cell-lab (enforce)") && said.contains("Permission denied"), "{said}");
        desk.start("exec sleep 1000");
        let visitor = desk.succeed(&["exec", "one", "cat", "/proc/self/attr/current"]);
        assert!(visitor.contains("cell-lab (enforce)"), "{visitor}");
        let free = desk.succeed(&["exec", "--apparmor", "unconfined", "one", "cat", "/proc/self/attr/current"]);
        assert!(free.contains("unconfined"), "{free}");
        desk.succeed(&["delete", "--force", "one"]);
        desk.configure(|config| config["process"]["apparmorProfile"] = json!("nosuch"));
        desk.fail(&["run", "--bundle", "target/bundle", "one"], "process.apparmorProfile: nosuch: ");
        parser("--remove");
    });
}

/// The state does not fit into the pipe, and the hook ends without reading it. The error of that write comes with a signal, which is
/// not meant for the container: there is no pid namespace in which its first process would be spared.
#[test]
fn a_hook_that_does_not_read_its_state() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "hook");
        desk.configure(|config| {
            config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "pid");
            config["annotations"] = json!({"long": "x".repeat(200_000)});
        });
        desk.set_command("exit 7");
        for moment in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
            desk.configure(|config| config["hooks"] = json!({moment: [{"path": "/bin/true", "args": ["true"]}]}));
            let output = desk.run(&["run", "--bundle", "target/bundle", "one"]);
            assert_eq!(output.code, 7, "{moment}: {output}");
        }
    });
}
