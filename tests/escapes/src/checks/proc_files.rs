//! /proc and /sys: what protects them is worth nothing when they are not what they seem.

use std::fs;
use std::os::unix::fs::symlink;

use super::{Check, Verdict, judge, must_refuse, safe_if, worst};
use crate::bundle::{Bundle, MASKED, READ_ONLY};
use crate::case::{Case, read};

pub const CHECKS: [Check; 7] = [
    Check {
        name: "proc-is-link",
        known_as: "CVE-2019-19921, CVE-2023-27561",
        tries: "have /proc lead elsewhere, so that masks cover nothing",
        run: proc_is_link,
    },
    Check { name: "sys-is-link", known_as: "CVE-2023-28642", tries: "the same with /sys", run: sys_is_link },
    Check {
        name: "proc-is-covered",
        known_as: "CVE-2019-16884",
        tries: "put a folder of the image's over /proc, to which labels would be written",
        run: proc_is_covered,
    },
    Check {
        name: "proc-is-covered-in-part",
        known_as: "CVE-2025-52881",
        tries: "put folders over parts of /proc through which the runtime writes",
        run: proc_is_covered_in_part,
    },
    Check {
        name: "sysctl-goes-astray",
        known_as: "CVE-2025-52881",
        tries: "set a kernel setting, and find it set on the host or not at all",
        run: sysctl_goes_astray,
    },
    Check {
        name: "sysctl-of-the-host",
        known_as: "runtime-spec linux.sysctl",
        tries: "set a setting that belongs to no namespace",
        run: sysctl_of_the_host,
    },
    Check {
        name: "masks-come-off",
        known_as: "runc mask.bats",
        tries: "read what is masked, write what is read-only, and take the masks off",
        run: masks_come_off,
    },
];

/// Whether the masks are where they belong: on the real files.
fn masks_hold() -> String {
    let mut script = String::new();
    for path in MASKED {
        script +=
            &format!("[ -z \"$(head -c 9 {path} 2>/dev/null; ls {path}/ 2>/dev/null)\" ] || echo ESCAPED: {path}\n");
    }
    for path in READ_ONLY {
        // A shell asks only for the bits, which root passes: so the mount's own option is what counts.
        script += &format!(
            "if [ -e {path} ] && ! awk -v p={path} '$5 == p && $6 ~ /^ro/ {{ n++ }} END {{ exit !n }}' /proc/1/mountinfo
            then echo ESCAPED: {path} can be written; fi\n"
        );
    }
    script
}

fn in_disguise(case: &Case, place: &str) -> Verdict {
    let mut bundle = case.bundle();
    fs::remove_dir(bundle.rootfs(place)).expect("it is ours");
    fs::create_dir(bundle.rootfs("/elsewhere")).expect("it is ours");
    symlink("/elsewhere", bundle.rootfs(place)).expect("it is ours");
    judge(&case.run(bundle.script(&format!("{} echo tried", masks_hold()))))
}

fn proc_is_link(case: &Case) -> Verdict {
    in_disguise(case, "/proc")
}

fn sys_is_link(case: &Case) -> Verdict {
    in_disguise(case, "/sys")
}

/// It may fail, or run in a /proc that is the kernel's and masked.
fn is_the_kernels(case: &Case, bundle: &mut Bundle) -> Verdict {
    let script = "grep -q ^Name: /proc/self/status || echo ESCAPED: this /proc is not the kernel\\'s;";
    judge(&case.run(bundle.script(&format!("{script} {} echo tried", masks_hold()))))
}

fn proc_is_covered(case: &Case) -> Verdict {
    let mut tmpfs = case.bundle();
    tmpfs.mount("/proc", "tmpfs", "tmpfs", &["nosuid"]);
    let mut bind = case.bundle();
    let source = bind.rootfs("/srv").display().to_string();
    bind.mount("/proc", "bind", &source, &["rbind"]);
    worst([&mut tmpfs, &mut bind].map(|bundle| is_the_kernels(case, bundle)))
}

fn proc_is_covered_in_part(case: &Case) -> Verdict {
    worst(["/proc/self/attr", "/proc/self", "/proc/thread-self", "/proc/sys/net", "/proc/1", "/proc/sys"].map(
        |place| {
            let mut bundle = case.bundle();
            bundle.mount(place, "tmpfs", "tmpfs", &["nosuid"]);
            must_refuse(&case.run(bundle.script("echo tried")), format!("a mount on {place} is taken"))
        },
    ))
}

fn sysctl_goes_astray(case: &Case) -> Verdict {
    let mut bundle = case.bundle();
    bundle.set("/linux/sysctl", serde_json::json!({ "net.ipv4.ip_default_ttl": "77" }));
    let host = || read(std::path::Path::new("/proc/sys/net/ipv4/ip_default_ttl"));
    let before = host();
    let output = case.run(bundle.args(&["cat", "/proc/sys/net/ipv4/ip_default_ttl"]));
    if host() != before {
        return super::Unsafe("the host's setting has changed".to_owned());
    }
    safe_if(output.text.trim() == "77", "set in there, and only there", output.line())
}

fn sysctl_of_the_host(case: &Case) -> Verdict {
    let settings = [
        ("kernel.core_pattern", "kernel/core_pattern"),
        ("vm.overcommit_memory", "vm/overcommit_memory"),
        ("net.ipv4/../../vm/overcommit_memory", "vm/overcommit_memory"),
    ];
    worst(settings.map(|(name, path)| {
        let mut bundle = case.bundle();
        let value = read(&std::path::Path::new("/proc/sys").join(path));
        // The value that it has: even if it is written, nothing changes.
        bundle.set("/linux/sysctl", serde_json::json!({ name: value.trim() }));
        judge(&case.run(bundle.script("echo ESCAPED: a setting of the host is taken")))
    }))
}

fn masks_come_off(case: &Case) -> Verdict {
    let remove = MASKED.iter().chain(&READ_ONLY).map(|path| {
        let off = format!("umount {path} || mount -o remount,rw {path}");
        format!("if [ -e {path} ] && {{ {off}; }} 2>/dev/null; then echo ESCAPED: {path} comes off; fi\n")
    });
    let script = format!("{}{}{} echo tried", masks_hold(), remove.collect::<String>(), masks_hold());
    judge(&case.run(case.bundle().script(&script)))
}
