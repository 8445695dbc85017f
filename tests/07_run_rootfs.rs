//! Step 7, `run --rootfs`: the options of all lessons instead of a bundle, and the bundle that they would be.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use classroom::lab::binary;
use classroom::trace::orphans_end_within;
use classroom::world::{HOST, fetch};
use classroom::{Lab, Output, World, attacks, check, every_step, lab};

const LESSON: &str = "privileges";
const RUNTIME: &str = "cellblock";

/// A lab with a place for containers, and one for a bundle. Both are gone when it is dropped.
struct Prison<'a> {
    lab: &'a Lab,
    id: String,
    state: PathBuf,
    bundle: PathBuf,
}

impl<'a> Prison<'a> {
    fn new(lab: &'a Lab) -> Prison<'a> {
        // All labs share the tree of groups: the name must be this one's alone.
        let id = format!("rootfs-{}", fs::metadata(&lab.folder).unwrap().ino());
        Prison { lab, id, state: lab.folder.join("state"), bundle: lab.folder.join("bundle") }
    }

    /// A verb of the runtime's.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.lab.launcher(RUNTIME, &[]);
        command.env_remove("CELLBLOCK_ROOTFS").arg("--root").arg(&self.state).args(words);
        command
    }

    fn verb(&self, words: &[&str]) -> Output {
        self.lab.output(format!("$ cellblock {}", words.join(" ")), self.command(words))
    }

    /// What stands before the options: `run --rootfs DIR`.
    fn words<'w>(&'w self, verb: &'w str, options: &[&'w str]) -> Vec<&'w str> {
        let rootfs = self.lab.rootfs.to_str().expect("labs have plain names");
        [&[verb, "--rootfs", rootfs], options].concat()
    }

    fn run(&self, options: &[&str]) -> Output {
        let shown = format!("$ cellblock run --rootfs target/rootfs/busybox {}", options.join(" "));
        self.lab.output(shown, self.command(&self.words("run", options)))
    }

    fn start(&self, options: &[&str]) -> Child {
        self.command(&self.words("run", options)).stdout(Stdio::piped()).spawn().expect("it was built")
    }

    /// The first line that a launcher prints; it must end by itself, while its container lives on.
    fn first_line(&self, options: &[&str]) -> String {
        let mut launcher = self.start(options);
        let line = every_step::wait_for_a_line(&mut launcher);
        assert!(launcher.wait().unwrap().success());
        line
    }

    /// The bundle that the options would be, and what comes of it.
    fn run_as_bundle(&self, options: &[&str]) -> Output {
        fs::create_dir(&self.bundle).unwrap();
        let bundle = self.bundle.to_str().unwrap();
        let written = self.verb(&self.words("spec", &[&["-b", bundle], options].concat()));
        assert_eq!((written.code, written.text.as_str()), (0, ""), "{written}");
        let output = self.verb(&["run", &self.id, "-b", bundle]);
        fs::remove_dir_all(&self.bundle).unwrap();
        output
    }

    /// The same container three times: as step 6 starts it, without a bundle, and from the bundle.
    fn same(&self, options: &[&str]) -> String {
        // The host's own may lie on a file system that cannot show other owners (the root of a virtual machine).
        let etc = self.lab.rootfs.join("etc").display().to_string();
        let options: Vec<String> = options.iter().map(|word| word.replace("ETC:", &format!("{etc}:"))).collect();
        let options = &options.iter().map(String::as_str).collect::<Vec<_>>()[..];
        let lesson = self.lab.run(LESSON, options);
        let (rootfs, bundle) = (self.run(options), self.run_as_bundle(options));
        for (who, output) in [("run --rootfs", &rootfs), ("run -b", &bundle)] {
            let text = without_nodes(&output.text);
            for (here, there) in text.lines().zip(lesson.text.lines()) {
                assert_eq!(here, there, "{who} {options:?}");
            }
            assert_eq!((&text, output.code), (&lesson.text, lesson.code), "{who} {options:?}");
        }
        lesson.text
    }
}

/// A report without the device nodes as mounts. In a user namespace the runtime's are mounts of their own, for a configuration may
/// put them anywhere; step 6 makes a whole /dev. The cell owns them in either case.
fn without_nodes(report: &str) -> String {
    const NODES: [&str; 6] = ["full", "null", "random", "tty", "urandom", "zero"];
    NODES.iter().fold(report.to_owned(), |text, node| text.replace(&format!(" /dev/{node},"), ""))
}

impl Drop for Prison<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.bundle);
        // It is there after the first launch, and must be empty then: else the lab sees that something is left.
        let _ = fs::remove_dir(&self.state);
    }
}

/// The options that the inmate's report tells something of.
const TOLD: [&[&str]; 9] = [
    &["--net", "none"],
    &["--net", "host", "--hostname", "cell"],
    &["--net", "none", "--userns", "host"],
    &["--net", "none", "--userns", "0:2000000000:65536"],
    &["--net", "none", "--user", "1000:100", "--cap-add", "net_raw", "--cap-drop", "mknod"],
    &["--net", "none", "--seccomp", "unconfined", "--init", "--ulimit", "nofile=64:128"],
    &["--net", "none", "--allow-new-privs", "--cap-add", "ALL", "--cap-drop", "SYS_ADMIN", "--userns", "host"],
    &["--net", "none", "--read-only", "--tmpfs", "/tmp", "--volume", "ETC:/mnt:ro", "--volume", "ETC:/srv"],
    &["--net", "none", "--pids", "64", "--memory", "64m", "--env", "A=b", "--workdir", "/tmp", "--boottime", "100"],
];

#[test]
fn the_same_report_as_step_6() {
    lab!(World::Root, |lab| {
        let prison = Prison::new(lab);
        for options in TOLD {
            let report = prison.same(&[options, &["inmate", "report"]].concat());
            assert!(report.contains("capabilities  "), "{report}");
        }
    });
}

/// What the report does not tell: who owns what, variables, names, clocks.
#[test]
fn the_same_to_whoever_asks() {
    const ASK: &str = "id; umask; pwd; env | sort; ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj; \
        grep -E '^(Cap|NoNewPrivs|Seccomp|Groups)' /proc/self/status; cat /etc/hostname /etc/hosts /etc/resolv.conf; \
        ls -ln /etc/hosts | cut -c1-40; ls -ldn / /root /tmp /dev /dev/shm /mnt | cut -c1-32; \
        cut -c1-4 /proc/uptime; ls /proc/self/ns; echo x > /tmp/x && ls -ln /tmp/x | cut -c1-32 && rm /tmp/x";
    lab!(World::Root, |lab| {
        let prison = Prison::new(lab);
        let ask = |options: &[&str]| {
            prison.same(&[&["--net", "none", "--boottime", "1000000"], options, &["sh", "-c", ASK]].concat())
        };
        ask(&[]);
        ask(&["--umask", "027", "--oom-score-adj", "5", "--ulimit", "nofile=64:128", "--hostname", "cell"]);
        ask(&["--user", "1000:100", "--env", "HOME=/tmp", "--dns", "10.76.0.1", "--add-host", "db:10.76.0.9"]);
        ask(&["--userns", "0:2000000000:65536", "--volume", "ETC:/mnt:ro", "--tmpfs", "/tmp:size=1m"]);
        let passwd = lab.rootfs.join("etc/passwd");
        let before = fs::read_to_string(&passwd).unwrap();
        fs::write(&passwd, format!("{before}web:x:33:34::/var:/bin/sh\n")).unwrap();
        let text = ask(&["--user", "web"]);
        fs::write(&passwd, before).unwrap();
        assert!(text.contains("uid=33(web) gid=34") && text.contains("HOME=/var"), "{text}");
    });
}

/// A profile in Docker's words, with conditions that a configuration does not know.
#[test]
fn the_same_profile() {
    const PROFILE: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errno": "EXDEV", "excludes": {"caps": ["CAP_MKNOD"]}},
        {"names": ["symlink", "symlinkat"], "action": "SCMP_ACT_ERRNO", "includes": {"caps": ["CAP_SYS_BOOT"]}}]}"#;
    lab!(World::Root, |lab| {
        let prison = Prison::new(lab);
        let file = lab.folder.join("profile.json");
        fs::write(&file, PROFILE).unwrap();
        for capability in ["--cap-drop=mknod", "--cap-add=sys_boot"] {
            let script = "mkdir /tmp/x; ln -s x /tmp/y; ls /tmp; rm -rf /tmp/x /tmp/y";
            let options = ["--net", "none", "--seccomp", file.to_str().unwrap(), capability, "sh", "-c", script];
            let text = prison.same(&options);
            assert_eq!(text.contains("ln:"), capability.contains("boot"), "{text}");
            assert_eq!(text.contains("cross-device") || text.contains("Cross-device"), capability.contains("mknod"));
        }
        fs::remove_file(file).unwrap();
    });
}

#[test]
fn limits() {
    // Both versions' files; those of the other are not there.
    const ASK: &str = "cd /sys/fs/cgroup; for file in memory.max memory/memory.limit_in_bytes pids.max pids/pids.max \
        cpu.max cpu/cpu.cfs_quota_us cpuset.cpus cpuset/cpuset.cpus memory.swap.max cpu.weight; do \
        test -e $file && echo ${file##*/} $(cat $file); done; true";
    lab!(World::Root, |lab| {
        let prison = Prison::new(lab);
        let limits = ["--memory", "64m", "--pids", "64", "--cpus", "0.5", "--cpuset-cpus", "0", "--cpu-weight", "200"];
        let text = prison.same(&[&["--net", "none"], &limits[..], &["sh", "-c", ASK]].concat());
        assert!(text.contains("67108864") && text.contains("pids.max 64") && text.contains("50000"), "{text}");
        let killed = prison.run(&["--net", "none", "--memory", "16m", "inmate", "attack", "memory"]);
        assert!(killed.text.contains("wanted more than 16 MiB"), "{killed}");
        let used = prison.run(&["--net", "none", "--stats", "true"]);
        assert!(used.text.contains("memory"), "{used}");
    });
}

#[test]
fn the_same_for_an_ordinary_user() {
    lab!(World::User, |lab| {
        let prison = Prison::new(lab);
        for options in [&[][..], &["--net", "host"], &["--hostname", "cell", "--tmpfs", "/tmp", "--init"]] {
            let report = prison.same(&[options, &["inmate", "report"]].concat());
            assert!(report.contains("uid map"), "{report}");
        }
        assert_eq!(prison.run(&["sh", "-c", "exit 7"]).code, 7);
        assert_eq!(prison.run(&["--net", "bridge", "true"]).code, 125);
    });
}

#[test]
fn exit_codes() {
    lab!(World::Root, |lab| {
        let prison = Prison::new(lab);
        let code = |words: &[&str]| prison.run(&[&["--net", "none"], words].concat()).code;
        assert_eq!(code(&["true"]), 0);
        assert_eq!(code(&["sh", "-c", "exit 7"]), 7);
        assert_eq!(code(&["--init", "sh", "-c", "exit 8"]), 8);
        assert_eq!(code(&["/etc/passwd"]), 126);
        assert_eq!(code(&["nosuch"]), 127);
        assert_eq!(code(&["--init", "nosuch"]), 127);
        assert_eq!(code(&["--init", "sh", "-c", "kill -KILL $$"]), 137);
        let mut child = prison.start(&["--net", "none", "--init", "sh", "-c", "echo up; exec sleep 20"]);
        every_step::wait_for_a_line(&mut child);
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert_eq!(classroom::run::code(child.wait().unwrap()), 143);
    });
}

#[test]
fn failures() {
    lab!(World::Root, |lab| {
        let prison = Prison::new(lab);
        let of_run: [&[&str]; 10] = [
            &["--net", "none", "nosuch"],
            &["--nosuch", "ls"],
            &["--bundle", "/tmp", "ls"],
            &["--memory", "1", "ls"],
            &["--net", "none", "--user", "nosuch", "ls"],
            &["--net", "none", "--name", "a/b", "ls"],
            &["--net", "none", "--workdir", "/etc/passwd", "ls"],
            &["--net", "host", "--publish", "80:80", "ls"],
            &["--tty", "--no-tty", "ls"],
            &["--net", "none", "--volume", "/nosuch:/mnt", "ls"],
        ];
        let mut told: String = of_run.iter().map(|words| format!("{}\n", prison.run(words))).collect();
        let without: [&[&str]; 7] = [
            &["run"],
            &["run", "one", "two"],
            &["run", "--memory", "64m", "one"],
            &["run", "--tty", "one"],
            &["run", "--rootfs", "/nosuch", "ls"],
            &["spec", "ls"],
            &["spec", "--hostname", "cell"],
        ];
        told.extend(without.iter().map(|words| format!("{}\n", prison.verb(words))));
        let bundle = prison.verb(&prison.words("spec", &["-p", "8080:80", "ls"]));
        told += &format!("{bundle}\n").replace(lab.rootfs.to_str().unwrap(), "target/rootfs/busybox");
        check!("run_rootfs_failures", told);
    });
}

/// `spec` writes once, and by itself takes no network that nobody would make.
#[test]
fn spec_of_the_options() {
    lab!(World::Root, |lab| {
        let prison = Prison::new(lab);
        fs::create_dir(&prison.bundle).unwrap();
        let bundle = prison.bundle.to_str().unwrap();
        let words = prison.words("spec", &["-b", bundle, "--hostname", "cell", "--memory", "64m", "ls", "-l"]);
        let written = prison.verb(&words);
        assert!(written.code == 0 && written.text.contains("its network is none and not a bridge"), "{written}");
        let config = fs::read_to_string(prison.bundle.join("config.json")).unwrap();
        let config: serde_json::Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["process"]["args"], serde_json::json!(["ls", "-l"]));
        assert_eq!(config["linux"]["resources"]["memory"]["limit"], 64 << 20);
        assert_eq!(config["annotations"]["cellblock.root.idmap"], "true");
        assert_eq!(fs::read_to_string(prison.bundle.join("hostname")).unwrap(), "cell\n");
        let again = prison.verb(&words);
        assert!(again.code == 125 && again.text.contains("file exists"), "{again}");
    });
}

/// Nothing in the root filesystem leads out, nor keeps us waiting, while it has not been entered yet.
#[test]
fn users_of_a_hostile_root_filesystem() {
    lab!(World::Root, |lab| {
        let prison = Prison::new(lab);
        let outside = lab.folder.join("passwd");
        fs::write(&outside, "canary:x:7:7::/:/bin/sh\n").unwrap();
        let passwd = lab.rootfs.join("etc/passwd");
        fs::remove_file(&passwd).unwrap();
        symlink(&outside, &passwd).unwrap();
        let who = || prison.run(&["--net", "none", "--user", "canary", "id"]);
        assert!(who().text.contains("no user"), "{}", who());
        fs::remove_file(&passwd).unwrap();
        nix::unistd::mkfifo(&passwd, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(who().text.contains("no user"), "{}", who());
        fs::remove_file(outside).unwrap();
        lab.restore();
    });
}

/// What a person does with a container that goes on alone.
#[test]
fn detached() {
    lab!(World::Root, |lab| {
        let prison = Prison::new(lab);
        let options = ["--detach", "--net", "none", "--init", "--hostname", "cell", "sleep", "20"];
        let id = prison.first_line(&options);
        let id = id.trim();
        assert!(prison.verb(&["list"]).text.contains(&format!("{id}  ")));
        assert_eq!(prison.verb(&["exec", id, "hostname"]).text, "cell\n");
        assert_eq!(prison.verb(&["exec", id, "cat", "/proc/1/comm"]).code, 0);
        assert!(prison.verb(&["list", "--format", "json"]).text.contains("\"status\":\"running\""));
        assert_eq!(prison.verb(&["delete", "--force", id]).code, 0);
        assert!(orphans_end_within(Duration::from_secs(2)));
        let named = prison.first_line(&["-d", "--net", "none", "--name", &prison.id, "sleep", "20"]);
        assert_eq!(named.trim(), prison.id);
        assert_eq!(prison.run(&["--net", "none", "--name", &prison.id, "true"]).code, 125, "the name is taken");
        assert_eq!(prison.verb(&["delete", "--force", &prison.id]).code, 0);
    });
}

/// Whoever kills the launcher kills the container; what is remembered can be deleted.
#[test]
fn killed() {
    lab!(World::Root, |lab| {
        let prison = Prison::new(lab);
        let mut child = prison.start(&["--net", "none", "--name", &prison.id, "sh", "-c", "echo up; exec sleep 20"]);
        every_step::wait_for_a_line(&mut child);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(orphans_end_within(Duration::from_secs(2)), "it outlived its launcher");
        assert!(prison.verb(&["list"]).text.contains("stopped"));
        assert_eq!(prison.verb(&["delete", &prison.id]).code, 0);
    });
}

#[test]
fn a_terminal() {
    lab!(World::Root, |lab| {
        let prison = Prison::new(lab);
        let line = |options: &[&str]| {
            let words = prison.words("run", &[&["--net", "none"], options].concat());
            let words: String = words.iter().map(|word| format!(" '{word}'")).collect();
            let mut command = Command::new("script");
            let script = format!("'{}' --root '{}'{words}", binary(RUNTIME).display(), prison.state.display());
            command.args(["-qec", &script, "/dev/null"]).stdin(Stdio::null());
            lab.output(String::new(), command).text
        };
        // Something is echoed, too: script types an end of input.
        assert!(line(&["tty"]).contains("/dev/pts/0"), "of its own, for we sit at one: {}", line(&["tty"]));
        assert!(!line(&["--no-tty", "tty"]).contains("/dev/pts/0"));
        assert_eq!(prison.run(&["--net", "none", "tty"]).text, "not a tty\n");
        assert_eq!(prison.run(&["--net", "none", "--tty", "tty"]).text.trim(), "/dev/pts/0");
    });
}

/// Step 4's bridge around a launch: it is there while the container is, with its published port, and then it is gone.
#[test]
fn a_bridge() {
    lab!(World::Root, |lab| {
        let outside = classroom::world::World::new();
        let prison = Prison::new(lab);
        let script = "echo hello > /tmp/page; echo up; exec httpd -f -p 80 -h /tmp";
        let options = ["-p", "8080:80", "--tmpfs", "/tmp", "--mac", "02:00:00:00:00:0a", "--init", "sh", "-c", script];
        let mut server = prison.start(&options);
        assert_eq!(every_step::wait_for_a_line(&mut server), "up\n");
        assert_eq!(fetch("127.0.0.1:8080"), "hello\n", "from the host, by its published port");
        let visit = outside.sh(&format!("timeout 3 busybox wget -qO- http://{HOST}:8080/page"));
        assert_eq!(visit, "hello\n", "from the world");
        let neighbour = prison.run(&["--add-host", "server:10.76.0.2", "wget", "-qO-", "http://server/page"]);
        assert_eq!(neighbour.text, "hello\n", "from a neighbour, by name");
        let pid = nix::unistd::Pid::from_raw(server.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert_eq!(classroom::run::code(server.wait().unwrap()), 143);
        assert!(fetch("127.0.0.1:8080").contains("refused"), "nothing answers any more");
        let lesson = lab.run(LESSON, &["--ip", "10.76.0.9", "sh", "-c", "ip -o address; ip route; cat /etc/hosts"]);
        let own = prison.run(&["--ip", "10.76.0.9", "sh", "-c", "ip -o address; ip route; cat /etc/hosts"]);
        assert_eq!(own.text.lines().count(), lesson.text.lines().count(), "{own}\n{lesson}");
        assert!(own.text.contains("10.76.0.9"), "{own}");
    });
}

/// A container that goes on alone keeps its place on the bridge, until it is deleted or somebody prunes.
#[test]
fn a_bridge_without_its_launcher() {
    lab!(World::Root, |lab| {
        let prison = Prison::new(lab);
        let script = "echo hello > /tmp/page; exec httpd -f -p 80 -h /tmp";
        let options = ["-d", "-p", "8080:80", "--tmpfs", "/tmp", "--name", &prison.id, "sh", "-c", script];
        assert_eq!(prison.first_line(&options).trim(), prison.id);
        let answers = || {
            (0..100).any(|_| {
                std::thread::sleep(Duration::from_millis(20)); // its server is still starting
                fetch("127.0.0.1:8080") == "hello\n"
            })
        };
        assert!(answers(), "{}", fetch("127.0.0.1:8080"));
        let neighbour = prison.run(&["wget", "-qO-", "http://10.76.0.2/page"]);
        assert_eq!(neighbour.text, "hello\n", "a neighbour that comes and goes takes nothing down");
        let same_port = prison.run(&["-p", "8080:80", "true"]);
        assert!(same_port.text.contains("cannot publish 8080:80/tcp: another cell does"), "{same_port}");
        assert!(answers(), "the port is still the first one's");
        let mut elsewhere = Command::new("unshare");
        let delete = prison.command(&["delete", "--force", &prison.id]);
        let delete = elsewhere.arg("--net").arg(delete.get_program()).args(delete.get_args());
        let refused = lab.output("$ cellblock delete".to_owned(), std::mem::replace(delete, Command::new("true")));
        assert!(refused.code != 0 && refused.text.contains("is in another network namespace"), "{refused}");
        assert_eq!(prison.verb(&["delete", "--force", &prison.id]).code, 0, "its record is still there");
        assert!(fetch("127.0.0.1:8080").contains("refused"), "nothing answers any more");
        // One that has ended by itself, and one whose launcher was killed.
        prison.first_line(&["-d", "--name", &prison.id, "true"]);
        let mut killed = prison.start(&["--name", "killed", "sh", "-c", "echo up; exec sleep 20"]);
        every_step::wait_for_a_line(&mut killed);
        killed.kill().unwrap();
        killed.wait().unwrap();
        assert!(orphans_end_within(Duration::from_secs(2)));
        let pruned = prison.verb(&["prune"]).text;
        for id in ["killed", &prison.id] {
            assert!(pruned.contains(&format!("removed the container {id}\n")), "{pruned}");
        }
        assert_eq!(prison.verb(&["prune"]).text, "", "there is nothing left");
    });
}

/// A restart of the machine takes bridge and cable along, and numbers its namespaces anew: the record alone is left, and goes.
#[test]
fn a_cable_of_another_boot() {
    lab!(World::Root, |lab| {
        let prison = Prison::new(lab);
        let file = prison.state.join(&prison.id).join("state.json");
        let read = || serde_json::from_slice::<serde_json::Value>(&fs::read(&file).unwrap()).unwrap();
        let start = || {
            prison.first_line(&["-d", "--name", &prison.id, "true"]);
            let stopped = || prison.verb(&["state", &prison.id]).text.contains("stopped");
            assert!((0..100).any(|_| stopped() || {
                std::thread::sleep(Duration::from_millis(20));
                false
            }));
        };
        let edit = |boot: &str| {
            let mut record = read();
            assert!(record["cable"]["boot"].is_string(), "{record}");
            record["cable"]["namespace"] = 1.into();
            record["cable"]["boot"] = boot.into();
            fs::write(&file, record.to_string()).unwrap();
        };
        let now = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        for verb in [&["delete", &prison.id][..], &["delete", "--force", &prison.id], &["prune"]] {
            start();
            edit(now.trim());
            let here = prison.verb(verb);
            assert!(here.text.contains("is in another network namespace") && file.exists(), "the same boot: {here}");
            edit("00000000-0000-0000-0000-000000000000");
            let after = prison.verb(verb);
            assert!(after.code == 0 && !file.exists(), "after a restart: {after}");
        }
        // Records of version 0.7.0 say neither.
        start();
        let mut record = read();
        record["cable"].as_object_mut().unwrap().retain(|key, _| key == "bridge" || key == "veth");
        fs::write(&file, record.to_string()).unwrap();
        assert_eq!(prison.verb(&["delete", &prison.id]).code, 0);
        lab.run("network", &["--prune"]);
    });
}

/// The files of names are the host's, and a cell cannot fill the file system in which they lie.
#[test]
fn files_of_names_are_read_only() {
    lab!(World::Root, |lab| {
        let prison = Prison::new(lab);
        for file in ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"] {
            let script = format!("cat /dev/zero | head -c 4000000 > {file}; wc -c < {file}");
            for output in [prison.run(&["sh", "-c", &script]), lab.run(LESSON, &["sh", "-c", &script])] {
                assert!(output.text.contains("Read-only file system"), "{file}: {output}");
            }
        }
    });
}

/// A launch that fails after the bridge is made takes it down again.
#[test]
fn a_bridge_for_nothing() {
    lab!(World::Root, |lab| {
        let prison = Prison::new(lab);
        assert_eq!(prison.run(&["-p", "8080:80", "nosuch"]).code, 127);
        assert_eq!(prison.run(&["-p", "8080:80", "--name", "a b", "true"]).code, 125);
    });
}

#[test]
fn explained() {
    lab!(World::Root, |lab| {
        let prison = Prison::new(lab);
        let told = prison.run(&["--explain", "--net", "none", "true"]);
        assert!(told.text.contains("child  > a new file system"), "{told}");
        assert!(prison.verb(&["list", "--explain"]).code == 0);
        let command = prison.run(&["--net", "none", "echo", "--explain"]);
        assert_eq!(command.text, "--explain\n", "behind the command it is the command's");
    });
}

/// All attacks of the inmate, with the options of the matrix.
#[test]
fn all_attacks_are_held() {
    lab!(World::Root, |lab| {
        let prison = Prison::new(lab);
        for name in attacks::names() {
            let state = prison.state.to_str().unwrap();
            let options = ["--net", "none", "--pids", "64", "--memory", "64m", "inmate", "attack", &name];
            let mut words = vec![binary(RUNTIME).display().to_string()];
            words.extend(
                [&["--root", state], &prison.words("run", &options)[..]].concat().iter().map(|w| (*w).to_owned()),
            );
            let verdict = lab.verdict_of(&name, words);
            assert!(verdict.starts_with("HELD") || verdict.starts_with("n/a"), "{name}: {verdict}");
        }
    });
}
