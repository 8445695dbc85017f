//! The escape matrix: attacks down, steps across. Every lesson turns rows from ESCAPED to HELD.

use std::fs;
use std::process::Command;

use classroom::attacks::{COLUMNS, Column, columns_with_init};
use classroom::lab::{LOUD, binary, script, workspace};
use classroom::{Lab, World, check, every_step, lab};

fn matrix(lab: &Lab, columns: &[Column], name: &str) {
    let recorded = workspace().join(format!("tests/snapshots/{name}.snap"));
    let (table, untried) = lab.matrix(columns, &fs::read_to_string(recorded).unwrap_or_default());
    for (attack, why) in untried {
        eprintln!("\n{LOUD}: attack {attack}, for not even this machine's host gives it a chance: {why}");
    }
    check!(name, table);
}

#[test]
fn as_root() {
    lab!(World::Root, |lab| matrix(lab, &COLUMNS, "matrix"));
}

#[test]
fn rootless() {
    lab!(World::Rootless, |lab| matrix(lab, &COLUMNS, "matrix@rootless"));
}

/// A small init stays in the cell, and must be no way out of it: all attacks once more, with `--init`.
#[test]
fn with_init() {
    lab!(World::Root, |lab| matrix(lab, &columns_with_init(), "matrix@init"));
}

#[test]
fn with_init_rootless() {
    lab!(World::Rootless, |lab| matrix(lab, &columns_with_init(), "matrix@init_rootless"));
}

/// The rows that step 5 turns, alone: quick enough for the other world of cgroups, in scripts/vm.
#[test]
fn rations_hold() {
    lab!(World::Root, |lab| {
        let column = COLUMNS.into_iter().find(|column| column.name == "cgroups").unwrap();
        for attack in ["fork-bomb", "memory", "mknod"] {
            assert_eq!(lab.attack(column, attack).word, "HELD", "{attack}");
        }
    });
}

/// Where an attack escapes in the sandbox, it does so as an ordinary user: the one whose sandbox root's is.
fn no_more_than_an_ordinary_user(lab: &Lab) {
    let recorded = workspace().join("tests/snapshots/matrix@rootless.snap");
    let recorded = fs::read_to_string(recorded).expect("it is in the repository");
    let heads = ["chroot", "namespaces", "pivot-root"];
    // Without a small init the first process is the attacker. And root's sandbox has many ids, and the recorded one has a single id: so only there a user of the cell can become the
    // cell's root, which is not the host's.
    for attack in classroom::attacks::names().into_iter().filter(|name| name != "setuid" && name != "init") {
        let row = recorded.lines().find(|row| row.split_whitespace().next() == Some(&attack));
        let row: Vec<&str> = row.unwrap_or_else(|| panic!("{attack} is in no row")).split_whitespace().collect();
        for (launcher, ordinary) in heads.iter().zip(&row[2..]) {
            let mut command = Command::new(script("as-root"));
            command.arg(binary(launcher)).args(["inmate", "attack", &attack]);
            command.env("CELLBLOCK_AS_ROOT", "sandbox").env("CELLBLOCK_ROOTFS", &lab.rootfs);
            let verdict = lab.attack_by(command, &attack);
            assert!(verdict.word != "ESCAPED" || *ordinary == "ESCAPED", "{launcher}: {attack}: {}", verdict.why);
        }
    }
    let output = every_step::as_root(lab, "pivot-root", &["cat", "/proc/self/uid_map"]);
    let outside = output.text.split_whitespace().nth(1).unwrap_or("0");
    assert!(output.code == 0 && outside != "0", "root is still the host's: {output}");
    let write = "mount -o remount,bind,rw /proc/sys; echo x >/proc/sys/kernel/core_pattern";
    assert_ne!(every_step::as_root(lab, "pivot-root", &["sh", "-c", write]).code, 0, "core_pattern");
}

#[test]
fn the_sandbox_of_root() {
    lab!(World::Root, no_more_than_an_ordinary_user);
}

#[test]
fn the_sandbox_of_a_user() {
    lab!(World::User, no_more_than_an_ordinary_user);
}
