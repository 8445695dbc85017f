//! Step 2, blindfolds: what a process in namespaces of its own no longer sees.

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use classroom::lab::binary;
use classroom::{Lab, World, check, every_step, lab};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const STEP: &str = "namespaces";

#[test]
fn pid_1() {
    lab!(World::Root, |lab| {
        check!("namespaces_pid", lab.run(STEP, &["sh", "-c", "echo I am $$"]));
        check!("namespaces_ps", lab.run(STEP, &["ps"])); // no /proc yet: a riddle, and step 3's answer
    });
}

#[test]
fn explained() {
    lab!(World::Root, |lab| {
        check!("namespaces_explained", lab.run(STEP, &["--explain", "--hostname", "cell", "hostname"]));
        check!("namespaces_explained_init", lab.run(STEP, &["--explain", "--init", "true"]));
    });
}

#[test]
fn explained_the_same_each_time() {
    lab!(World::Root, |lab| {
        let tell = || lab.run(STEP, &["--explain", "--init", "--boottime", "60", "hostname"]).text;
        let first = tell();
        (0..40).for_each(|_| assert_eq!(tell(), first));
    });
}

#[test]
fn report() {
    lab!(World::Root, |lab| check!("namespaces_report", lab.run(STEP, &["--hostname", "cell", "inmate", "report"])));
}

/// What step 1 gave away, and step 2 does not.
#[test]
fn attacks() {
    lab!(World::Root, |lab| {
        let columns = classroom::attacks::COLUMNS;
        let column = |name| *columns.iter().find(|column| column.name == name).unwrap();
        for attack in ["host-processes", "ptrace", "hostname", "shared-memory", "mount-leak"] {
            assert_eq!(lab.attack(column("chroot"), attack).word, "ESCAPED", "{attack} on step 1");
            assert_eq!(lab.attack(column(STEP), attack).word, "HELD", "{attack}");
        }
        check!("namespaces_attack_chroot", lab.run(STEP, &["inmate", "attack", "chroot"]));
    });
}

#[test]
fn exit_codes() {
    lab!(World::Root, |lab| every_step::exit_codes(lab, STEP, &["--init"]));
}

#[test]
fn failures() {
    lab!(World::Root, |lab| {
        let long = "x".repeat(65);
        let more: &[&[&str]] = &[
            &["--hostname", "", "true"],
            &["--hostname", &long, "true"],
            &["--boottime", "-99999999999", "true"],
            &["--boottime", "soon", "true"],
        ];
        check!("namespaces_failures", every_step::failures(lab, STEP, more));
        lab.restore(); // the broken programs were the test's own
    });
}

#[test]
fn started_anyhow() {
    lab!(World::Root, |lab| every_step::started_anyhow(lab, STEP));
}

#[test]
fn killed_at_every_moment() {
    lab!(World::Root, |lab| every_step::killed_at_every_moment(lab, STEP, &["--init"]));
}

/// Starts a launcher whose command says when it is up, sends it a signal, and returns the code and what it printed.
fn signalled(lab: &Lab, signal: Signal, arguments: &[&str]) -> (i32, String) {
    let mut child = lab.launcher(STEP, arguments).stdout(Stdio::piped()).spawn().unwrap();
    every_step::wait_for_a_line(&mut child);
    kill(Pid::from_raw(child.id() as i32), signal).unwrap();
    let output = child.wait_with_output().unwrap();
    (classroom::run::code(output.status), String::from_utf8(output.stdout).unwrap())
}

/// The riddle: PID 1 ignores a signal that it has no handler for.
#[test]
fn pid_1_ignores_what_it_does_not_handle() {
    lab!(World::Root, |lab| {
        let deaf = ["sh", "-c", "echo up; exec sleep 1"];
        assert_eq!(signalled(lab, Signal::SIGTERM, &deaf).0, 0, "TERM does nothing, sleep ends by itself");
        let listening = ["sh", "-c", "trap 'echo got it; exit 9' TERM; echo up; while :; do sleep 0.05; done"];
        assert_eq!(signalled(lab, Signal::SIGTERM, &listening), (9, "got it\n".to_owned()));
        let with_init = ["--init", "sh", "-c", "echo up; exec sleep 10"];
        assert_eq!(signalled(lab, Signal::SIGTERM, &with_init).0, 143);
        assert_eq!(signalled(lab, Signal::SIGUSR1, &with_init).0, 138);
    });
}

/// An orphan is PID 1's to reap. The inmate, as PID 1, finds three on its hands; under an init, none.
#[test]
fn orphans() {
    lab!(World::Root, |lab| {
        check!("namespaces_orphans", lab.run(STEP, &["inmate", "orphans"]));
        check!("namespaces_orphans_init", lab.run(STEP, &["--init", "inmate", "orphans"]));
    });
}

/// Types into a shell on a terminal, a line at a time, and returns what the terminal showed.
fn type_into_bash(lab: &Lab, keys: &[&str]) -> String {
    let mut terminal = Command::new("script");
    terminal.args(["-qec", "bash --norc --noprofile -i", "/dev/null"]).env("CELLBLOCK_ROOTFS", &lab.rootfs);
    terminal.env("PS1", "$ ").env("L", binary(STEP)).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut terminal = terminal.spawn().unwrap();
    let mut keyboard = terminal.stdin.take().unwrap();
    for key in keys {
        sleep(Duration::from_millis(500));
        keyboard.write_all(key.as_bytes()).unwrap();
    }
    drop(keyboard);
    String::from_utf8_lossy(&terminal.wait_with_output().unwrap().stdout).into_owned()
}

#[test]
fn the_terminal_stays_usable() {
    lab!(World::Root, |lab| {
        let shown = type_into_bash(lab, &["$L --init sleep 20; echo code $?\n", "\x03", "exit\n"]);
        assert!(shown.contains("code 130"), "Ctrl-C ends the command: {shown}");
        let shown = type_into_bash(
            lab,
            &["$L --init sleep 20\n", "\x1a", "jobs\n", "fg\n", "\x03", "echo code $?\n", "exit\n"],
        );
        assert!(shown.contains("Stopped"), "Ctrl-Z stops the command: {shown}");
        assert!(shown.contains("code 130"), "fg goes on with it: {shown}");
        let shown = type_into_bash(lab, &["$L sleep 20\n", "\x1a", "kill -KILL %1; sleep 0.2; jobs\n", "exit\n"]);
        assert!(shown.contains("Stopped") && shown.contains("Killed"), "Ctrl-Z works for PID 1, too: {shown}");
        let shown = type_into_bash(
            lab,
            &["$L sh\n", "sleep 20\n", "\x03", "echo in $$\n", "exit 5\n", "echo code $?\n", "exit\n"],
        );
        assert!(shown.contains("in 1") && shown.contains("code 5"), "a shell inside has job control: {shown}");
        assert!(!shown.contains("job control turned off"), "{shown}");
    });
}

#[test]
fn clocks_of_its_own() {
    lab!(World::Root, |lab| {
        let output = lab.run(STEP, &["--boottime", "864000000", "uptime"]);
        assert!(output.text.contains("up 1000"), "ten thousand days: {output}");
        assert_eq!(lab.run(STEP, &["--boottime", "10", "--monotonic=-1", "true"]).code, 0);
    });
}

#[test]
fn a_cgroup_namespace_begins_at_the_own_group() {
    lab!(World::Root, |lab| {
        let script = "mount -t proc proc /proc; cat /proc/self/cgroup";
        let output = lab.run(STEP, &["--cgroupns", "sh", "-c", script]);
        assert!(output.text.lines().all(|line| line.ends_with(":/")), "{output}");
    });
}
