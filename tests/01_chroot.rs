//! Step 1, a cell: what another root directory ends, and what it does not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use classroom::lab::{binary, workspace};
use classroom::{World, check, every_step, lab};

const STEP: &str = "chroot";

#[test]
fn another_root() {
    lab!(World::Root, |lab| check!("chroot_ls", lab.run(STEP, &["ls", "/"])));
}

/// The working directory is left outside by chroot, and must be fetched in.
#[test]
fn starts_inside() {
    lab!(World::Root, |lab| assert_eq!(lab.run(STEP, &["ls"]).text, lab.run(STEP, &["ls", "/"]).text));
}

#[test]
fn explained() {
    lab!(World::Root, |lab| check!("chroot_explained", lab.run(STEP, &["--explain", "ls", "/"])));
}

#[test]
fn report() {
    lab!(World::Root, |lab| check!("chroot_report", lab.run(STEP, &["inmate", "report"])));
}

/// The wall is low: a second chroot, and a climb.
#[test]
fn broken_out_of() {
    lab!(World::Root, |lab| check!("chroot_attack_chroot", lab.run(STEP, &["inmate", "attack", "chroot"])));
}

/// There is no /proc. Whoever mounts one sees the host: here its PID 1, which is this test.
#[test]
fn sees_the_host_in_a_proc_of_its_own() {
    lab!(World::Root, |lab| {
        let script = "mount -t proc proc /proc && cat /proc/1/cmdline | tr '\\0' ' '; umount /proc";
        let output = lab.run(STEP, &["sh", "-c", script]);
        assert!(output.text.contains("step_01"), "{output}");
    });
}

/// In /proc each process has a link to its root directory. The parent's leads out.
#[test]
fn walks_out_through_proc() {
    lab!(World::Root, |lab| {
        let file = workspace().join("Cargo.toml").display().to_string();
        let script = "mount -t proc proc /proc && chroot /proc/$PPID/root ls \"$0\"; umount /proc";
        let output = lab.run(STEP, &["sh", "-c", script, &file]);
        assert_eq!(output.text, "Cargo.toml\n", "{output}");
    });
}

/// An open file is a way out that no path leads to. On the host the inmate sees it, in the cell it does not.
#[test]
fn nothing_open_comes_along() {
    lab!(World::Root, |lab| {
        let inmate = lab.rootfs.join("bin/inmate").display().to_string();
        let descriptors = |report: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("exec 7</; exec {report}")]).env("CELLBLOCK_ROOTFS", &lab.rootfs);
            command.stdin(Stdio::null());
            let output = lab.output(String::new(), command);
            let line = output.text.lines().find_map(|line| line.strip_prefix("descriptors")).map(str::trim);
            line.unwrap_or_else(|| panic!("{output}")).to_owned()
        };
        let outside = descriptors(&format!("'{inmate}' report"));
        assert!(outside.split(' ').any(|descriptor| descriptor == "7"), "{outside}");
        assert_eq!(descriptors(&format!("'{}' inmate report", binary(STEP).display())), "0 1 2");
    });
}

#[test]
fn an_environment_of_its_own() {
    lab!(World::Root, |lab| check!("chroot_env", lab.run(STEP, &["--env", "GREETING=hello", "env"])));
}

#[test]
fn a_variable_can_be_replaced() {
    lab!(World::Root, |lab| {
        let output = lab.run(STEP, &["-e", "PATH=/nowhere", "-e", "HOME=/", "ls"]);
        assert_eq!(output.code, 127, "the command is looked for in its own PATH: {output}");
        let output = lab.run(STEP, &["-e", "HOME=/", "-w", "/etc", "sh", "-c", "echo $HOME; pwd"]);
        assert_eq!(output.text, "/\n/etc\n");
    });
}

/// Ignored and blocked signals survive an exec, unless they are reset.
#[test]
fn signals_are_reset() {
    lab!(World::Root, |lab| {
        let chroot = binary(STEP);
        let script = format!("trap '' TERM PIPE; exec '{}' sh -c 'kill -TERM $$; echo still alive'", chroot.display());
        let mut command = Command::new("sh");
        command.args(["-c", &script]).env("CELLBLOCK_ROOTFS", &lab.rootfs);
        let output = lab.output(String::new(), command);
        assert_eq!((output.text.as_str(), output.code), ("", 143));
        let output = lab.run(STEP, &["sh", "-c", "yes | head -n 1"]);
        assert_eq!((output.text.as_str(), output.code), ("y\n", 0), "yes must die of SIGPIPE");
    });
}

/// The riddle of the lesson: 141 is 128 and 13, the number of SIGPIPE.
#[test]
fn yes_dies_of_a_broken_pipe() {
    let script = "(yes; echo \"yes ended: $?\" >&2) | head -n 1";
    lab!(World::Root, |lab| check!("chroot_sigpipe", lab.run(STEP, &["sh", "-c", script])));
}

#[test]
fn options_before_the_command_are_ours_and_after_it_its_own() {
    lab!(World::Root, |lab| {
        for arguments in [&["ls", "-d", "/bin"][..], &["--", "ls", "-d", "/bin"]] {
            assert_eq!(lab.run(STEP, arguments).text, "/bin\n");
        }
        let help = lab.run(STEP, &["ls", "--help"]);
        assert!(help.text.contains("BusyBox"), "{help}");
    });
}

#[test]
fn no_descriptor_leads_out() {
    lab!(World::Root, |lab| every_step::no_descriptor_leads_out(lab, STEP));
}

#[test]
fn exit_codes() {
    lab!(World::Root, |lab| every_step::exit_codes(lab, STEP, &[]));
}

#[test]
fn failures() {
    lab!(World::Root, |lab| {
        check!("chroot_failures", every_step::failures(lab, STEP, &[]));
        lab.restore(); // the broken programs were the test's own
    });
}

/// One errno, two meanings: the file is missing, or what would have to start it.
#[test]
fn not_found_means_two_things() {
    lab!(World::Root, |lab| {
        let hello = lab.rootfs.join("tmp/hello");
        fs::write(&hello, "#!/usr/bin/perl\n").expect("the root filesystem is ours");
        fs::set_permissions(&hello, PermissionsExt::from_mode(0o755)).expect("it is ours");
        let runs = ["/tmp/nosuch", "/tmp/hello"].map(|program| format!("{}\n", lab.run(STEP, &[program])));
        check!("chroot_not_found", runs.concat());
        fs::remove_file(&hello).expect("it is ours");
    });
}

#[test]
fn started_anyhow() {
    lab!(World::Root, |lab| every_step::started_anyhow(lab, STEP));
}

#[test]
fn an_ordinary_user_needs_a_way() {
    lab!(World::User, |lab| {
        // Not by cargo run, which would find a way.
        let launcher = lab.launcher(STEP, &["ls", "/"]);
        check!("chroot_refused", lab.output("$ target/debug/chroot ls /".to_owned(), launcher));
        let output = every_step::as_root(lab, STEP, &["id", "-u"]);
        assert_eq!((output.text.as_str(), output.code), ("0\n", 0));
    });
}

#[test]
fn killed_at_every_moment() {
    lab!(World::Root, |lab| every_step::killed_at_every_moment(lab, STEP, &[]));
}
