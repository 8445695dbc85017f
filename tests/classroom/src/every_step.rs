//! What every step must show, whatever its wall: exit codes, failures, and that nothing outlives its launcher.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::lab::{Lab, workspace};
use crate::run::{Output, code};
use crate::trace::orphans_end_within;

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

/// The field's exit codes. `options` make a launcher whose command dies of SIGTERM (`--init`, from step 2 on).
pub fn exit_codes(lab: &Lab, launcher: &str, options: &[&str]) {
    let run = |arguments: &[&str]| lab.run(launcher, arguments).code;
    assert_eq!(run(&["true"]), 0);
    assert_eq!(run(&["sh", "-c", "exit 7"]), 7);
    assert_eq!(run(&["--nosuch-option", "true"]), 125, "a bad option");
    assert_eq!(run(&["--rootfs", "/nosuch", "true"]), 125, "no root filesystem");
    assert_eq!(run(&["/etc/passwd"]), 126, "not executable");
    assert_eq!(run(&["/etc"]), 126, "a directory");
    assert_eq!(run(&["nosuch"]), 127, "not found in PATH");
    assert_eq!(run(&["/bin/nosuch"]), 127, "not found by path");
    assert_eq!(ends_by(lab, launcher, options, SIGTERM), 143, "TERM, sent to the launcher");
    assert_eq!(ends_by(lab, launcher, &[], SIGKILL), 137, "KILL, sent to the launcher");
    let mut options = options.to_vec();
    options.extend(["sh", "-c", "kill -KILL $$"]);
    assert_eq!(run(&options), 137, "KILL, sent to the command");
}

/// Starts a long command, sends the launcher a signal, and returns how it ended.
fn ends_by(lab: &Lab, launcher: &str, options: &[&str], signal: i32) -> i32 {
    let mut arguments = options.to_vec();
    arguments.extend(["sh", "-c", "echo up; exec sleep 20"]);
    let mut child = lab.launcher(launcher, &arguments).stdout(Stdio::piped()).spawn().expect("it was built");
    wait_for_a_line(&mut child);
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    let signal = nix::sys::signal::Signal::try_from(signal).expect("TERM or KILL");
    nix::sys::signal::kill(pid, signal).expect("it is our child");
    let code = code(child.wait().expect("it is our child"));
    assert!(orphans_end_within(Duration::from_secs(2)), "{launcher} left a process behind");
    code
}

/// Waits until the command runs: it says so by its first line.
pub fn wait_for_a_line(child: &mut std::process::Child) -> String {
    let output = child.stdout.as_mut().expect("piped");
    let mut line = Vec::new();
    for byte in std::io::Read::bytes(output) {
        line.push(byte.expect("a pipe can be read"));
        if line.ends_with(b"\n") {
            break; // what comes behind it is left for the next reader
        }
    }
    String::from_utf8(line).expect("text")
}

/// Kills the launcher three hundred times, at every half millisecond of its first twenty. No process may remain; the
/// lab's own check at the end sees to mounts, files and the rest.
pub fn killed_at_every_moment(lab: &Lab, launcher: &str, options: &[&str]) {
    let mut arguments = options.to_vec();
    arguments.extend(["sleep", "20"]);
    for round in 0..300_u32 {
        let mut child = lab.start(launcher, &arguments);
        sleep(Duration::from_micros(u64::from(round % 41) * 500));
        child.kill().expect("it is our child");
        child.wait().expect("it is our child");
        let moment = f64::from(round % 41) / 2.0;
        assert!(
            orphans_end_within(Duration::from_secs(3)),
            "a process outlived its launcher, killed after {moment} ms"
        );
    }
}

/// One launch for each common mistake, and what it prints.
pub fn failures(lab: &Lab, launcher: &str, more: &[&[&str]]) -> String {
    put_broken_programs(lab);
    let common: &[&[&str]] = &[
        &["--nosuch", "ls"],
        &["--rootfs", "/nosuch", "ls"],
        &["--rootfs", "/etc/passwd", "ls"],
        &["--env", "=value", "env"],
        &["--workdir", "/nosuch", "ls"],
        &["nosuch"],
        &["/nosuch"],
        &["/etc"],
        &["not-executable"],
        &["no-interpreter"],
        &["no-loader"],
        &["no-program"],
        &["other-machine"],
    ];
    common.iter().chain(more).map(|arguments| format!("{}\n", lab.run(launcher, arguments))).collect()
}

/// Programs that cannot be started, each for another reason.
fn put_broken_programs(lab: &Lab) {
    let bin = lab.rootfs.join("bin");
    let put = |name: &str, content: &[u8], mode| {
        fs::write(bin.join(name), content).expect("the root filesystem is ours");
        fs::set_permissions(bin.join(name), PermissionsExt::from_mode(mode)).expect("it is ours");
    };
    put("not-executable", b"#!/bin/sh\n", 0o644);
    put("no-interpreter", b"#!/usr/bin/perl -w\n", 0o755);
    put("no-program", b"just text\n", 0o755);
    // The smallest ELF files that get far enough: a head, and one program header that names a loader.
    put("no-loader", &elf(if cfg!(target_arch = "aarch64") { 183 } else { 62 }), 0o755);
    put("other-machine", &elf(255), 0o755); // a number that is assigned to no machine, and no emulator takes
}

fn elf(machine: u8) -> Vec<u8> {
    const LOADER: &[u8] = b"/lib/ld-nosuch.so.2\0";
    let mut file = vec![0; 64 + 56];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    (file[16], file[18], file[20], file[32], file[52], file[54], file[56]) = (2, machine, 1, 64, 64, 56, 1);
    let header = &mut file[64..];
    (header[0], header[4], header[8], header[32], header[40]) = (3, 4, 64 + 56, LOADER.len() as u8, LOADER.len() as u8);
    file.extend_from_slice(LOADER);
    file
}

/// The folders from which, and the ways in which, a learner may start a launcher: all of them must work.
pub fn started_anyhow(lab: &Lab, launcher: &str) {
    let elsewhere = |command: &mut Command| -> Output {
        command.current_dir("/").env_remove("CELLBLOCK_ROOTFS");
        lab.output(String::new(), std::mem::replace(command, Command::new("true")))
    };
    let hello = elsewhere(&mut lab.launcher(launcher, &["echo", "hello"]));
    assert_eq!((hello.text.as_str(), hello.code), ("hello\n", 0), "from another folder");
    let path = crate::lab::binary(launcher);
    for odd in ["exec <&-", "exec <&- >&-", "trap '' TERM PIPE HUP", "exec 7</ 8</etc", "umask 077", "ulimit -n 32"] {
        let script = format!("{odd}; exec '{}' sh -c 'echo hello >&2; exit 3'", path.display());
        let mut command = Command::new("sh");
        command.args(["-c", &script]).env("CELLBLOCK_ROOTFS", &lab.rootfs).stdin(Stdio::null());
        let output = lab.output(String::new(), command);
        assert_eq!((output.text.as_str(), output.code), ("hello\n", 3), "{odd}");
    }
}

/// A descriptor of a directory outside must not be a way out: not as working directory, nor as the way to a program
/// (CVE-2024-21626). Whatever number it has: our own descriptors are tried as well.
pub fn no_descriptor_leads_out(lab: &Lab, launcher: &str) {
    let path = crate::lab::binary(launcher);
    for number in 3..40 {
        for arguments in [
            format!("--workdir /proc/self/fd/{number} ls"),
            format!("--workdir /proc/self/fd/{number}/../../../.. ls"),
            format!("/proc/self/fd/{number}/bin/busybox true"),
            format!("/proc/self/fd/{number}/../../../../bin/busybox true"),
        ] {
            let script = format!("exec 7</etc 9</; exec '{}' {arguments}", path.display());
            let mut command = Command::new("bash"); // dash knows no descriptor above 9
            command.args(["-c", &script]).env("CELLBLOCK_ROOTFS", &lab.rootfs).stdin(Stdio::null());
            let output = lab.output(arguments.clone(), command);
            assert!(matches!(output.code, 125..=127), "{output}");
        }
    }
}

/// A folder on the lab's host with a file in it, into which nothing may find its way.
pub fn canary(lab: &Lab, link: &str) -> std::path::PathBuf {
    let canary = lab.folder.join("canary");
    fs::create_dir_all(&canary).expect("the folder is ours");
    let place = lab.rootfs.join(link.trim_start_matches('/'));
    let _ = fs::remove_dir(&place);
    symlink(&canary, &place).expect("the root filesystem is ours");
    canary
}

/// The script with which an ordinary user, and cargo, start a launcher.
pub fn as_root(lab: &Lab, launcher: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(workspace().join("scripts/as-root"));
    command.arg(crate::lab::binary(launcher)).args(arguments);
    command.env("CELLBLOCK_ROOTFS", &lab.rootfs).env("CELLBLOCK_AS_ROOT", "sandbox").stdin(Stdio::null());
    lab.output(format!("$ cargo run -p {launcher} -- {}", arguments.join(" ")), command)
}
