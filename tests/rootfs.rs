//! The root filesystems of scripts/rootfs: real distributions, run by the newest step.

use classroom::lab::{not_run, workspace};
use classroom::{Lab, World, lab};

const NEWEST: &str = "pivot-root";

/// Runs a command in one of the slow root filesystems, read-only, for all tests share it.
fn run_in(lab: &Lab, rootfs: &str, command: &[&str]) -> String {
    let rootfs = workspace().join("target/rootfs").join(rootfs);
    let mut arguments = vec!["--read-only", "--rootfs", rootfs.to_str().expect("a plain path")];
    arguments.extend(command);
    let output = lab.run(NEWEST, &arguments);
    assert_eq!(output.code, 0, "{output}");
    output.text
}

/// Whether it has been made. `scripts/test --all` makes all; a plain `scripts/test` does not wait for them.
fn is_made(test: &str, rootfs: &str) -> bool {
    let made = workspace().join("target/rootfs").join(rootfs).is_dir();
    if !made {
        not_run(test, &format!("there is no target/rootfs/{rootfs}; scripts/test --all makes it"));
    }
    made
}

#[test]
fn debian() {
    if is_made("debian", "debian") {
        lab!(World::Root, |lab| {
            assert!(run_in(lab, "debian", &["apt-get", "--version"]).starts_with("apt "));
            let packages: u32 = run_in(lab, "debian", &["sh", "-c", "dpkg -l | wc -l"]).trim().parse().unwrap();
            assert!(packages > 50, "{packages}");
            assert_eq!(run_in(lab, "debian", &["bash", "-c", "echo $$"]), "1\n");
        });
    }
}

/// Another processor's programs: the kernel hands them to an emulator, which it opened before the container began.
#[test]
fn debian_for_arm64() {
    if is_made("debian_for_arm64", "debian-arm64") {
        lab!(World::Root, |lab| {
            assert_eq!(run_in(lab, "debian-arm64", &["uname", "-m"]), "aarch64\n");
            assert!(run_in(lab, "debian-arm64", &["inmate", "report"]).contains("pid 1, parent 0"));
        });
    }
}

#[test]
fn every_applet_of_busybox_is_linked() {
    lab!(World::Root, |lab| {
        let listed = lab.run(NEWEST, &["busybox", "--list"]).text;
        let script = "for applet in $(busybox --list); do type $applet > /dev/null || echo $applet is missing; done";
        assert_eq!(lab.run(NEWEST, &["sh", "-c", script]).text, "");
        assert!(listed.lines().count() > 200, "it is a whole busybox");
        assert_eq!(lab.run(NEWEST, &["id", "-un"]).text, "root\n", "/etc/passwd is there");
        assert_eq!(lab.run(NEWEST, &["cat", "/etc/hosts"]).code, 0);
    });
}
