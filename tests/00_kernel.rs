//! Step 0, the ground: a system call that is made, and calls that are refused.

use classroom::{World, check, lab};

const KERNEL: &str = "kernel";

#[test]
fn explained() {
    lab!(World::User, |lab| check!("kernel_explained", lab.typed("cargo run -q -p kernel -- --explain /usr")));
}

/// The kernel names its reason, and each reason has a remedy of its own.
#[test]
fn refused() {
    lab!(World::User, |lab| {
        let lines = [
            "cargo run -q -p kernel -- /nosuch",
            "cargo run -q -p kernel -- /etc/passwd",
            "mkdir -m 000 closed && cargo run -q -p kernel -- closed",
        ];
        check!("kernel_refused", lines.map(|line| lab.typed(line).to_string()).join("\n"));
        std::fs::remove_dir(lab.folder.join("closed")).expect("the last line made it");
    });
}

/// Nothing is swallowed: /dev/full refuses every byte.
#[test]
fn nowhere_to_print() {
    lab!(World::User, |lab| check!("kernel_full", lab.typed("cargo run -q -p kernel >/dev/full")));
}

#[test]
fn failures() {
    lab!(World::User, |lab| {
        let wrong: [&[&str]; 2] = [&["--nosuch"], &["/", "/usr"]];
        check!("kernel_failures", wrong.map(|arguments| format!("{}\n", lab.run(KERNEL, arguments))).concat());
    });
}

#[test]
fn help_is_no_failure() {
    lab!(World::User, |lab| {
        let help = lab.launcher(KERNEL, &["--help"]).output().expect("it was built");
        assert!(help.status.success() && help.stderr.is_empty(), "{help:?}");
        assert!(String::from_utf8_lossy(&help.stdout).contains("--explain"), "{help:?}");
    });
}
