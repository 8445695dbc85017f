//! Step 1, a cell: what another root directory ends, and what it does not.

use std::process::Command;

use classroom::lab::binary;
use classroom::{World, check, every_step, lab};

const STEP: &str = "chroot";

#[test]
fn another_root() {
    lab!(World::Root, |lab| check!("chroot_ls", lab.run(STEP, &["ls", "/"])));
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
        let script = format!("trap '' TERM PIPE; exec {} sh -c 'kill -TERM $$; echo still alive'", chroot.display());
        let mut command = Command::new("sh");
        command.args(["-c", &script]).env("CELLBLOCK_ROOTFS", &lab.rootfs);
        let output = lab.output(String::new(), command);
        assert_eq!((output.text.as_str(), output.code), ("", 143));
        let output = lab.run(STEP, &["sh", "-c", "yes | head -n 1"]);
        assert_eq!((output.text.as_str(), output.code), ("y\n", 0), "yes must die of SIGPIPE");
    });
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

#[test]
fn started_anyhow() {
    lab!(World::Root, |lab| every_step::started_anyhow(lab, STEP));
}

#[test]
fn an_ordinary_user_needs_a_way() {
    lab!(World::User, |lab| {
        check!("chroot_refused", lab.run(STEP, &["ls", "/"]));
        let output = every_step::as_root(lab, STEP, &["id", "-u"]);
        assert_eq!((output.text.as_str(), output.code), ("0\n", 0));
    });
}

#[test]
fn killed_at_every_moment() {
    lab!(World::Root, |lab| every_step::killed_at_every_moment(lab, STEP, &[]));
}
