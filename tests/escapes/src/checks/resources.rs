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

/// The same for the verbs of a whole life, one after the other.
fn lives(case: &Case, odd: &str) -> Verdict {
    const LIFE: &str = "
        r() { \"$R\" --root \"$1\" \"${@:4}\" || { echo \"$4 ends with $?\" >\"$3.failed\"; exit; }; }
        r \"$@\" create --bundle \"$2\" one; r \"$@\" start one; r \"$@\" exec one touch /told
        r \"$@\" kill one KILL; r \"$@\" delete --force one";
    let mut bundle = case.bundle();
    case.place(bundle.args(&["sleep", "60"]));
    let note = case.folder.join(case.name("life"));
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!("{odd}; {LIFE}"), "caller"]).arg(&case.root).arg(&bundle.folder).arg(&note);
    let output = case.output({
        shell.env("R", &case.sandbox.runtime.path).current_dir(&case.folder);
        shell
    });
    case.call(&["delete", "--force", "one"]);
    let failed = fs::read_to_string(note.with_extension("failed")).unwrap_or_default();
    let lived = failed.is_empty() && bundle.rootfs("/told").exists();
    safe_if(lived, "it lives", format!("{odd}: {} {}", failed.trim(), output.line()))
}

fn standard_descriptors_closed(case: &Case) -> Verdict {
    let odd = ["exec 0<&-", "exec 1>&-", "exec 2>&-", "exec 0<&- 1>&- 2>&-"];
    worst(odd.iter().flat_map(|odd| [runs(case, odd), lives(case, odd)]))
}

fn few_descriptors(case: &Case) -> Verdict {
    worst([runs(case, "ulimit -n 32"), lives(case, "ulimit -n 32")])
}

fn odd_callers(case: &Case) -> Verdict {
    let odd = ["trap '' TERM HUP INT PIPE CHLD", "umask 077", "mkdir gone; cd gone; rmdir ../gone", "unset PATH HOME"];
    worst(odd.map(|odd| runs(case, odd)))
}

/// How large a small disk is, in pages of that many bytes: memory is given out by the page.
const PAGES: usize = 4;
const PAGE: usize = 4096;

/// Something small and full, mounted on this folder.
fn fill(folder: &Path) {
    fill_but(folder, 0);
}

/// How large a small disk is, with that many pages left.
fn fill_but(folder: &Path, pages: usize) {
    fs::create_dir_all(folder).expect("the sandbox is ours");
    let size = format!("size={}", PAGES * PAGE);
    mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), Some(&*size)).expect("these mounts are ours");
    let _ = fs::write(folder.join("filler"), vec![b'x'; (PAGES - pages) * PAGE]);
}

/// With room for nothing, and for more and more: it fails and leaves nothing, or it lives to its end, on a disk that is full
/// by then.
fn state_disk_full(case: &Case) -> Verdict {
    worst((0..=PAGES).map(|pages| state_disk_full_but(case, pages)))
}

fn state_disk_full_but(case: &Case, pages: usize) -> Verdict {
    fill_but(&case.root, pages);
    let mut bundle = case.bundle();
    let verdict = match case.create(bundle.args(&["sleep", "60"])) {
        Err(output) => judge(&output),
        Ok(_) if pages == 0 => Unsafe("it is created, though its state cannot be written".to_owned()),
        Ok(container) => {
            let _ = fs::write(case.root.join("filler"), vec![b'x'; PAGES * PAGE]);
            let failed = ["start", "delete"].into_iter().find(|verb| {
                let options: &[&str] = if *verb == "delete" { &["--force"] } else { &[] };
                container.call(verb, options).code != 0
            });
            safe_if(failed.is_none(), "it lives", format!("{failed:?} fails on a full disk"))
        }
    };
    let entries = fs::read_dir(&case.root).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let left: Vec<_> = names.filter(|name| name != "filler" && !name.starts_with('.')).collect();
    let _ = umount2(&case.root, MntFlags::MNT_DETACH);
    worst([verdict, safe_if(left.is_empty(), "held", format!("with {pages} pages, half a state is left: {left:?}"))])
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
