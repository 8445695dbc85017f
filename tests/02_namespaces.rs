//! Step 2, blindfolds: what a process in namespaces of its own no longer sees.

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use classroom::lab::binary;
use classroom::trace::orphans_end_within;
use classroom::{Lab, World, check, every_step, lab};
use kernel::Errno;
use kernel::sys::clone::{self, Clone, CloneFlags};
use nix::fcntl::{FcntlArg, fcntl};
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

fn column(name: &str) -> classroom::attacks::Column {
    *classroom::attacks::COLUMNS.iter().find(|column| column.name == name).unwrap()
}

/// What step 1 gave away, and step 2 does not.
#[test]
fn attacks() {
    lab!(World::Root, |lab| {
        for attack in ["host-processes", "ptrace", "hostname", "shared-memory", "mount-leak"] {
            assert_eq!(lab.attack(column("chroot"), attack).word, "ESCAPED", "{attack} on step 1");
            assert_eq!(lab.attack(column(STEP), attack).word, "HELD", "{attack}");
        }
        check!("namespaces_attack_chroot", lab.run(STEP, &["inmate", "attack", "chroot"]));
    });
}

/// Each mount has a propagation of its own: not only `/` must be private, but what is mounted below it, too.
#[test]
fn no_mount_leaks_from_below_another() {
    lab!(World::Root, |lab| {
        let place = lab.rootfs.join("mnt").display().to_string(); // where the attack mounts something
        let succeed = |command: &mut Command| assert!(command.status().unwrap().success(), "{command:?}");
        succeed(Command::new("mount").args(["-t", "tmpfs", "tmpfs", &place]));
        assert_eq!(lab.attack(column("chroot"), "mount-leak").word, "ESCAPED", "on step 1");
        assert_eq!(lab.attack(column(STEP), "mount-leak").word, "HELD");
        succeed(Command::new("umount").arg(&place));
    });
}

#[test]
fn no_descriptor_leads_out() {
    lab!(World::Root, |lab| every_step::no_descriptor_leads_out(lab, STEP));
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

/// Whoever starts us may ignore SIGCHLD, and that survives exec: then nobody would tell us that the command has ended.
#[test]
fn started_with_sigchld_ignored() {
    lab!(World::Root, |lab| {
        let mut command = Command::new("timeout"); // a shell will not do: dash never ignores SIGCHLD
        command.args(["--signal=KILL", "5", "env", "--ignore-signal=CHLD"]).arg(binary(STEP));
        command.args(["sh", "-c", "exit 3"]).env("CELLBLOCK_ROOTFS", &lab.rootfs).stdin(Stdio::null());
        assert_eq!(lab.output(String::new(), command).code, 3, "it ended, and we saw it");
    });
}

#[test]
fn killed_at_every_moment() {
    lab!(World::Root, |lab| every_step::killed_at_every_moment(lab, STEP, &["--init"]));
}

/// Starts a launcher and kills it when `line` of its story is to be told, not earlier and not later: the pipe into
/// which it is told has room for what comes before, and no more. Whoever is left can go on then.
fn killed_before(lab: &Lab, line: &str) {
    let story = lab.run(STEP, &["--explain", "true"]).text;
    let told = story.find(line).expect("a line of the story");
    let (reader, mut writer) = std::io::pipe().unwrap();
    let room = fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096)).unwrap() as usize; // one page: no write begins another
    writer.write_all(&vec![b'.'; room - told]).unwrap();
    let mut launcher = lab.launcher(STEP, &["--explain", "sleep", "20"]).stderr(writer).spawn().unwrap();
    sleep(Duration::from_millis(300)); // it gets there in a few
    launcher.kill().unwrap();
    launcher.wait().unwrap();
    drop(reader);
    assert!(orphans_end_within(Duration::from_secs(3)), "killed before {line:?}: the child lives on");
}

/// The parent's death is told by the gate before it is open, by the kernel after the child has asked for it, and
/// between the two by the report.
#[test]
fn killed_on_either_side_of_the_gate() {
    lab!(World::Root, |lab| {
        killed_before(lab, "parent > all is ready for the child");
        killed_before(lab, "child  > wait at the gate");
    });
}

/// The child would have a copy of memory in which the other thread's locks are held for ever.
#[test]
fn no_clone_with_two_threads() {
    std::thread::scope(|scope| {
        let (_keep, wait) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || wait.recv());
        match clone::clone3(CloneFlags::empty(), "child") {
            Ok(Clone::Child) => clone::exit_now(0),
            Ok(Clone::Parent(_)) => panic!("it was cloned"),
            Err(failure) => assert_eq!(failure.errno(), Some(Errno::EINVAL), "{failure}"),
        }
    });
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
        let to_itself = ["sh", "-c", "kill -TERM $$; kill -KILL $$; echo still here"];
        check!("namespaces_deaf", lab.run(STEP, &to_itself));
        check!("namespaces_deaf_init", lab.run(STEP, &[&["--init"][..], &to_itself].concat()));
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

/// The launcher's own init reaps what the inmate does not: nobody stays a zombie.
#[test]
fn init_reaps_strangers() {
    lab!(World::Root, |lab| {
        let script = "mount -t proc proc /proc; for i in 1 2 3; do (sleep 0.1 &); done; sleep 0.5; ps -o stat,comm; \
                      umount /proc";
        let output = lab.run(STEP, &["--init", "sh", "-c", script]);
        assert!(output.text.contains("ps") && !output.text.contains('Z'), "{output}");
    });
}

/// Types into a shell on a terminal, a line at a time, and returns what the terminal showed.
fn type_into_bash(lab: &Lab, keys: &[&str]) -> String {
    let mut terminal = Command::new("script");
    terminal.args(["-qec", "bash --norc --noprofile -i", "/dev/null"]).env("CELLBLOCK_ROOTFS", &lab.rootfs);
    let folder = binary(STEP).parent().expect("a folder").display().to_string(); // $L is one word, with a space in the path too
    terminal.env("PATH", format!("{folder}:{}", std::env::var("PATH").unwrap_or_default()));
    terminal.env("PS1", "$ ").env("L", STEP).stdin(Stdio::piped()).stdout(Stdio::piped());
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
        // A shell would take the terminal back from it by itself; a script, which goes on, does not.
        let shown = type_into_bash(
            lab,
            &["sh -c '$L sh; read line; echo $line to you'\n", "exit\n", "hello\n", "kill -KILL %1\n", "exit\n"],
        );
        assert!(shown.contains("hello to you"), "the terminal is ours again: {shown}");
    });
}

/// Ctrl-C goes to the foreground process group, by the kernel's hand. A command that has left the group does not get
/// it from there, and so must not get it from us.
#[test]
fn ctrl_c_is_not_forwarded() {
    lab!(World::Root, |lab| {
        for options in ["", "--init "] {
            let script = "trap \"echo got $((40+2))\" INT; sleep 1.5; echo over $((1+1))";
            let shown = type_into_bash(lab, &[&format!("$L {options}setsid sh -c '{script}'\n"), "\x03", "exit\n"]);
            assert!(shown.contains("over 2") && !shown.contains("got 42"), "{shown}");
        }
    });
}

/// SIGCONT may come to the launcher alone. It stopped the command, so it must let it go on.
#[test]
fn continued_alone() {
    lab!(World::Root, |lab| {
        let keys = ["$L sleep 1\n", "\x1a", "kill -CONT $(jobs -p); sleep 2; jobs; kill -KILL %1\n", "exit\n"];
        let shown = type_into_bash(lab, &keys);
        assert!(shown.contains("Stopped") && shown.contains("Done"), "{shown}");
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
        let script = "mount -t proc proc /proc; cat /proc/self/cgroup; umount /proc";
        let output = lab.run(STEP, &["--cgroupns", "sh", "-c", script]);
        assert!(output.text.lines().all(|line| line.ends_with(":/")), "{output}");
    });
}
