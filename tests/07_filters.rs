//! Step 7, the runtime: a seccomp filter of the container's, and the calls that the runtime makes under it.

use std::fs;
use std::os::unix::net::UnixListener;
use std::thread;

use classroom::short::ShortPath;
use classroom::{Desk, World, lab, sys};
use serde_json::{Value, json};

/// What the runtime needs under the filter when it waits for start, and what a small static program needs.
const NEEDED: [&str; 5] = ["execve", "capset", "read", "write", "close"];
const OF_THE_PROGRAM: [&str; 12] = [
    "brk",
    "arch_prctl",
    "mmap",
    "mprotect",
    "munmap",
    "exit_group",
    "uname",
    "futex",
    "getuid",
    "getgid",
    "nanosleep",
    "clock_nanosleep",
];

/// What a runtime may be tempted to call: it would be killed. Not fcntl, by which a debug build
/// looks at what it closes.
const TEMPTING: [&str; 16] = [
    "close_range",
    "chdir",
    "getcwd",
    "open",
    "openat",
    "openat2",
    "statx",
    "accept4",
    "recvmsg",
    "sendmsg",
    "rt_sigaction",
    "rt_sigprocmask",
    "clone",
    "clone3",
    "getpid",
    "poll",
];

/// The shortest allow-list.
fn shortest() -> Value {
    let allowed = [&NEEDED[..], &OF_THE_PROGRAM].concat();
    json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        {"names": allowed, "action": "SCMP_ACT_ALLOW"},
        {"names": TEMPTING, "action": "SCMP_ACT_KILL_PROCESS"},
    ]})
}

/// With and without noNewPrivileges, as root, as another user who may not enter the program's directory, in a user namespace.
#[test]
fn the_shortest_allow_list() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "shortest");
        desk.configure(|config| {
            config["process"]["args"] = json!(["echo", "started"]);
            config["process"]["cwd"] = json!("/tmp");
            config["process"]["capabilities"]["ambient"] = json!(["CAP_KILL"]);
            config["process"]["capabilities"]["inheritable"] = json!(["CAP_KILL"]);
            config["linux"]["seccomp"] = shortest();
        });
        for mapped in [false, true] {
            if mapped {
                desk.map_users(100_000, 65536);
            }
            for (promised, user) in [(false, 0), (false, 1000), (true, 0), (true, 1000)] {
                desk.configure(|config| {
                    config["process"]["noNewPrivileges"] = json!(promised);
                    config["process"]["user"] = json!({"uid": user, "gid": user});
                });
                let what = format!("noNewPrivileges {promised}, user {user}, mapped {mapped}");
                assert_eq!(desk.succeed(&["run", "--bundle", "target/bundle", "one"]), "started\n", "{what}");
                desk.create();
                desk.succeed(&["start", "one"]);
                desk.wait_for("stopped");
                desk.succeed(&["delete", "one"]);
            }
        }
    });
}

/// What the kernel is asked for at the birth of a process that `exec` adds, where it must be under the filter.
const OF_THE_BIRTH: [&str; 6] = ["clone", "prctl", "poll", "setsid", "ioctl", "dup2"];

/// `exec` as above, with a terminal and without. A container in a user namespace may also trace: then its processes cannot attach
/// to what joins them. In the host's they can, and the filter, which takes a right without noNewPrivileges, comes before the birth.
#[test]
fn the_shortest_allow_list_of_exec() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "shortest-exec");
        desk.configure(|config| {
            config["process"]["capabilities"]["ambient"] = json!(["CAP_KILL"]);
            config["process"]["capabilities"]["inheritable"] = json!(["CAP_KILL"]);
            config["linux"]["seccomp"] = shortest();
        });
        exec_is_allowed(&desk, "");
        desk.configure(|config| {
            config["process"]["capabilities"]["bounding"].as_array_mut().unwrap().push(json!("CAP_SYS_PTRACE"));
            let filter = &mut config["linux"]["seccomp"]["syscalls"];
            filter[0]["names"].as_array_mut().unwrap().extend(OF_THE_BIRTH.map(Value::from));
            filter[1]["names"].as_array_mut().unwrap().retain(|name| !OF_THE_BIRTH.iter().any(|each| name == each));
        });
        exec_is_allowed(&desk, "may trace");
        desk.configure(|config| config["linux"]["seccomp"] = shortest());
        desk.map_users(100_000, 65536);
        exec_is_allowed(&desk, "may trace, mapped");
    });
}

fn exec_is_allowed(desk: &Desk, what: &str) {
    for promised in [false, true] {
        desk.configure(|config| config["process"]["noNewPrivileges"] = json!(promised));
        desk.create();
        desk.succeed(&["start", "one"]);
        for user in ["0", "1000"] {
            let plain = ["exec", "--user", user, "--cwd", "/tmp", "one", "echo", "started"];
            let tty = [&["exec", "--tty"], &plain[1..]].concat();
            let promise = [&["exec", "--no-new-privs"], &plain[1..]].concat();
            for words in [&plain[..], &tty, &promise] {
                assert_eq!(desk.succeed(words).trim_end(), "started", "{what}, promised {promised}, {words:?}");
            }
        }
        desk.kill();
        desk.succeed(&["delete", "one"]);
    }
}

/// The right to filter is gone when the program runs, and while the container waits for start.
#[test]
fn the_right_to_filter_is_not_kept() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "right");
        desk.configure(|config| {
            config["process"]["noNewPrivileges"] = json!(false);
            config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}]});
        });
        desk.set_command("grep -c -e CapEff:.0000000020000420 -e CapPrm:.0000000020000420 /proc/self/status");
        assert_eq!(desk.succeed(&["run", "--bundle", "target/bundle", "one"]), "2\n");
        desk.create();
        let status = fs::read_to_string(format!("/proc/{}/status", desk.state()["pid"])).unwrap();
        assert!(status.contains("CapEff:\t0000000020000420") && status.contains("Seccomp:\t2"), "{status}");
        desk.succeed(&["start", "one"]);
        desk.wait_for("stopped");
        desk.succeed(&["delete", "one"]);
    });
}

/// A process that answers for calls gets the listener before the command begins: by `create`, `run` and `exec`, with the number
/// that the caller has on the host.
#[test]
fn another_process_answers_for_calls() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "answers");
        let short = ShortPath::new(lab);
        let path = short.join("listener");
        let socket = UnixListener::bind(&path).unwrap();
        desk.configure(|config| {
            config["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "listenerMetadata": "for the test",
                "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
            });
        });
        let script = "mkdir /tmp/never && ls /tmp | grep -c never";
        let told = |message: &str, status: &str| {
            let message: Value = serde_json::from_str(message).unwrap();
            assert_eq!((&message["fds"], &message["metadata"]), (&json!(["seccompFd"]), &json!("for the test")));
            assert_eq!((&message["state"]["id"], &message["state"]["status"]), (&json!("one"), &json!(status)));
            message
        };
        for promised in [true, false] {
            desk.configure(|config| config["process"]["noNewPrivileges"] = json!(promised));
            // `create` hands the listener over; the call comes after `start`.
            desk.set_command(&format!("({script}); exec sleep 1000"));
            let message = thread::scope(|scope| {
                let agent = scope.spawn(|| sys::receive_listener(&socket));
                desk.create();
                agent.join().unwrap()
            });
            let pid = desk.state()["pid"].clone();
            let (message, listener) = (told(&message.0, "creating"), message.1);
            assert_eq!((&message["pid"], &message["state"]["pid"]), (&pid, &pid));
            desk.succeed(&["start", "one"]);
            assert_ne!(json!(sys::pretend(&listener)), Value::Null);
            // A process that `exec` adds has a filter, and a listener, of its own.
            thread::scope(|scope| {
                let agent = scope.spawn(|| {
                    let (message, listener) = sys::receive_listener(&socket);
                    let caller = sys::pretend(&listener);
                    (message, caller)
                });
                let said = desk.run(&["exec", "one", "sh", "-c", &format!("exec {}", "mkdir /tmp/never")]);
                assert_eq!(said.code, 0, "{said}");
                let (message, caller) = agent.join().unwrap();
                let message = told(&message, "running");
                assert_eq!((&message["pid"], &message["state"]["pid"]), (&json!(caller), &pid));
            });
            desk.kill();
            desk.succeed(&["delete", "one"]);
            desk.set_command(&format!("{script}; true"));
            thread::scope(|scope| {
                scope.spawn(|| {
                    let (message, listener) = sys::receive_listener(&socket);
                    told(&message, "creating");
                    sys::pretend(&listener);
                });
                assert_eq!(desk.succeed(&["run", "--bundle", "target/bundle", "one"]), "0\n");
            });
        }
        fs::remove_file(path).unwrap();
        desk.fail(&["run", "--bundle", "target/bundle", "one"], "linux.seccomp.listenerPath: cannot connect");
    });
}
