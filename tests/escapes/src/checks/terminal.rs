//! Terminals: the one outside, into which a container must not type, and the one that it gets.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use super::devices::HARMLESS;
use super::{Check, NotApplicable, Safe, Unsafe, Verdict, judge, safe_if, worst};
use crate::bundle::Bundle;
use crate::case::{Case, Output, put, text};

pub const CHECKS: [Check; 4] = [
    Check {
        name: "console-is-link",
        known_as: "CVE-2025-52565",
        tries: "bring a /dev/console that is a link to the host's files, a folder or a file",
        run: console_is_link,
    },
    Check { name: "tiocsti", known_as: "CVE-2017-5226", tries: "type into the caller's terminal", run: tiocsti },
    Check {
        name: "terminal-is-missing",
        known_as: "youki ErrInvalidSpec",
        tries: "create with a terminal that no process takes, and without one for a process that waits",
        run: terminal_is_missing,
    },
    Check {
        name: "terminal-loses-bytes",
        known_as: "crun 1.19.1, 1.23.1",
        tries: "print a mebibyte on a terminal whose reader is slow",
        run: terminal_loses_bytes,
    },
];

/// Runs a bundle on a terminal of its own (man 1 script); what comes there goes through `filter`.
fn on_a_terminal(case: &Case, bundle: &mut Bundle, filter: &str) -> Output {
    let id = case.place(bundle);
    let runtime = format!("'{}' --root '{}'", case.sandbox.runtime.path.display(), text(&case.root));
    // With a terminal the runtime stays between it and the container. Without, only one that is detached has ours.
    let folder = text(&bundle.folder);
    let wait = format!("while {runtime} state {id} | grep -q running; do sleep 0.02; done");
    let run = match bundle.config["process"]["terminal"] == true {
        true => format!("{runtime} run --bundle '{folder}' {id}"),
        false => format!("{runtime} run --detach --bundle '{folder}' {id}; {wait}"),
    };
    let mut shell = Command::new("sh");
    // A pipe without a writer: at its end, script would end as well.
    shell.args(["-c", &format!("mkfifo nobody 2>/dev/null; script -qec \"$0\" /dev/null <>nobody | {filter}"), &run]);
    shell.current_dir(&case.folder);
    let output = case.output(shell);
    case.call(&["delete", "--force", &id]);
    Output { text: output.text.replace('\r', ""), code: output.code }
}

/// Puts something where /dev/console belongs.
type Bring<'a> = &'a dyn Fn(&Bundle);

fn console_is_link(case: &Case) -> Verdict {
    let trap = case.canary.join("mark");
    let brought: [(&str, Bring); 4] = [
        ("a link to the host", &|bundle| symlink(&trap, bundle.rootfs("/dev/console")).expect("it is ours")),
        ("a link into /proc", &|bundle| symlink(HARMLESS, bundle.rootfs("/dev/console")).expect("it is ours")),
        ("a folder", &|bundle| fs::create_dir(bundle.rootfs("/dev/console")).expect("it is ours")),
        ("a file", &|bundle| put(&bundle.rootfs("/dev/console"), "")),
    ];
    let script =
        "[ ! -e /dev/console ] || [ $(stat -Lc %t /dev/console) = 88 ] || echo ESCAPED: /dev/console is another
        grep -q ' /proc/sys/.*devpts' /proc/self/mountinfo && echo ESCAPED: it covers a setting; echo tried";
    worst(brought.iter().map(|(what, bring)| {
        let mut bundle = case.bundle();
        bundle.unmount("/dev").mount("/dev/pts", "devpts", "devpts", &["newinstance", "ptmxmode=0666", "mode=0620"]);
        bundle.script(script).set("/process/terminal", true);
        let _ = fs::remove_file(bundle.rootfs("/dev/console"));
        bring(&bundle);
        match judge(&on_a_terminal(case, &mut bundle, "cat")) {
            Unsafe(why) if !why.starts_with("neither") => Unsafe(format!("{what}: {why}")),
            Unsafe(why) => Safe(why), // script passes no exit code through a pipe: it was refused
            verdict => verdict,
        }
    }))
}

fn tiocsti(case: &Case) -> Verdict {
    let mut bundle = case.bundle();
    bundle.args(&["/bin/inmate", "attack", "tiocsti"]);
    let output = on_a_terminal(case, &mut bundle, "cat");
    let told = output.text.lines().find_map(|line| line.strip_prefix("tiocsti: ")?.split_once(' '));
    match told {
        Some(("HELD", why)) => Safe(why.trim().to_owned()),
        Some(("ESCAPED", why)) => Unsafe(why.trim().to_owned()),
        Some((_, why)) => NotApplicable(why.trim().to_owned()),
        None => Unsafe(format!("the inmate does not run: {}", output.line())),
    }
}

fn terminal_is_missing(case: &Case) -> Verdict {
    let mut with = case.bundle();
    with.set("/process/terminal", true).args(&["true"]);
    let nobody = case.create(&mut with).map(drop);
    let mut without = case.bundle();
    let socket = text(&case.folder.join("console"));
    let unwanted = case.create_with(&mut without, &["--console-socket", &socket]).map(drop);
    worst([("with a terminal", nobody), ("without one", unwanted)].map(|(what, created)| match created {
        Ok(()) => Unsafe(format!("{what} it is created")),
        Err(output) => judge(&output),
    }))
}

fn terminal_loses_bytes(case: &Case) -> Verdict {
    const MEBIBYTE: usize = 1 << 20;
    let mut bundle = case.bundle();
    bundle.set("/process/terminal", true).script("head -c 1048576 /dev/zero | tr '\\0' x");
    let output = on_a_terminal(case, &mut bundle, "{ sleep 0.3; tr -cd x | wc -c; }");
    let count: usize = output.text.trim().parse().unwrap_or_default();
    safe_if(count == MEBIBYTE, "all of it comes", format!("{count} bytes come of {MEBIBYTE}"))
}
