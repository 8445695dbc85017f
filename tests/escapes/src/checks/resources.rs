//! Scarcity: no descriptors, no space, no room for a name.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{Check, Safe, Unsafe, Verdict, judge, safe_if, worst};
use crate::case::{Case, Output, text};

pub const CHECKS: [Check; 6] = [
    Check {
        name: "standard-descriptors-closed",
        known_as: "crun: closed stdin",
        tries: "be called with descriptors 0 to 2 closed, one by one and all",
        run: standard_descriptors_closed,
    },
    Check {
        name: "few-descriptors",
        known_as: "runc 1.4.2",
        tries: "be called with thirty-two descriptors at most",
        run: few_descriptors,
    },
    Check {
        name: "state-disk-full",
        known_as: "atomic state",
        tries: "create with no space left under --root",
        run: state_disk_full,
    },
    Check {
        name: "pid-file-disk-full",
        known_as: "atomic pid-file",
        tries: "create with no space left for the pid file, and for the log",
        run: pid_file_disk_full,
    },
    Check {
        name: "long-paths",
        known_as: "socket path > 108",
        tries: "be called with a --root that is longer than a socket's name may be",
        run: long_paths,
    },
    Check {
        name: "odd-callers",
        known_as: "exec inheritance",
        tries: "be called with signals ignored and blocked, with an umask, from a folder that is gone",
        run: odd_callers,
    },
];

/// Calls the runtime's `run` from a shell that has done something odd first.
fn after(case: &Case, odd: &str) -> Output {
    let mut bundle = case.bundle();
    let id = case.place(bundle.script("echo tried >/told; exit 3"));
    let script = format!("{odd}; exec \"$@\"");
    let mut shell = Command::new("bash");
    shell.args(["-c", &script, "caller"]).arg(&case.sandbox.runtime.path).arg("--root").arg(&case.root);
    let output = case.output({
        shell.args(["run", "--bundle", &text(&bundle.folder), &id]).current_dir(&case.folder);
        shell
    });
    case.call(&["delete", "--force", &id]);
    let told = fs::read_to_string(bundle.rootfs("/told")).unwrap_or_default();
    Output { text: told + &output.text, code: output.code }
}

/// The container runs, and its exit code comes back.
fn runs(case: &Case, odd: &str) -> Verdict {
    let output = after(case, odd);
    let ran = output.text.starts_with("tried") && output.code == 3;
    safe_if(ran, "it runs", format!("{odd}: {} ({})", output.line(), output.code))
}

fn standard_descriptors_closed(case: &Case) -> Verdict {
    worst(["exec 0<&-", "exec 1>&-", "exec 2>&-", "exec 0<&- 1>&- 2>&-"].map(|odd| runs(case, odd)))
}

fn few_descriptors(case: &Case) -> Verdict {
    runs(case, "ulimit -n 32")
}

fn odd_callers(case: &Case) -> Verdict {
    let odd = ["trap '' TERM HUP INT PIPE CHLD", "umask 077", "mkdir gone; cd gone; rmdir ../gone", "unset PATH HOME"];
    worst(odd.map(|odd| runs(case, odd)))
}

/// Something small and full, mounted on this folder.
fn fill(folder: &Path) {
    fs::create_dir_all(folder).expect("the sandbox is ours");
    mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), Some("size=16k")).expect("these mounts are ours");
    let _ = fs::write(folder.join("filler"), [b'x'; 16384]);
}

fn state_disk_full(case: &Case) -> Verdict {
    fill(&case.root);
    let created = case.create(&mut case.bundle()).map(drop);
    let left: Vec<_> =
        fs::read_dir(&case.root).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
    let _ = umount2(&case.root, MntFlags::MNT_DETACH);
    let left: Vec<_> =
        left.iter().filter(|name| *name != "filler" && !name.to_string_lossy().starts_with('.')).collect();
    match created {
        Ok(()) => Unsafe("it is created, though its state cannot be written".to_owned()),
        Err(_) if !left.is_empty() => Unsafe(format!("half a state is left: {left:?}")),
        Err(output) => judge(&output),
    }
}

fn pid_file_disk_full(case: &Case) -> Verdict {
    let full = case.folder.join("full");
    fill(&full);
    let pid_file = text(&full.join("pid"));
    let created = case.create_with(&mut case.bundle(), &["--pid-file", &pid_file]).map(drop);
    let mut bundle = case.bundle();
    let id = case.place(bundle.script("echo tried"));
    let folder = text(&bundle.folder);
    let log = text(&full.join("log"));
    let logged = case.call(&["--log", &log, "--log-format", "json", "run", "--bundle", &folder, &id]);
    case.call(&["delete", "--force", &id]);
    let _ = umount2(&full, MntFlags::MNT_DETACH);
    let created = match created {
        Ok(()) => Unsafe("it is created, though its pid cannot be written".to_owned()),
        Err(output) => judge(&output),
    };
    worst([created, judge(&logged)])
}

fn long_paths(case: &Case) -> Verdict {
    let root = case.root.join("x".repeat(120));
    let mut bundle = case.bundle();
    let id = case.place(bundle.script("echo tried"));
    let mut command = Command::new(&case.sandbox.runtime.path);
    command.arg("--root").arg(&root).args(["run", "--bundle", &text(&bundle.folder), &id]);
    let output = case.output(command);
    let _ = fs::remove_dir_all(&root);
    match judge(&output) {
        Safe(why) if why.starts_with("refused") => Unsafe(why),
        verdict => verdict,
    }
}
