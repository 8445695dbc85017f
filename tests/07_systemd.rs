//! Step 7, where systemd makes the groups. It is a real one, booted for each test as PID 1 of a few namespaces; its limits
//! count where the controllers are in the tree of cgroup v2, and are asked for only there.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use classroom::lab::{binary, not_run};
use classroom::systemd::{Machine, USER, is_installed};
use classroom::{Lab, World, check, lab};
use serde_json::{Value, json};

/// The runtime on a machine with systemd, and a bundle.
struct Desk {
    machine: Machine,
    bundle: String,
}

/// What `cellblock` is in a script.
fn definition(lab: &Lab) -> String {
    // A container keeps what it was given as standard output: so that is a file, for the end of a pipe would not come
    // before the container's.
    let (runtime, folder) = (binary("cellblock"), lab.folder.display().to_string());
    format!(
        "cellblock() {{ timeout --foreground 60 '{}' --root /run/cells --systemd-cgroup \"$@\" >'{folder}/said' 2>&1 </dev/null; \
         local code=$?; cat '{folder}/said'; rm '{folder}/said'; return $code; }}\n",
        runtime.display()
    )
}

impl Desk {
    fn new(lab: &Lab) -> Desk {
        let bundle = lab.folder.join("bundle").display().to_string();
        fs::create_dir(&bundle).expect("the lab is ours");
        std::os::unix::fs::symlink(&lab.rootfs, format!("{bundle}/rootfs")).expect("the lab is ours");
        let desk = Desk { machine: Machine::boot(lab), bundle };
        desk.succeed(lab, &format!("cellblock spec --bundle '{}'", desk.bundle));
        desk.configure(|config| {
            config["process"]["terminal"] = json!(false);
            config["process"]["args"] = json!(["sleep", "1000"]);
            config["linux"]["cgroupsPath"] = json!("system.slice:test:one");
            config["linux"]["resources"] = json!({});
        });
        desk
    }

    fn configure(&self, change: impl FnOnce(&mut Value)) {
        let file = format!("{}/config.json", self.bundle);
        let mut config: Value = serde_json::from_slice(&fs::read(&file).expect("spec wrote it")).expect("it is JSON");
        change(&mut config);
        fs::write(file, config.to_string()).expect("it is ours");
    }

    fn sh(&self, lab: &Lab, script: &str) -> (i32, String) {
        self.machine.sh(&format!("{}{}", definition(lab), script.replace("BUNDLE", &format!("'{}'", self.bundle))))
    }

    fn succeed(&self, lab: &Lab, script: &str) -> String {
        let (code, said) = self.sh(lab, script);
        assert_eq!(code, 0, "{script}: {said}");
        said
    }

    /// It must fail, and say this.
    fn fail(&self, lab: &Lab, script: &str, says: &str) {
        let (code, said) = self.sh(lab, script);
        assert!(code == 125 && said.contains(says), "{script}: {code}: {said}");
    }

    /// Of a scope, systemd remembers nothing, and there is no group of that name.
    fn assert_gone(&self, lab: &Lab, unit: &str) {
        assert_eq!(self.machine.properties(unit, "LoadState"), "LoadState=not-found\n");
        assert_eq!(self.succeed(lab, &format!("find /sys/fs/cgroup -name {unit}; ls /run/cells")), "", "{unit}");
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.bundle);
    }
}

/// A test with systemd in its lab.
fn with_systemd(test: &str, body: impl FnOnce()) {
    let has_v2 = cgroups::hierarchies::Hierarchies::read().expect("/proc is there").unified.is_some();
    match (is_installed(), has_v2) {
        (true, true) => body(),
        (false, _) => not_run(test, "systemd and dbus are not installed: scripts/bootstrap --with engines"),
        (_, false) => not_run(test, "no tree of cgroup v2 is mounted"),
    }
}

#[test]
fn a_life_in_a_scope() {
    with_systemd("a_life_in_a_scope", || {
        lab!(World::Root, |lab| {
            let desk = Desk::new(lab);
            let unit = "test-one.scope";
            desk.succeed(lab, "cellblock create --bundle BUNDLE one");
            let known = "Slice,Delegate,ControlGroup,ActiveState,Transient,Description,DefaultDependencies";
            let expected = "Slice=system.slice\nControlGroup=/system.slice/test-one.scope\nDelegate=yes\n\
                            Description=cellblock's container one\nActiveState=active\nTransient=yes\n\
                            DefaultDependencies=no\n";
            let sorted = |text: &str| {
                let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
                lines.sort();
                lines
            };
            assert_eq!(sorted(&desk.machine.properties(unit, known)), sorted(expected));
            desk.succeed(lab, "cellblock start one");
            // The namespace of groups was made when the process was in its own already.
            assert!(desk.succeed(lab, "cellblock exec one cat /proc/self/cgroup").contains("0::/\n"));
            assert!(desk.succeed(lab, "cellblock exec one ls /sys/fs/cgroup").contains("cgroup.procs"));
            desk.succeed(lab, "cellblock exec --detach one sleep 1000");
            let pids: Vec<u32> = serde_json::from_str(&desk.succeed(lab, "cellblock ps --format json one")).unwrap();
            let procs = desk.succeed(lab, "cat /sys/fs/cgroup/system.slice/test-one.scope/cgroup.procs");
            assert_eq!((pids.len(), procs.lines().count()), (2, 2), "{pids:?} {procs}");
            desk.succeed(lab, "cellblock pause one");
            let frozen = "cat /sys/fs/cgroup/system.slice/test-one.scope/cgroup.freeze";
            assert_eq!(desk.succeed(lab, frozen), "1\n");
            desk.succeed(lab, "cellblock resume one");
            desk.succeed(lab, "cellblock kill --all one KILL");
            desk.succeed(lab, "cellblock delete --force one");
            desk.assert_gone(lab, unit);
            desk.succeed(lab, "cellblock delete --force one");
        });
    });
}

/// In both places; and what systemd does when it is told to read everything anew changes nothing.
#[test]
fn limits_are_systemds_too() {
    with_systemd("limits_are_systemds_too", || {
        lab!(World::Root, |lab| {
            let desk = Desk::new(lab);
            desk.configure(|config| {
                config["linux"]["cgroupsPath"] = json!("cell-block.slice:test:one");
                config["annotations"] = json!({
                    "org.systemd.property.TimeoutStopSec": "7",
                    "org.systemd.property.Wants": "['lab.target']",
                });
                if desk.machine.has("memory") {
                    config["linux"]["resources"] = json!({
                        "memory": { "limit": 67_108_864, "swap": 67_108_864, "reservation": 33_554_432 },
                        "cpu": { "shares": 2048, "quota": 12_345, "period": 50_000, "cpus": "0" },
                        "pids": { "limit": 64 },
                        "hugepageLimits": [{ "pageSize": "2MB", "limit": 4_194_304 }],
                        "unified": { "memory.high": "60000000" },
                    });
                }
            });
            desk.succeed(lab, "cellblock create --bundle BUNDLE one && cellblock start one");
            let properties = desk.machine.properties("test-one.scope", "ControlGroup,TimeoutStopUSec,Wants");
            for line in
                ["ControlGroup=/cell.slice/cell-block.slice/test-one.scope", "TimeoutStopUSec=7s", "Wants=lab.target"]
            {
                assert!(properties.lines().any(|known| known == line), "{line}: {properties}");
            }
            if desk.machine.has("memory") {
                limits_in_both_places(&desk, lab); // else v1 has the controllers, and scripts/vm runs this
            }
            desk.succeed(lab, "cellblock delete --force one");
            desk.assert_gone(lab, "test-one.scope");
        });
    });
}

fn limits_in_both_places(desk: &Desk, lab: &Lab) {
    let unit = "test-one.scope";
    let group = "/sys/fs/cgroup/cell.slice/cell-block.slice/test-one.scope";
    let files = format!(
        "cd {group} && head memory.max memory.swap.max memory.low memory.high cpu.weight cpu.max cpuset.cpus \
                 pids.max hugetlb.2MB.max"
    );
    let written = desk.succeed(lab, &files);
    for line in ["67108864", "0", "33554432", "59998208", "12345 50000", "64", "4194304"] {
        assert!(written.lines().any(|written| written == line), "{line}: {written}");
    }
    let known = "MemoryMax,MemorySwapMax,MemoryLow,MemoryHigh,CPUQuotaPerSecUSec,CPUQuotaPeriodUSec,TasksMax,\
                         AllowedCPUs";
    let properties = desk.machine.properties(unit, known);
    for line in [
        "MemoryMax=67108864",
        "MemorySwapMax=0",
        "MemoryLow=33554432",
        "MemoryHigh=60000000",
        "CPUQuotaPerSecUSec=250ms",
        "CPUQuotaPeriodUSec=50ms",
        "TasksMax=64",
        "AllowedCPUs=0",
    ] {
        assert!(properties.lines().any(|known| known == line), "{line}: {properties}");
    }
    desk.succeed(lab, "cellblock update --memory 134217728 --memory-swap 134217728 --cpu-quota 25000 one");
    let changed = desk.machine.properties(unit, "MemoryMax,CPUQuotaPerSecUSec");
    assert!(changed.contains("=134217728") && changed.contains("=500ms"), "{changed}");
    let before = desk.succeed(lab, &files);
    assert!(before.contains("134217728\n") && before.contains("25000 50000\n"), "{before}");
    desk.succeed(lab, "systemctl daemon-reload");
    desk.succeed(lab, "systemctl set-property --runtime test-one.scope TasksMax=65"); // it writes all anew
    assert_eq!(desk.succeed(lab, &files), before.replace("\n64\n", "\n65\n"));
}

#[test]
fn what_fails_leaves_no_unit() {
    with_systemd("what_fails_leaves_no_unit", || {
        lab!(World::Root, |lab| {
            let desk = Desk::new(lab);
            let create = "cellblock create --bundle BUNDLE one";
            let path = |path: &str| desk.configure(|config| config["linux"]["cgroupsPath"] = json!(path));
            for (wrong, says) in [
                ("/cellblock/one", "this is SLICE:PREFIX:NAME\nhint: such as system.slice:docker:c0ffee"),
                ("a--b.slice:x:one", "\"a--b.slice\" is no name of a slice"),
                ("system.slice:x:one.slice", "a slice has no processes of its own"),
                ("system.slice:x:o+e", "\"x-o+e.scope\" is no name of a unit"),
            ] {
                path(wrong);
                desk.fail(lab, create, says);
            }
            path("system.slice:test:one");
            let annotation = |value: &str| {
                desk.configure(|config| config["annotations"] = json!({ "org.systemd.property.KillMode": value }));
            };
            annotation("what");
            desk.fail(lab, create, "its value cannot be read");
            annotation("'what'");
            desk.fail(lab, create, "systemd refuses: ");
            desk.configure(|config| config["annotations"] = json!({}));
            desk.assert_gone(lab, "test-one.scope");
            let args = |words: &[&str]| desk.configure(|config| config["process"]["args"] = json!(words));
            args(&["nosuch"]);
            let (code, said) = desk.sh(lab, create);
            assert!(code == 127 && said.contains("executable file not found in $PATH"), "{code} {said}");
            desk.assert_gone(lab, "test-one.scope");
            // A name that is taken: whoever has it keeps it, and goes on.
            args(&["sleep", "1000"]);
            desk.succeed(lab, create);
            desk.fail(lab, "cellblock create --bundle BUNDLE two", "a unit of this name is there already, and in use");
            assert!(desk.succeed(lab, "cellblock state one").contains("\"created\""));
            desk.succeed(lab, "cellblock delete one");
            desk.assert_gone(lab, "test-one.scope");
            // And one that is only remembered, for it has failed, is not taken.
            args(&["sh", "-c", "exit 3"]);
            desk.succeed(lab, "cellblock run --bundle BUNDLE one; test $? = 3");
            desk.assert_gone(lab, "test-one.scope");
        });
    });
}

/// Whenever the runtime is killed, a later `delete --force` finds on disk what it needs.
#[test]
fn killed_at_some_moments() {
    with_systemd("killed_at_some_moments", || {
        lab!(World::Root, |lab| {
            let desk = Desk::new(lab);
            let runtime = binary("cellblock").display().to_string();
            desk.succeed(lab, "cellblock create --bundle BUNDLE one && cellblock delete one"); // all of it is in memory
            let begin = Instant::now();
            desk.succeed(lab, "cellblock create --bundle BUNDLE one");
            let whole = begin.elapsed().as_secs_f64();
            desk.succeed(lab, "cellblock delete one");
            let mut killed = 0;
            for moment in (1..=10).map(|tenth| whole * f64::from(tenth) / 10.0) {
                let create = format!(
                    "timeout --signal KILL {moment:.4} '{runtime}' --root /run/cells --systemd-cgroup create \
                     --bundle BUNDLE one >/dev/null 2>&1"
                );
                let (code, _) = desk.sh(lab, &create);
                killed += i32::from(code == 137);
                desk.succeed(lab, "cellblock delete --force one");
                desk.assert_gone(lab, "test-one.scope");
            }
            assert!(killed > 0);
        });
    });
}

/// What the parent does while the child waits, without the lengths of messages, which come in pieces as it happens.
/// What is said to systemd, and why. What is heard is left out: two messages may come in one read, or each in its own.
fn conversation(said: &str) -> String {
    let lines = said.lines().filter(|line| line.starts_with("parent") && !line.contains("recv(<bus>"));
    let of_it = lines.skip_while(|line| !line.contains("clone3(")).take_while(|line| !line.contains("which devices"));
    let mut lines: Vec<String> = of_it.map(without_length).collect();
    lines.dedup();
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn without_length(line: &str) -> String {
    match line.split_once("(<bus>") {
        Some((call, rest)) if call.ends_with("send") => {
            format!("{call}(<bus>, ...{}", &rest[rest.find(')').unwrap()..])
        }
        _ => line.to_owned(),
    }
}

#[test]
fn over_the_bus() {
    with_systemd("over_the_bus", || {
        lab!(World::Root, |lab| {
            let desk = Desk::new(lab);
            desk.succeed(lab, "systemctl start dbus.socket dbus.service");
            desk.succeed(lab, "until busctl status org.freedesktop.systemd1 >/dev/null 2>&1; do sleep 0.1; done");
            desk.configure(|config| drop(config["linux"].as_object_mut().unwrap().remove("cgroupsPath")));
            let said = desk.succeed(lab, "cellblock --explain run --detach --bundle BUNDLE one");
            check!(
                "runtime_systemd",
                format!("# cellblock --systemd-cgroup --explain run ...\n{}", conversation(&said))
            );
            assert!(desk.machine.properties("cellblock-one.scope", "ControlGroup").contains("/system.slice/"));
            desk.succeed(lab, "cellblock delete --force one");
            desk.assert_gone(lab, "cellblock-one.scope");
        });
    });
}

/// An ordinary user asks his own systemd, from a session that is not his to change. podman makes him root of a user namespace
/// before it calls a runtime, and keeps that by a process that pauses; the files lie where he can reach them, wherever the workshop lies.
#[test]
fn rootless() {
    with_systemd("rootless", || {
        lab!(World::Root, |lab| {
            let desk = Desk::new(lab);
            desk.configure(|config| {
                config["linux"]["cgroupsPath"] = json!(":libpod:one");
                let map = json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
                config["linux"]["uidMappings"] = map.clone();
                config["linux"]["gidMappings"] = map;
                config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
                config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/dev/mqueue");
                config["mounts"].as_array_mut().unwrap().iter_mut().for_each(|mount| {
                    let options = mount["options"].as_array_mut();
                    options.into_iter().for_each(|all| all.retain(|option| option != "gid=5"));
                });
                if desk.machine.has("memory") {
                    config["linux"]["resources"] =
                        json!({ "memory": { "limit": 67_108_864 }, "pids": { "limit": 64 } });
                }
            });
            let place = format!(
                "mkdir -p /run/place/bundle/rootfs && mount --bind '{}' /run/place/bundle/rootfs && \
                 cp '{}/config.json' /run/place/bundle && chmod 644 /run/place/bundle/config.json && \
                 touch /run/place/cellblock && mount --bind '{}' /run/place/cellblock && \
                 systemctl start dbus.socket dbus.service user.service && \
                 {{ setpriv --reuid {USER} --regid {USER} --clear-groups unshare --user --map-root-user --mount \
                 --propagation private sleep 1000 >/dev/null 2>&1 & }} && echo $! >/run/place/pause && \
                 until [[ $(cat /proc/$!/comm) = sleep ]]; do :; done",
                lab.rootfs.display(),
                desk.bundle,
                binary("cellblock").display()
            );
            desk.succeed(lab, &place);
            let as_user = |script: &str| {
                let folder = format!("/run/user/{USER}");
                let cellblock = format!(
                    "cellblock() {{ /run/place/cellblock --root {folder}/cells --systemd-cgroup \"$@\" \
                     </dev/null >{folder}/said 2>&1; local code=$?; cat {folder}/said; return $code; }}"
                );
                let line = format!(
                    "cat >/run/place/script <<'END'\n{cellblock}\n{script}\nEND\n\
                     XDG_RUNTIME_DIR={folder} nsenter --target $(cat /run/place/pause) --user --mount \
                     bash /run/place/script"
                );
                desk.succeed(lab, &line)
            };
            as_user("cellblock create --bundle /run/place/bundle one && cellblock start one");
            let group = format!("user.slice/user-{USER}.slice/user.service/user.slice/libpod-one.scope");
            let show = "systemctl --user show --property ControlGroup,MemoryMax,TasksMax libpod-one.scope";
            let known = as_user(show);
            assert!(known.contains(&format!("ControlGroup=/{group}\n")), "{known}");
            if desk.machine.has("memory") {
                assert!(known.contains("MemoryMax=67108864\n") && known.contains("TasksMax=64\n"), "{known}");
                let files = desk.succeed(lab, &format!("cd /sys/fs/cgroup/{group}; cat memory.max pids.max"));
                assert_eq!(files, "67108864\n64\n");
                as_user("cellblock update --pids-limit 65 one");
                assert!(as_user(show).contains("TasksMax=65\n"));
            }
            as_user("cellblock exec --detach one sleep 1000");
            let procs = desk.succeed(lab, &format!("cat /sys/fs/cgroup/{group}/cgroup.procs"));
            assert_eq!(procs.lines().count(), 2, "{procs}");
            as_user("cellblock pause one && cellblock resume one && cellblock delete --force one");
            assert_eq!(desk.succeed(lab, "find /sys/fs/cgroup -name 'libpod*'"), "");
            assert!(!as_user("systemctl --user list-units --all '*.scope'").contains("libpod"));
        });
    });
}

/// podman asks for `machine.slice:libpod:ID`, and looks into the group by itself.
#[test]
fn podman() {
    const NEEDED: [&str; 2] = ["/usr/bin/podman", "/usr/bin/conmon"];
    if !NEEDED.iter().all(|file| std::path::Path::new(file).exists()) {
        return not_run("podman", "it is not installed: scripts/bootstrap --with engines");
    }
    with_systemd("podman", || {
        lab!(World::Root, |lab| {
            let machine = Machine::boot(lab);
            let folder = lab.folder.display().to_string();
            let settings = format!(
                "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\nlog_driver = \"k8s-file\"\n\
                 [engine]\ncgroup_manager = \"systemd\"\nruntime = \"{}\"\nevents_logger = \"file\"\n\
                 tmp_dir = \"/run/engine\"\n[network]\nnetwork_config_dir = \"/run/networks\"\n",
                binary("cellblock").display()
            );
            let storage = "[storage]\ndriver = \"vfs\"\ngraphroot = \"/run/storage\"\nrunroot = \"/run/runroot\"\n";
            fs::write(lab.folder.join("containers.conf"), settings).expect("it is ours");
            fs::write(lab.folder.join("storage.conf"), storage).expect("it is ours");
            let podman = |line: &str| {
                machine.succeed(&format!(
                    "export CONTAINERS_CONF='{folder}/containers.conf' CONTAINERS_STORAGE_CONF='{folder}/storage.conf'\n{line}"
                ))
            };
            podman("systemctl start dbus.socket dbus.service; mount -t tmpfs tmpfs /dev/shm");
            podman(&format!("tar --directory '{}' --create . | podman import --quiet - box", lab.rootfs.display()));
            let limits = if machine.has("memory") { "--memory 64m --pids-limit 64" } else { "--pids-limit 0" };
            let run = format!("podman run {limits} --detach --name one --network none box sleep 1000");
            let id = podman(&run).trim().to_owned();
            let unit = format!("libpod-{id}.scope");
            let known = machine.properties(&unit, "Slice,ActiveState,MemoryMax,TasksMax");
            assert!(known.contains("Slice=machine.slice\n") && known.contains("ActiveState=active\n"), "{known}");
            if machine.has("memory") {
                assert!(known.contains("MemoryMax=67108864\n") && known.contains("TasksMax=64\n"), "{known}");
            }
            assert_eq!(podman("podman exec one echo hello"), "hello\n");
            podman("podman pause one && podman unpause one");
            podman("podman rm --force --time 0 one");
            assert_eq!(machine.properties(&unit, "LoadState"), "LoadState=not-found\n");
            assert_eq!(podman(&format!("find /sys/fs/cgroup -name {unit}; ls /run/cellblock")), "");
            machine.succeed(&format!("rm '{folder}/containers.conf' '{folder}/storage.conf'"));
        });
    });
}

#[test]
fn where_no_systemd_runs() {
    lab!(World::Root, |lab| {
        let runtime = binary("cellblock");
        for option in ["--systemd-cgroup", "--cgroup-manager=systemd"] {
            let mut command = Command::new("unshare");
            command.args([
                "--mount",
                "sh",
                "-c",
                "mount -t tmpfs tmpfs /run && mkdir /run/b && ln -s \"$1\" /run/b/rootfs && \"$0\" spec -b /run/b && \
                 sed -i s/true/false/ /run/b/config.json && \"$0\" $2 create -b /run/b one",
            ]);
            command.arg(&runtime).arg(&lab.rootfs).arg(option).stdin(Stdio::null());
            let output = command.output().expect("unshare is there");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let expected = "cellblock: --systemd-cgroup: systemd does not run on this machine\nhint: leave it out";
            assert!(output.status.code() == Some(125) && said.starts_with(expected), "{said}");
        }
    });
}
