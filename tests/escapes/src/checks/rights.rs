//! Rights: capabilities, seccomp, user ids, keys. What the configuration says, and nothing more.

use serde_json::{Value, json};

use super::{Check, NotApplicable, Safe, Unsafe, Verdict, judge, safe_if, worst};
use crate::bundle::Bundle;
use crate::case::{Case, Container, Output};

pub const CHECKS: [Check; 11] = [
    Check {
        name: "inheritable-capabilities",
        known_as: "CVE-2022-29162, CVE-2022-27650",
        tries: "find capabilities in a set that the configuration leaves empty, after run and after exec",
        run: inheritable_capabilities,
    },
    Check {
        name: "exec-has-more-rights",
        known_as: "runc exec.bats",
        tries: "find less confined what exec brings in: capabilities, seccomp, no_new_privs, groups",
        run: exec_has_more_rights,
    },
    Check {
        name: "seccomp-lets-through",
        known_as: "runc seccomp.bats",
        tries: "make a call that the filter forbids, and one that is too new for it",
        run: seccomp_lets_through,
    },
    Check {
        name: "no-new-privs",
        known_as: "runtime-spec noNewPrivileges",
        tries: "become root by a setuid program",
        run: no_new_privs,
    },
    Check {
        name: "user-maps",
        known_as: "CVE-2014-8989",
        tries: "find other user ids outside than the map says",
        run: user_maps,
    },
    Check {
        name: "cgroups-are-written",
        known_as: "CVE-2023-25809",
        tries: "write to the host's cgroups from a user namespace without a cgroup namespace",
        run: cgroups_are_written,
    },
    Check {
        name: "release-agent",
        known_as: "CVE-2022-0492",
        tries: "mount cgroup v1 in a user namespace of its own, and name a program for the kernel to run",
        run: release_agent,
    },
    Check {
        name: "keyring",
        known_as: "session keyring leak",
        tries: "find a key of the caller's",
        run: |case| inmate(case, "keyring"),
    },
    Check {
        name: "file-handle",
        known_as: "shocker",
        tries: "open the host's root by its inode number",
        run: |case| inmate(case, "file-handle"),
    },
    Check {
        name: "chroot",
        known_as: "double chroot",
        tries: "climb out with a second chroot",
        run: |case| inmate(case, "chroot"),
    },
    Check {
        name: "remount",
        known_as: "runc mask.bats",
        tries: "make read-only settings writable again",
        run: |case| inmate(case, "remount"),
    },
];

/// Has the inmate try one of its attacks, with its sentinel on the host.
pub fn inmate(case: &Case, attack: &str) -> Verdict {
    inmate_in(case, attack, &mut case.bundle())
}

fn inmate_in(case: &Case, attack: &str, bundle: &mut Bundle) -> Verdict {
    let id = case.place(bundle.args(&["/bin/inmate", "attack", attack]));
    let folder = bundle.folder.display().to_string();
    let runtime = case.command(&["run", "--bundle", &folder, &id]);
    let mut sentinel = std::process::Command::new(bundle.rootfs("/bin/inmate"));
    sentinel.arg("sentinel").arg(runtime.get_program()).args(runtime.get_args()).current_dir(&case.folder);
    let output = case.output(sentinel);
    case.call(&["delete", "--force", &id]);
    let told = output.text.lines().find_map(|line| line.strip_prefix(&format!("{attack}: "))?.split_once(' '));
    match told {
        Some(("HELD", why)) => Safe(why.trim().to_owned()),
        Some(("ESCAPED", why)) => Unsafe(why.trim().to_owned()),
        Some((_, why)) => NotApplicable(why.trim().to_owned()),
        None => Unsafe(format!("the inmate does not run: {}", output.line())),
    }
}

/// A container that sleeps, for exec.
fn asleep<'a>(case: &'a Case, bundle: &mut Bundle) -> Result<Container<'a>, Verdict> {
    case.boot(bundle.args(&["sleep", "60"])).map_err(|output| Unsafe(format!("it does not start: {}", output.line())))
}

const STATUS: &str = "/proc/self/status";

fn field(output: &Output, name: &str) -> String {
    let line = output.text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or("missing").trim().to_owned()
}

fn inheritable_capabilities(case: &Case) -> Verdict {
    const DOCKERS: &str = "00000000a80425fb";
    const NONE: &str = "0000000000000000";
    let expected = [("CapInh", NONE), ("CapPrm", DOCKERS), ("CapEff", DOCKERS), ("CapBnd", DOCKERS), ("CapAmb", NONE)];
    let mut bundle = case.bundle();
    let run = case.run(bundle.args(&["cat", STATUS]));
    let exec = match asleep(case, &mut bundle) {
        Ok(container) => container.call("exec", &["--", "cat", STATUS]),
        Err(verdict) => return verdict,
    };
    worst([("run", run), ("exec", exec)].iter().flat_map(|(verb, output)| {
        expected.map(|(name, wanted)| {
            let found = field(output, name);
            safe_if(found == wanted, "as configured", format!("{verb}: {name} is {found}, not {wanted}"))
        })
    }))
}

fn exec_has_more_rights(case: &Case) -> Verdict {
    let mut bundle = case.bundle();
    bundle.set("/linux/seccomp", forbids(&["mkdir", "mkdirat"]));
    bundle.set("/process/user/additionalGids", json!([7, 8]));
    let run = case.run(bundle.args(&["cat", STATUS]));
    let exec = match asleep(case, &mut bundle) {
        Ok(container) => container.call("exec", &["--", "cat", STATUS]),
        Err(verdict) => return verdict,
    };
    worst(["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "Seccomp", "NoNewPrivs", "Uid", "Gid"].map(|name| {
        let (of_run, of_exec) = (field(&run, name), field(&exec, name));
        let differs = format!("{name}: {of_run} by run, {of_exec} by exec");
        safe_if(of_run == of_exec && of_run != "missing", "as the first process", differs)
    }))
}

/// A filter that answers these calls with EPERM.
fn forbids(calls: &[&str]) -> Value {
    let architecture = if cfg!(target_arch = "aarch64") { "SCMP_ARCH_AARCH64" } else { "SCMP_ARCH_X86_64" };
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": [architecture],
        "syscalls": [{ "names": calls, "action": "SCMP_ACT_ERRNO", "errnoRet": 1 }]
    })
}

fn seccomp_lets_through(case: &Case) -> Verdict {
    const TRY: &str = "mkdir /new 2>/dev/null && echo ESCAPED: mkdir is let through
        grep -q 'Seccomp:.2' /proc/self/status || echo ESCAPED: no filter; echo tried";
    worst([true, false].map(|no_new_privs| {
        let mut bundle = case.bundle();
        bundle.set("/linux/seccomp", forbids(&["mkdir", "mkdirat"])).set("/process/noNewPrivileges", no_new_privs);
        let run = judge(&case.run(bundle.script(TRY)));
        let exec = match asleep(case, &mut bundle) {
            Ok(container) => judge(&container.exec(TRY)),
            Err(verdict) => verdict,
        };
        worst([run, exec])
    }))
}

fn no_new_privs(case: &Case) -> Verdict {
    inmate(case, "setuid")
}

/// With a user namespace the root filesystem must belong to the user that is root inside.
pub fn mapped(case: &Case) -> Bundle {
    let mut bundle = case.bundle();
    let chown = std::process::Command::new("chown").args(["-hR", "100000:100000"]).arg(bundle.rootfs("/")).status();
    assert!(chown.is_ok_and(|status| status.success()));
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    bundle.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    bundle.config["linux"]["namespaces"].as_array_mut().expect("a list").push(json!({ "type": "user" }));
    bundle
}

fn user_maps(case: &Case) -> Verdict {
    let mut bundle = mapped(case);
    let output = case.run(bundle.script("cat /proc/self/uid_map /proc/self/gid_map; touch /by-root; echo tried"));
    let map = |line: &&str| line.split_whitespace().eq(["0", "100000", "65536"]);
    if output.text.lines().filter(map).count() != 2 {
        return Unsafe(format!("the maps are not as configured: {}", output.line()));
    }
    let owner = std::fs::metadata(bundle.rootfs("/by-root")).map(|found| std::os::unix::fs::MetadataExt::uid(&found));
    safe_if(owner.is_ok_and(|uid| uid == 100_000), "root inside is 100000 outside", "root inside is another outside")
}

fn cgroups_are_written(case: &Case) -> Verdict {
    let script = "for d in $(find /sys/fs/cgroup -type d); do
            [ -e $d/cgroup.procs ] || continue
            (echo 0 >$d/cgroup.procs) 2>/dev/null && echo ESCAPED: $d can be joined
            mkdir $d/new 2>/dev/null && echo ESCAPED: $d can be written
        done; echo tried";
    worst([false, true].map(|own_group_namespace| {
        let mut bundle = mapped(case);
        if own_group_namespace {
            bundle.config["linux"]["namespaces"].as_array_mut().expect("a list").push(json!({ "type": "cgroup" }));
        }
        judge(&case.run(bundle.script(script)))
    }))
}

fn release_agent(case: &Case) -> Verdict {
    let script = "mkdir -p /mnt/v1; for c in rdma memory pids cpu; do
        unshare -UrmC sh -c \"mount -t cgroup -o $c none /mnt/v1 && cd /mnt/v1 && agent=\\$(cat release_agent) &&
            echo \\$agent >release_agent\" 2>/dev/null && echo ESCAPED: release_agent of $c can be written
        done; echo tried";
    worst([judge(&case.run(case.bundle().script(script))), inmate(case, "release-agent")])
}
