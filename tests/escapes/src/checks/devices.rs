//! Devices: the nodes in /dev that the image may have brought, and those that a container makes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::{Check, Unsafe, Verdict, judge, worst};
use crate::case::{Case, Output, put, read};

pub const CHECKS: [Check; 4] = [
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
