//! Planted holes: each check sees the wall that is missing (tests/variants has the list).

use std::process::Command;

use classroom::check;
use classroom::lab::{FIGURES, binary, build_once, not_run, workspace};

/// What `variants run` prints: the hole, what saw it, and the verdict. Why differs between machines.
fn seen(options: &[&str]) -> String {
    build_once();
    let output = Command::new(binary("variants")).arg("run").args(options).current_dir(workspace()).output();
    let output = output.expect("it was built");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    eprintln!("{FIGURES}:\n{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(!text.is_empty(), "nothing was run");
    let verdict = |line: &str| line.get(..88).unwrap_or(line).trim_end().to_owned() + "\n";
    text.lines().map(verdict).collect()
}

/// A sample that the commit chooses: each hole comes in turn.
#[test]
#[ignore = "takes minutes: scripts/test --all"]
fn some_holes_are_seen() {
    if !nix::unistd::geteuid().is_root() {
        return not_run("some_holes_are_seen", "it needs root");
    }
    let seen = seen(&["--sample", "6"]);
    let recorded = std::fs::read_to_string(workspace().join("tests/snapshots/variants.snap")).unwrap_or_default();
    for line in seen.lines() {
        assert!(recorded.lines().any(|known| known == line), "not as recorded: {line}");
    }
}

/// All of them.
#[test]
#[ignore = "takes twenty minutes: scripts/test --soak"]
fn every_hole_is_seen() {
    if !nix::unistd::geteuid().is_root() {
        return not_run("every_hole_is_seen", "it needs root");
    }
    check!("variants", seen(&[]));
}
