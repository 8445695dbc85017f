//! Step 7, the runtime: any configuration either runs, or is refused by the name of the field. There is no panic, no hang, and
//! nothing is left.
//!
//! CELLBLOCK_SEED=N gives other cases, CELLBLOCK_CASES=N gives more of them.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Once;

use cellblock::launch::known;
use cellblock::log::Log;
use cellblock::plan::Plan;
use cellblock::spec::{self, Spec};
use classroom::lab::FIGURES;
use classroom::runtimes::installed;
use classroom::{Desk, Lab, World, lab};
use kernel::Failure;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

mod configurations;

use configurations::broken::{damaged, damaged_text, hits};
use configurations::judge::{is_one_line, keeps_its_word, names_a_field};
use configurations::meant::differences;
use configurations::run::{Outcome, Place, looking};
use configurations::{Change, changes, configured, try_all};

/// What `cellblock spec` writes.
fn template() -> Value {
    serde_json::to_value(spec::template(&["proc/kcore"], &["proc/sys"])).expect("strings and numbers")
}

/// A bundle in which everything is there that a valid configuration names: a directory of this machine's.
const FIXED: &str = "/usr";

fn text(config: &Value) -> String {
    config.to_string().replace("@DATA", FIXED)
}

/// A capability that cannot be given is a warning, and thousands of them would hide what matters.
fn silence_warnings() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| Log { file: Some(PathBuf::from("/dev/null")), json: false }.begin());
}

/// Reads, checks and plans a configuration, as far as nothing has to be made for that. Whether there is a plan.
fn plan(text: &[u8]) -> Result<bool, TestCaseError> {
    silence_warnings();
    let spec = match spec::parse::<Spec>("config.json", text) {
        Ok(spec) => spec,
        Err(failure) => return refused(&failure),
    };
    let written = spec::to_json(&spec);
    prop_assert_eq!(&spec::parse::<Spec>("config.json", written.as_bytes()).expect("we wrote it"), &spec);
    if let Err(failure) = spec::check(&spec, &known()) {
        return refused(&failure);
    }
    match Plan::new(&spec, Path::new(FIXED)) {
        Ok(plan) => keeps_its_word(&spec, &plan),
        Err(error) => return refused(&Failure::from_error(&error)),
    }
    Ok(true)
}

fn refused(failure: &Failure) -> Result<bool, TestCaseError> {
    let lines = failure.lines("cellblock");
    prop_assert!(is_one_line(&lines), "{lines:?}");
    prop_assert!(names_a_field(&lines), "which field? {lines}");
    Ok(false)
}

#[test]
fn a_valid_one_has_a_plan_or_a_reason() {
    let template = template();
    try_all(3000, &changes(), |changes| {
        let config = configured(&template, &changes);
        let read = spec::parse::<Spec>("config.json", text(&config).as_bytes());
        prop_assert!(read.is_ok(), "the specification allows it: {:?}", read.err());
        plan(text(&config).as_bytes()).map(drop)
    });
}

#[test]
fn a_broken_one_is_refused_by_name() {
    let template = template();
    try_all(4000, &(changes(), hits(3)), |(changes, hits)| {
        let config = damaged(&configured(&template, &changes), &hits, |_| false);
        plan(text(&config).as_bytes()).map(drop)
    });
}

#[test]
fn a_damaged_text_is_refused_by_its_place() {
    let template = template();
    let bytes = proptest::collection::vec((any::<Index>(), any::<u8>()), 0..4);
    let damage = (changes(), proptest::option::of(any::<Index>()), bytes);
    try_all(2000, &damage, |(changes, end, bytes)| {
        plan(&damaged_text(&text(&configured(&template, &changes)), end, &bytes)).map(drop)
    });
}

/// The desk's configuration without what would stop the script that looks at everything.
fn bundle(desk: &Desk) -> Value {
    let text = fs::read(desk.bundle.join("config.json")).expect("the desk has one");
    let mut config: Value = serde_json::from_slice(&text).expect("we wrote it");
    config["root"] = json!({"path": desk.lab.rootfs});
    config
}

/// A controller that the machine lacks is called by its name, and not by the field that needs it.
const CONTROLLERS: [(&str, &str); 4] =
    [("hugepageLimits", "hugetlb"), ("network", "net_cls"), ("network", "net_prio"), ("blockIO", "blkio")];

/// It ran, and its command's exit code is the runtime's; or it was refused, and the failure names a field, or what the
/// configuration itself calls the thing.
fn ran_or_refused(outcome: &Outcome, code: u8, changes: &[Change]) -> Result<(), TestCaseError> {
    if outcome.ran() {
        prop_assert_eq!(outcome.code, i32::from(code), "{:?}", outcome);
        return Ok(());
    }
    prop_assert!((125..=127).contains(&outcome.code), "{outcome:?}");
    prop_assert!(is_named(outcome, changes), "which field? {outcome:?}");
    Ok(())
}

fn is_named(outcome: &Outcome, changes: &[Change]) -> bool {
    let failure = outcome.said.lines().filter(|line| !line.contains("warning: ")).collect::<Vec<_>>().join("\n");
    let mut names = Vec::new();
    for (pointer, value) in changes.iter().flatten() {
        names.extend(pointer.rsplit('/').find(|key| *key != "-").map(str::to_owned));
        collect_strings(value, &mut names);
    }
    let needed = CONTROLLERS.iter().filter(|(field, _)| names.iter().any(|name| name == field));
    names.extend(needed.map(|(_, controller)| (*controller).to_owned()).collect::<Vec<_>>());
    names_a_field(&failure) || names.iter().any(|name| name.len() > 1 && failure.contains(name))
}

fn collect_strings(value: &Value, names: &mut Vec<String>) {
    match value {
        Value::String(text) => names.push(text.trim_start_matches('/').to_owned()),
        Value::Array(entries) => entries.iter().for_each(|entry| collect_strings(entry, names)),
        Value::Object(fields) => fields.iter().for_each(|(key, entry)| {
            names.push(key.clone());
            collect_strings(entry, names);
        }),
        _ => {}
    }
}

/// Runs valid configurations, by runc too where that is installed.
fn run_valid(lab: &Lab, cases: u32) {
    let desk = Desk::new(lab, "any");
    let template = bundle(&desk);
    let place = Place::new(&desk);
    let runc = installed("runc");
    let counted = Cell::new((0, 0));
    try_all(cases, &(changes(), 0..100_u8), |(changes, code)| {
        let config = looking(&configured(&template, &changes), &template, code);
        let ours = place.run(&config, None)?;
        let (ran, refused) = counted.get();
        counted.set(if ours.ran() { (ran + 1, refused) } else { (ran, refused + 1) });
        ran_or_refused(&ours, code, &changes)?;
        let Some(runc) = &runc else { return Ok(()) };
        let theirs = place.run(&config, Some(runc))?;
        let found = differences(&config, &ours, &theirs);
        prop_assert!(found.is_empty(), "{}", found.join("\n"));
        Ok(())
    });
    let (ran, refused) = counted.get();
    println!("{FIGURES}: {ran} of the configurations ran, {refused} were refused");
}

/// Runs damaged configurations. What is left of them may be valid, and do anything to the container.
fn run_broken(lab: &Lab, cases: u32) {
    let desk = Desk::new(lab, "any");
    let template = bundle(&desk);
    let place = Place::new(&desk);
    // A group somewhere else would stay, and be another test's.
    let spares =
        |pointer: &str| ["/linux", "/linux/cgroupsPath"].contains(&pointer) || pointer.starts_with("/process/args");
    try_all(cases, &(changes(), hits(1)), |(changes, hits)| {
        let config = looking(&configured(&template, &changes), &template, 0);
        let ours = place.run(&damaged(&config, &hits, spares), None)?;
        let has_failed = ours.said.contains("cellblock: ") && (125..=127).contains(&ours.code);
        let is_named = is_named(&ours, &changes) || ours.said.contains("hint: ");
        prop_assert!(ours.ran() || !has_failed || is_named, "which field? {ours:?}");
        Ok(())
    });
}

#[test]
fn a_valid_one_runs_or_is_refused() {
    lab!(World::Root, |lab| run_valid(lab, 50));
}

#[test]
fn a_broken_one_runs_or_is_refused() {
    lab!(World::Root, |lab| run_broken(lab, 40));
}

#[test]
#[ignore = "takes a minute or two: scripts/test --soak"]
fn many_run_or_are_refused() {
    lab!(World::Root, |lab| {
        run_valid(lab, 600);
        run_broken(lab, 600);
    });
}
