//! Step 4's third demonstration: a real ssh client logs into a cell, over the host's network and over the bridge.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use classroom::lab::{not_run, workspace};
use classroom::world::sh;
use classroom::{Lab, World, every_step, lab};

const STEP: &str = "network";

// ANCHOR: init
/// What the cell runs as its first program: it puts the key in place, and becomes the server.
const INIT: &str = r#"#!/bin/sh
set -e
chmod 700 /root
mkdir -p -m 700 /run/sshd /root/.ssh
cp /mnt/key.pub /root/.ssh/authorized_keys
ssh-keygen -q -t ed25519 -N '' -f /run/host_key
echo up
exec /usr/sbin/sshd -D -p 23322 -h /run/host_key -o UsePAM=no -o PidFile=none
"#;
// ANCHOR_END: init

fn start_server(lab: &Lab, options: &[&str]) -> Child {
    let debian = workspace().join("target/rootfs/debian");
    let volume = format!("{}:/mnt:ro", lab.folder.join("ssh").display());
    let mut arguments = vec!["--hostname", "cell", "--init", "--read-only", "--tmpfs", "/run", "--tmpfs", "/root"];
    arguments.extend(["--rootfs", debian.to_str().unwrap(), "--volume", &volume]);
    arguments.extend(options);
    arguments.push("/mnt/init");
    let mut server = lab.launcher(STEP, &arguments).stdout(Stdio::piped()).spawn().unwrap();
    assert_eq!(every_step::wait_for_a_line(&mut server), "up\n");
    server
}

/// Logs in by key, and returns what the commands print there.
fn log_in(lab: &Lab) -> String {
    let key = lab.folder.join("ssh/key");
    let mut last = String::new();
    for _ in 0..40 {
        let mut ssh = Command::new("ssh");
        ssh.args(["-i", key.to_str().unwrap(), "-p", "23322", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"]);
        ssh.args([
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "LogLevel=ERROR",
            "root@127.0.0.1",
            "hostname; ps -e -o pid,comm",
        ]);
        let output = ssh.stdin(Stdio::null()).output().unwrap();
        if output.status.success() {
            return String::from_utf8(output.stdout).unwrap();
        }
        last = String::from_utf8_lossy(&output.stderr).into_owned();
        sleep(Duration::from_millis(100)); // the server may be starting
    }
    panic!("no login: {last}");
}

#[test]
fn logging_into_a_cell() {
    if !workspace().join("target/rootfs/debian/usr/sbin/sshd").exists() {
        return not_run(
            "logging_into_a_cell",
            "target/rootfs/debian has no ssh server; scripts/test --all puts one there",
        );
    }
    lab!(World::Root, |lab| {
        let folder = lab.folder.join("ssh");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("init"), INIT).unwrap();
        sh(&format!("chmod 755 '{0}/init'; ssh-keygen -q -t ed25519 -N '' -f '{0}/key'", folder.display()));
        // The host's port comes last: a connection that has just ended keeps its port for a while.
        for options in [&["-p", "23322:23322"][..], &["--net", "host"]] {
            let mut server = start_server(lab, options);
            let seen = log_in(lab);
            let mut lines = seen.lines();
            assert_eq!(lines.next(), Some("cell"), "{seen}");
            assert!(seen.contains("sshd"), "it sees the cell's processes: {seen}");
            assert!(lines.count() < 10, "and no others: {seen}");
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(server.id() as i32), nix::sys::signal::Signal::SIGTERM)
                .unwrap();
            server.wait().unwrap();
        }
        fs::remove_dir_all(&folder).unwrap();
    });
}
