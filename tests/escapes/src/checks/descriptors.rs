//! Descriptors: whatever is open on the host's side of the wall is a door in it.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Check, Unsafe, Verdict, judge, safe_if, worst};
use crate::bundle::Bundle;
use crate::case::{Case, Output, text};

pub const CHECKS: [Check; 7] = [
    Check {
        name: "exec-is-watched",
        known_as: "CVE-2016-9962",
        tries: "look through every process that exec brings in, while it is still half the host's",
        run: exec_is_watched,
    },
    Check {
        name: "cwd-is-descriptor",
        known_as: "CVE-2024-21626",
        tries: "begin in a directory that the caller left open",
        run: cwd_is_descriptor,
    },
    Check {
        name: "cwd-links-to-descriptor",
        known_as: "CVE-2024-21626",
        tries: "begin behind a symbolic link to such a directory",
        run: cwd_links_to_descriptor,
    },
    Check {
        name: "exec-cwd-is-descriptor",
        known_as: "CVE-2024-21626",
        tries: "the same by exec --cwd",
        run: exec_cwd_is_descriptor,
    },
    Check {
        name: "program-is-behind-descriptor",
        known_as: "CVE-2024-21626",
        tries: "start a program of the host by way of such a directory",
        run: program_is_behind_descriptor,
    },
    Check {
        name: "descriptors-leak",
        known_as: "CVE-2024-21626",
        tries: "find in the container what the caller had open",
        run: descriptors_leak,
    },
    Check {
        name: "created-holds-directory",
        known_as: "runc create.bats",
        tries: "find a directory of the host open in a container that waits for its start",
        run: created_holds_directory,
    },
];

/// Numbers that a runtime's own descriptors may have.
const NUMBERS: std::ops::Range<u32> = 3..21;
const CLIMB: &str = "[ -e ../../../../../../../../../../..$MARK ] && echo ESCAPED to the root outside; echo tried";

/// Calls the runtime with two directories of the host open, as a careless caller has them.
fn careless(case: &Case, words: &[&str]) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", "exec 7</etc 9</; exec \"$@\"", "caller"]).arg(&case.sandbox.runtime.path);
    command.arg("--root").arg(&case.root).args(words).current_dir(&case.folder);
    case.output(command)
}

fn run_careless(case: &Case, bundle: &mut Bundle) -> Output {
    let id = case.place(bundle);
    let output = careless(case, &["run", "--bundle", &text(&bundle.folder), &id]);
    case.call(&["delete", "--force", &id]);
    output
}

/// A watcher that is fast, for what joins is in sight for a moment only: it climbs by each descriptor, and attaches.
fn exec_is_watched(case: &Case) -> Verdict {
    let mark = text(&case.canary.join("mark"));
    let mut bundle = case.bundle();
    let container = match case.boot(bundle.allow("CAP_SYS_PTRACE").args(&["/bin/inmate", "watch", "4", &mark])) {
        Ok(container) => container,
        Err(output) => return judge(&output),
    };
    let begin = std::time::Instant::now();
    while !container.said().contains("newcomers") && begin.elapsed().as_secs() < 30 {
        container.call("exec", &["--", "true"]);
    }
    let said = container.said();
    match said.lines().find(|line| line.contains("CLIMBED") || line.contains("TOOK OVER")) {
        Some(line) => Unsafe(line.to_owned()),
        None if said.contains("saw 0 ") || said.contains("attached 0 ") => {
            Unsafe(format!("the watcher was too slow to prove anything: {said}"))
        }
        None => safe_if(said.contains("newcomers"), said.trim(), format!("the watcher did not end: {said}")),
    }
}

fn cwd_is_descriptor(case: &Case) -> Verdict {
    let mut bundle = case.bundle();
    worst(NUMBERS.map(|number| {
        bundle.script(CLIMB).set("/process/cwd", format!("/proc/self/fd/{number}"));
        judge(&run_careless(case, &mut bundle))
    }))
}

fn cwd_links_to_descriptor(case: &Case) -> Verdict {
    let mut bundle = case.bundle();
    worst(NUMBERS.map(|number| {
        let link = format!("/w{number}");
        std::os::unix::fs::symlink(format!("/proc/self/fd/{number}"), bundle.rootfs(&link)).expect("it is ours");
        bundle.script(CLIMB).set("/process/cwd", link);
        judge(&run_careless(case, &mut bundle))
    }))
}

fn exec_cwd_is_descriptor(case: &Case) -> Verdict {
    let container = match case.boot(case.bundle().args(&["sleep", "60"])) {
        Ok(container) => container,
        Err(output) => return Unsafe(output.text),
    };
    worst(NUMBERS.map(|number| {
        let cwd = format!("/proc/self/fd/{number}");
        judge(&careless(case, &["exec", "--cwd", &cwd, &container.id, "/bin/sh", "-c", CLIMB]))
    }))
}

fn program_is_behind_descriptor(case: &Case) -> Verdict {
    let mut bundle = case.bundle();
    let tool = case.folder.join("tool");
    for (path, line) in [(&tool, "ESCAPED: a program of the host runs"), (&bundle.rootfs("/tool"), "the probe works")] {
        fs::write(path, crate::elf::printing(line)).expect("the sandbox is ours");
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("the sandbox is ours");
    }
    let probe = run_careless(case, bundle.args(&["/tool"]));
    let probe = safe_if(probe.text == "the probe works\n", "it runs", format!("the probe: {}", probe.line()));
    let tried = NUMBERS.map(|number| {
        let program = format!("/proc/self/fd/{number}/../../../../../../../../..{}", tool.display());
        judge(&run_careless(case, bundle.args(&[&program])))
    });
    worst(tried.chain([probe]))
}

fn descriptors_leak(case: &Case) -> Verdict {
    let mut bundle = case.bundle();
    let run = only_standard(&run_careless(case, bundle.args(&["/bin/inmate", "report"])));
    let container = match case.boot(bundle.args(&["sleep", "60"])) {
        Ok(container) => container,
        Err(output) => return Unsafe(output.text),
    };
    worst([run, only_standard(&careless(case, &["exec", &container.id, "/bin/inmate", "report"]))])
}

/// Judges the inmate's report: which descriptors are open.
fn only_standard(output: &Output) -> Verdict {
    let line = output.text.lines().find_map(|line| line.strip_prefix("descriptors"));
    let open = line.unwrap_or("missing").trim();
    safe_if(open == "0 1 2", "none but 0, 1 and 2", format!("open are {open}"))
}

fn created_holds_directory(case: &Case) -> Verdict {
    let container = match case.create(&mut case.bundle()) {
        Ok(container) => container,
        Err(output) => return Unsafe(output.text),
    };
    let folder = format!("/proc/{}/fd", container.pid());
    let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
    let is_open = |path: &Path| fs::metadata(path).is_ok_and(|found| found.is_dir());
    let open: Vec<String> = entries
        .filter(|entry| is_open(&entry.path()))
        .map(|entry| text(&fs::read_link(entry.path()).unwrap_or_default()))
        .collect();
    safe_if(open.is_empty(), "none is open", format!("open in the waiting init: {}", open.join(", ")))
}
