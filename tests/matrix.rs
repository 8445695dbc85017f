//! The escape matrix: attacks down, steps across. Every lesson turns rows from ESCAPED to HELD.

use classroom::attacks::COLUMNS;
use classroom::lab::LOUD;
use classroom::{Lab, World, check, lab};

fn matrix(lab: &Lab, name: &str) {
    let (table, untried) = lab.matrix(&COLUMNS);
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
