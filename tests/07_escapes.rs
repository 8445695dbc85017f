//! Step 7, how strong the prison is: what broke out of real runtimes, tried on ours, and on its peers beside it.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use classroom::check;
use classroom::lab::{FIGURES, binary, build_once, not_run, workspace};
use classroom::runtimes::{Runtime, ours, peers};

/// A runtime's column: each check's verdict, in the order of the suite.
fn column(runtime: &Runtime) -> Vec<(String, String)> {
    let mut escapes = Command::new(binary("escapes"));
    escapes.arg("--runtime").arg(&runtime.path).current_dir(workspace());
    let output = escapes.output().expect("it was built");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let row = |line: &str| Some((line.split_whitespace().next()?.to_owned(), line.get(30..)?.to_owned()));
    let rows: Vec<_> = text.lines().filter_map(row).collect();
    assert!(rows.len() > 50, "the suite did not run: {}", String::from_utf8_lossy(&output.stderr));
    rows
}

fn word(verdict: &str) -> &str {
    verdict.split_whitespace().next().unwrap_or_default()
}

/// The whole table, with the reasons of what is not safe, for the book: peers differ from machine to machine.
fn write(columns: &[(Runtime, Vec<(String, String)>)]) {
    let head: String = columns.iter().map(|(runtime, _)| format!("{:<10}", runtime.name)).collect();
    let mut text = format!("{:<30}{}\n", "", head.trim_end());
    let mut reasons = String::new();
    for (at, (name, _)) in columns[0].1.iter().enumerate() {
        let cells: String = columns.iter().map(|(_, rows)| format!("{:<10}", word(&rows[at].1))).collect();
        text += &format!("{name:<30}{}\n", cells.trim_end());
        for (runtime, rows) in columns.iter().filter(|(_, rows)| word(&rows[at].1) != "SAFE") {
            reasons += &format!("{} {name}: {}\n", runtime.name, rows[at].1);
        }
    }
    fs::write(workspace().join("target/escapes.txt"), format!("{text}\n{reasons}")).expect("target is ours");
}

/// Ours must be as safe as the snapshot says: that is the page of the book.
#[test]
fn ours_is_safe() {
    if !nix::unistd::geteuid().is_root() {
        return not_run("ours_is_safe", "it needs root");
    }
    build_once();
    let Some(runtime) = ours() else {
        eprintln!("{FIGURES}: there is no cellblock yet, nothing to try");
        return;
    };
    let rows = column(&runtime);
    let table: String = rows.iter().map(|(name, verdict)| format!("{name:<30}{}\n", word(verdict))).collect();
    for (name, verdict) in rows.iter().filter(|(_, verdict)| word(verdict) == "UNSAFE") {
        eprintln!("{name}: {verdict}");
    }
    write(&[(runtime, rows)]);
    check!("escapes", table);
}

#[test]
#[ignore = "takes minutes: scripts/test --all"]
fn beside_its_peers() {
    if !nix::unistd::geteuid().is_root() {
        return not_run("beside_its_peers", "it needs root");
    }
    build_once();
    let runtimes = peers().into_iter().chain(ours());
    let columns: Vec<_> = runtimes.map(|runtime| (runtime.clone(), column(&runtime))).collect();
    if columns.is_empty() {
        return not_run("beside_its_peers", "no runtime is installed: scripts/bootstrap --with engines");
    }
    write(&columns);
    for (runtime, rows) in &columns {
        let mut words = BTreeMap::new();
        rows.iter().for_each(|(_, verdict)| *words.entry(word(verdict).to_owned()).or_insert(0) += 1);
        eprintln!("{FIGURES}: {}: {words:?}", runtime.name);
    }
}

/// Of what `scripts/test --soak` does at length, a sample.
#[test]
#[ignore = "takes a minute: scripts/test --all"]
fn soak_in_small() {
    if !nix::unistd::geteuid().is_root() {
        return not_run("soak_in_small", "it needs root");
    }
    build_once();
    let Some(runtime) = ours() else { panic!("there is no cellblock: cargo build") };
    // On a busy machine a few starts say little about growth: with so few a generous bound.
    const RUNS: [&str; 3] =
        ["load --alive 50 --at-once 64 --gone 100 --at-most 3", "faults --sample 80", "kills --until 60 --step 6"];
    let failed = RUNS.iter().filter(|run| {
        let mut escapes = Command::new(binary("escapes"));
        escapes.args(run.split(' ')).arg("--runtime").arg(&runtime.path).current_dir(workspace());
        let output = escapes.output().expect("it was built");
        let said = [output.stdout, output.stderr].concat();
        eprintln!("{FIGURES}: {run}\n{}", String::from_utf8_lossy(&said));
        !output.status.success()
    });
    assert_eq!(failed.count(), 0);
}
