//! Devices: the nodes in /dev that the image may have brought, and those that a container makes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use classroom::run::{SEIZE_MOUNTED_NODES, SEIZE_NODES, on_own_dev};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::json;

use super::{Check, Safe, Unsafe, Verdict, judge, safe_if, worst};
use crate::case::{Case, Output, put, read, text};

pub const CHECKS: [Check; 5] = [
    Check {
        name: "null-is-another",
        known_as: "CVE-2025-31133",
        tries: "bring a /dev/null that is a link, a file, a pipe or another device, for masks to be bound from",
        run: null_is_another,
    },
    Check {
        name: "disk-by-mknod",
        known_as: "runc dev.bats",
        tries: "make a node for the host's disk, and open it",
        run: disk_by_mknod,
    },
    Check {
        name: "disk-after-update",
        known_as: "runc dev.bats",
        tries: "the same after an update of the limits",
        run: disk_after_update,
    },
    Check {
        name: "devices-are-usable",
        known_as: "runtime-spec default devices",
        tries: "use the devices that each container has",
        run: devices_are_usable,
    },
    Check {
        name: "device-nodes-are-seized",
        known_as: "the host's nodes, bound",
        tries: "take the permissions of the host's device nodes away, as its root by number in a user namespace",
        run: device_nodes_are_seized,
    },
];

/// Opens a disk by a node of its own, whichever numbers it has; a loop device is on every machine.
const OPEN_DISK: &str = "for n in 8:0 254:0 259:0 7:0; do rm -f /disk; mknod /disk b ${n%:*} ${n#*:} 2>/dev/null
    (: </disk) 2>/dev/null && echo ESCAPED: opened block device $n; done; echo tried";

/// A file of the kernel's that belongs to the container's uts namespace: there a runtime that is fooled does no harm.
pub const HARMLESS: &str = "/proc/sys/kernel/domainname";

/// Puts something where /dev/null belongs.
type Bring = fn(&Path);

fn null_is_another(case: &Case) -> Verdict {
    let brought: [(&str, Bring); 4] = [
        ("a link", |null| symlink(HARMLESS, null).expect("it is ours")),
        ("a file", |null| put(null, "a file\n")),
        ("a pipe", |null| nix::unistd::mkfifo(null, Mode::from_bits_truncate(0o666)).expect("it is ours")),
        ("a zero", |null| {
            mknod(null, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 5)).expect("root may");
        }),
    ];
    // Into a file: some runtimes take standard output for /dev/null, and exchange it for what the image has put there.
    let script = "for f in /proc/keys /proc/timer_list; do [ ! -e $f ] || [ \"$(stat -c %t:%T $f)\" = 1:3 ] ||
            echo ESCAPED: $f is covered by another; done >/told; echo tried >>/told";
    worst(brought.map(|(what, bring)| {
        let mut bundle = case.bundle();
        bundle.unmount("/dev");
        let null = bundle.rootfs("/dev/null");
        let _ = fs::remove_file(&null);
        bring(&null);
        let output = case.run(bundle.script(script));
        let text = read(&bundle.rootfs("/told")) + &output.text;
        match judge(&Output { text, code: output.code }) {
            Unsafe(why) => Unsafe(format!("{what}: {why}")),
            verdict => verdict,
        }
    }))
}

fn disk_by_mknod(case: &Case) -> Verdict {
    judge(&case.run(case.bundle().script(OPEN_DISK)))
}

fn disk_after_update(case: &Case) -> Verdict {
    let container = match case.boot(case.bundle().args(&["sleep", "60"])) {
        Ok(container) => container,
        Err(output) => return judge(&output),
    };
    let limits = case.folder.join("limits.json");
    put(&limits, r#"{ "pids": { "limit": 64 } }"#);
    let updated = case.call(&["update", "--resources", &limits.display().to_string(), &container.id]);
    if updated.code != 0 {
        return Unsafe(format!("update fails: {}", updated.line()));
    }
    judge(&container.exec(OPEN_DISK))
}

fn devices_are_usable(case: &Case) -> Verdict {
    let script = "for d in null zero full random urandom tty ptmx; do [ -e /dev/$d ] || echo ESCAPED: no /dev/$d; done
        for d in fd stdin stdout stderr; do [ -L /dev/$d ] || echo ESCAPED: no /dev/$d; done
        [ $(stat -c %t:%T /dev/null) = 1:3 ] || echo ESCAPED: /dev/null is another
        echo x >/dev/null && head -c 9 /dev/zero >/dev/null && head -c 9 /dev/urandom >/dev/null && echo tried";
    judge(&case.run(case.bundle().script(script)))
}

/// On a /dev of its own in place of the machine's.
fn device_nodes_are_seized(case: &Case) -> Verdict {
    let scripts = [("", SEIZE_NODES), ("CAP_SYS_ADMIN", SEIZE_MOUNTED_NODES)];
    worst(scripts.map(|(capability, script)| {
        let mut bundle = case.bundle();
        let map = json!([{ "containerID": 0, "hostID": 0, "size": 65536 }]);
        bundle.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
        bundle.config["linux"]["namespaces"].as_array_mut().expect("a list").push(json!({ "type": "user" }));
        bundle.allow(if capability.is_empty() { "CAP_CHOWN" } else { capability });
        let id = case.place(bundle.script(script));
        let folder = text(&bundle.folder);
        let output = case.output(on_own_dev(&case.command(&["run", "--bundle", &folder, &id])));
        case.call(&["delete", "--force", &id]);
        let changed = output.text.lines().find(|line| line.starts_with("outside: ") && !line.ends_with(" 666 0:0"));
        match changed {
            Some(line) => Unsafe(format!("a node is another's now: {line}")),
            None if !output.text.contains("outside: null") => Unsafe(format!("it could not look: {}", output.line())),
            None if output.code != 0 => Safe(format!("refused: {}", output.line())),
            None => safe_if(output.text.contains("works"), "held", format!("its nodes do not work: {}", output.line())),
        }
    }))
}
