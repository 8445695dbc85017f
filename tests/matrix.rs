//! The escape matrix: attacks down, steps across. Every lesson turns rows from ESCAPED to HELD.

use std::fs;

use classroom::attacks::COLUMNS;
use classroom::lab::{LOUD, workspace};
use classroom::{Lab, World, check, lab};

fn matrix(lab: &Lab, name: &str) {
    let recorded = workspace().join(format!("tests/snapshots/{name}.snap"));
    let (table, untried) = lab.matrix(&COLUMNS, &fs::read_to_string(recorded).unwrap_or_default());
    for (attack, why) in untried {
        eprintln!("\n{LOUD}: attack {attack}, for not even this machine's host gives it a chance: {why}");
    }
    check!(name, table);
}

#[test]
fn as_root() {
    lab!(World::Root, |lab| matrix(lab, "matrix"));
}

#[test]
fn rootless() {
    lab!(World::Rootless, |lab| matrix(lab, "matrix@rootless"));
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
