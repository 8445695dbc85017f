//! The last exec: the kernel resolves the program, a symbolic link, a script's interpreter and a program's loader before it
//! closes anything. What a runtime has open then, even close-on-exec, is a way to the host's programs.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde_json::json;

use super::{Check, Safe, Unsafe, Verdict, judge, worst};
use crate::bundle::Bundle;
use crate::case::{Case, Container, Output, text};
use crate::elf;

pub const CHECKS: [Check; 4] = [
    Check {
        name: "last-exec-of-run",
        known_as: "close-on-exec is too late",
        tries: "run a program of the host's through a descriptor: by path, link, script, nested script, loader",
        run: of_run,
    },
    Check {
        name: "last-exec-of-exec",
        known_as: "close-on-exec is too late",
        tries: "the same by exec, and as engines call it: exec --process FILE --pid-file FILE",
        run: of_exec,
    },
    Check {
        name: "last-exec-on-terminal",
        known_as: "close-on-exec is too late",
        tries: "the same by exec --tty",
        run: of_exec_on_terminal,
    },
    Check {
        name: "init-holds-the-host",
        known_as: "a PID 1 that never execs",
        tries: "climb out by what the first process has open, and find namespaces of the host's",
        run: init_holds_the_host,
    },
];

/// What the program prints that lies outside, and the one that lies inside.
const OUTSIDE: &str = "ESCAPED: a program of the host runs";
const INSIDE: &str = "the trap works";
const UP: &str = "../../../../../../../../../../../../../../../..";
/// Numbers that a runtime's own descriptors may have.
const NUMBERS: std::ops::RangeInclusive<u32> = 3..=20;

/// How the container's file leads to the host's program.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Path,
    Link,
    Chain,
    Script,
    Nested,
    Loader,
}

const WAYS: [Way; 6] = [Way::Path, Way::Link, Way::Chain, Way::Script, Way::Nested, Way::Loader];

fn put(path: &Path, content: &[u8]) {
    fs::write(path, content).expect("it is ours");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it is ours");
}

/// Puts into the root filesystem what leads to `program`; the command that follows it.
fn set_trap(bundle: &Bundle, program: &str, way: Way) -> String {
    let folder = bundle.rootfs("/trap");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).expect("it is ours");
    let name = match way {
        Way::Path => return program.to_owned(),
        Way::Link => "link",
        Way::Chain => "chain",
        Way::Script => "script",
        Way::Nested => "nested",
        Way::Loader => "loaded",
    };
    symlink(program, folder.join("link")).expect("it is ours");
    symlink("../trap/link", folder.join("second")).expect("it is ours");
    symlink("/trap/second", folder.join("chain")).expect("it is ours");
    put(&folder.join("script"), format!("#!{program}\n").as_bytes());
    put(&folder.join("nested"), b"#!/trap/script\n");
    put(&folder.join("loaded"), &elf::started_by(program));
    format!("/trap/{name}")
}

/// The host's program, and one of the container's.
fn put_programs(case: &Case, bundle: &Bundle) -> String {
    let tool = case.folder.join("tool");
    put(&tool, &elf::printing(OUTSIDE));
    put(&bundle.rootfs("/inside"), &elf::printing(INSIDE));
    text(&tool)
}

/// Tries all ways: first to the program inside, which must run, or the trap proves nothing; then by each descriptor.
fn try_all(case: &Case, bundle: &Bundle, mut call: impl FnMut(&str) -> Output) -> Verdict {
    let tool = put_programs(case, bundle);
    let verdicts = WAYS.iter().flat_map(|&way| {
        let works = call(&set_trap(bundle, "/inside", way));
        let works = match works.text.contains(INSIDE) {
            true => Safe("the trap works".to_owned()),
            false => Unsafe(format!("the probe itself does not run: {}", works.line())),
        };
        let tried = NUMBERS.map(|number| {
            let program = format!("/proc/self/fd/{number}/{UP}{tool}");
            let output = call(&set_trap(bundle, &program, way));
            match judge(&output) {
                Unsafe(why) => Unsafe(format!("descriptor {number}: {why}")),
                verdict => verdict,
            }
        });
        tried.chain([works]).collect::<Vec<_>>()
    });
    match worst(verdicts.collect::<Vec<_>>()) {
        Safe(_) => Safe("no descriptor leads to the program outside".to_owned()),
        verdict => verdict,
    }
}

fn of_run(case: &Case) -> Verdict {
    let mut bundle = case.bundle();
    let place = case.bundle();
    // Of two bundles on one root filesystem one is called and the other one's files are changed.
    bundle.set("/root/path", text(&place.rootfs("/")));
    try_all(case, &place, |command| case.run(bundle.args(&[command])))
}

/// A container that sleeps, in which commands are run.
fn asleep<'a>(case: &'a Case, bundle: &mut Bundle) -> Result<Container<'a>, Verdict> {
    case.boot(bundle.args(&["sleep", "600"])).map_err(|output| Unsafe(format!("it does not start: {}", output.line())))
}

fn of_exec(case: &Case) -> Verdict {
    let mut bundle = case.bundle();
    let container = match asleep(case, &mut bundle) {
        Ok(container) => container,
        Err(verdict) => return verdict,
    };
    let plain = try_all(case, &bundle, |command| container.call("exec", &["--", command]));
    let (file, pid_file) = (case.folder.join("process.json"), text(&case.folder.join("pid")));
    let as_engines = try_all(case, &bundle, |command| {
        let mut process = bundle.config["process"].clone();
        process["args"] = json!([command]);
        fs::write(&file, process.to_string()).expect("it is ours");
        container.call("exec", &["--process", &text(&file), "--pid-file", &pid_file, "--"])
    });
    worst([plain, as_engines])
}

fn of_exec_on_terminal(case: &Case) -> Verdict {
    let mut bundle = case.bundle();
    let container = match asleep(case, &mut bundle) {
        Ok(container) => container,
        Err(verdict) => return verdict,
    };
    let runtime = format!("{} --root {}", text(&case.sandbox.runtime.path), text(&case.root));
    try_all(case, &bundle, |command| {
        let exec = format!("{runtime} exec --tty {} {command}", container.id);
        let mut script = std::process::Command::new("script");
        script.args(["-qec", &exec, "/dev/null"]).current_dir(&case.folder);
        case.output(script)
    })
}

fn init_holds_the_host(case: &Case) -> Verdict {
    // What is counted first shows that the descriptors can be looked at.
    let script = format!(
        "[ -e /proc/1/fd/0 ] && echo looked
        for way in $(ls /proc/1/fd | sed s,^,fd/,) cwd root; do
            [ -e /proc/1/$way/{UP}$MARK ] && echo ESCAPED by $way of the first process
            case $(readlink /proc/1/$way) in
                net:*|mnt:*|pid:*|ipc:*|uts:*|user:*|cgroup:*) echo ESCAPED: the first process holds a namespace;; esac
        done
        tr '\\0' '\\n' </proc/1/environ | grep -q OF_THE_CALLER && echo ESCAPED: variables of the caller
        true >>/proc/1/exe 2>/dev/null && echo ESCAPED: its program can be written; echo tried"
    );
    let mut bundle = case.bundle();
    bundle.allow("CAP_SYS_PTRACE").set("/annotations", json!({ "cellblock.init": "true" }));
    let id = case.place(bundle.script(&script));
    let mut command = case.command(&["run", "--bundle", &text(&bundle.folder), &id]);
    command.env("OF_THE_CALLER", "1");
    let output = case.output(command);
    case.call(&["delete", "--force", &id]);
    match judge(&output) {
        Safe(_) if !output.text.contains("looked") => Unsafe(format!("it could not look: {}", output.line())),
        verdict => verdict,
    }
}
