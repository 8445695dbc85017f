//! The escape matrix: attacks down, steps across. Every lesson turns rows from ESCAPED to HELD.

use std::fs;

use classroom::attacks::{COLUMNS, Column, columns_with_init};
use classroom::lab::{LOUD, workspace};
use classroom::{Lab, World, check, lab};

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
