//! A bundle: a root filesystem and a configuration, good ones, for a check to spoil.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use classroom::lab::workspace;
use serde_json::{Value, json};

/// What Docker leaves to a container's root.
pub const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// A bundle on disk; its configuration is written when it is used.
#[derive(Debug)]
pub struct Bundle {
    /// Where it is.
    pub folder: PathBuf,
    /// config.json
    pub config: Value,
}

impl Bundle {
    /// A good one. `mark` is a file of the host's, which scripts find in `$MARK`.
    pub fn new(folder: PathBuf, mark: &Path) -> Bundle {
        fs::create_dir_all(&folder).expect("the sandbox is ours");
        let rootfs = workspace().join("target/rootfs/busybox");
        let copied = Command::new("cp").arg("-ax").arg(rootfs).arg(folder.join("rootfs")).status();
        assert!(copied.is_ok_and(|status| status.success()), "the root filesystem can be copied");
        Bundle { folder, config: configuration(mark) }
    }

    /// A path in its root filesystem.
    pub fn rootfs(&self, path: &str) -> PathBuf {
        self.folder.join("rootfs").join(path.trim_start_matches('/'))
    }

    /// Sets something: `set("/process/cwd", "/tmp")`. What it lies in must be there.
    pub fn set(&mut self, pointer: &str, value: impl Into<Value>) -> &mut Bundle {
        let (parent, name) = pointer.rsplit_once('/').expect("it begins with a slash");
        self.config.pointer_mut(parent).unwrap_or_else(|| panic!("no {parent}"))[name] = value.into();
        self
    }

    /// The command.
    pub fn args(&mut self, args: &[&str]) -> &mut Bundle {
        self.set("/process/args", json!(args))
    }

    /// A shell script as the command. It prints ESCAPED for what it reaches, and `tried` at its end.
    pub fn script(&mut self, script: &str) -> &mut Bundle {
        self.args(&["/bin/sh", "-c", script])
    }

    /// One mount more.
    pub fn mount(&mut self, destination: &str, kind: &str, source: &str, options: &[&str]) -> &mut Bundle {
        let mount = json!({ "destination": destination, "type": kind, "source": source, "options": options });
        self.config["mounts"].as_array_mut().expect("a list").push(mount);
        self
    }

    /// Takes the mounts at and below a place away.
    pub fn unmount(&mut self, place: &str) -> &mut Bundle {
        let below = format!("{place}/");
        let keep = |mount: &Value| {
            let destination = mount["destination"].as_str().unwrap_or_default();
            destination != place && !destination.starts_with(&below)
        };
        self.config["mounts"].as_array_mut().expect("a list").retain(keep);
        self
    }

    /// One capability more, in all sets but the inheritable and the ambient one.
    pub fn allow(&mut self, capability: &str) -> &mut Bundle {
        for set in ["bounding", "effective", "permitted"] {
            let list = &mut self.config["process"]["capabilities"][set];
            list.as_array_mut().expect("a list").push(json!(capability));
        }
        self
    }

    /// Writes config.json.
    pub fn write(&self) {
        let text = serde_json::to_string_pretty(&self.config).expect("it is JSON");
        fs::write(self.folder.join("config.json"), text).expect("the sandbox is ours");
    }
}

fn configuration(mark: &Path) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "root": { "path": "rootfs" },
        "hostname": "cell",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["true"],
            "env": ["PATH=/bin:/sbin:/usr/bin:/usr/sbin", format!("MARK={}", mark.display())],
            "cwd": "/",
            "noNewPrivileges": true,
            "capabilities": {
                "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES
            }
        },
        "mounts": [
            mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"])
        ],
        "linux": {
            "namespaces": (["pid", "network", "ipc", "uts", "mount"].map(|kind| json!({ "type": kind }))),
            "resources": { "devices": [{ "allow": false, "access": "rwm" }], "pids": { "limit": 128 } },
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY
        }
    })
}

fn mount(destination: &str, kind: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": kind, "source": kind, "options": options })
}

/// Nothing of these can be read.
pub const MASKED: [&str; 8] = [
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];

/// Nothing of these can be written.
pub const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
