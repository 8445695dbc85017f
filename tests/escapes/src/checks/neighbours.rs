//! Neighbours: processes, sockets, memory and mounts of the host and of other containers.

use super::rights::inmate;
use super::{Check, Unsafe, Verdict, judge};
use crate::case::Case;

pub const CHECKS: [Check; 10] = [
    Check {
        name: "host-processes",
        known_as: "pid namespace",
        tries: "signal a process of the host",
        run: |case| inmate(case, "host-processes"),
    },
    Check {
        name: "ptrace",
        known_as: "yama",
        tries: "trace a process of the host",
        run: |case| inmate(case, "ptrace"),
    },
    Check {
        name: "hostname",
        known_as: "uts namespace",
        tries: "rename the host",
        run: |case| judge(&case.run(case.bundle().script("hostname inmate-was-here; echo tried"))),
    },
    Check {
        name: "shared-memory",
        known_as: "ipc namespace",
        tries: "find shared memory of the host",
        run: |case| inmate(case, "shared-memory"),
    },
    Check {
        name: "host-port",
        known_as: "network namespace",
        tries: "connect to a port on the host's loopback",
        run: |case| inmate(case, "host-port"),
    },
    Check {
        name: "abstract-socket",
        known_as: "CVE-2020-15257",
        tries: "connect to an abstract socket",
        run: |case| inmate(case, "abstract-socket"),
    },
    Check {
        name: "host-files",
        known_as: "mount namespace",
        tries: "read a file of the host by its path",
        run: |case| inmate(case, "host-files"),
    },
    Check {
        name: "environment",
        known_as: "runtime-spec process.env",
        tries: "find a variable of the caller's",
        run: |case| inmate(case, "environment"),
    },
    Check {
        name: "mounts-leak-out",
        known_as: "rootfsPropagation",
        tries: "mount something that the host sees, under every propagation of the root",
        run: mounts_leak_out,
    },
    Check {
        name: "old-root-remains",
        known_as: "pivot_root",
        tries: "find the host's mounts in the container's table",
        run: old_root_remains,
    },
];

fn mounts_leak_out(case: &Case) -> Verdict {
    super::worst(["private", "rprivate", "slave", "rslave"].map(|propagation| {
        let mut bundle = case.bundle();
        bundle.allow("CAP_SYS_ADMIN").set("/linux/rootfsPropagation", propagation);
        let script = "mount -t tmpfs leaked-mount /mnt && mount --bind /mnt /srv && echo tried; sleep 60";
        let container = match case.boot(bundle.script(script)) {
            Ok(container) => container,
            Err(output) => return judge(&output),
        };
        let done = crate::case::eventually(|| container.said().contains("tried"));
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        match done {
            true if table.contains("leaked-mount") => Unsafe(format!("with {propagation} the host sees its mount")),
            true => super::Safe("held".to_owned()),
            false => Unsafe(format!("it could not mount: {}", container.said())),
        }
    }))
}

fn old_root_remains(case: &Case) -> Verdict {
    // What stands there: its own root, and what the configuration mounts.
    let script = "roots=0; while read -r a b c d place e; do case $place in
            /) roots=$((roots + 1)); [ $roots = 1 ] || echo ESCAPED: another root is mounted over this one;;
            /proc|/proc/*|/dev|/dev/*|/sys|/sys/*) ;; *) echo ESCAPED: $place is mounted;; esac
        done </proc/self/mountinfo; [ -e $MARK ] && echo ESCAPED: the mark is there; echo tried";
    judge(&case.run(case.bundle().script(script)))
}
