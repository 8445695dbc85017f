//! Any bytes as a configuration, read, checked and planned, up to where a container would be made. Nothing is made: to plan
//! is to look, at most at whether the source of a mount is there.

#![no_main]

use std::path::{Path, PathBuf};
use std::sync::Once;

use cellblock::launch::known;
use cellblock::log::Log;
use cellblock::plan::Plan;
use cellblock::spec::{self, Spec};
use kernel::Failure;
use libfuzzer_sys::fuzz_target;

#[path = "../../../../tests/configurations/judge.rs"]
#[allow(dead_code)] // it has a word on texts, too, which are not looked at here
mod judge;

/// Where every configuration finds its root filesystem, and what it binds: a directory that is there.
const FIXED: &str = "/usr";

fuzz_target!(|text: &[u8]| {
    silence_warnings();
    let Ok(mut spec) = spec::parse::<Spec>("config.json", text) else { return };
    if spec::check(&spec, &known()).is_err() {
        return;
    }
    plan(&spec);
    // Once more, with sources that are there: a plan ends at the first that is not.
    if let Some(root) = &mut spec.root {
        root.path = FIXED.to_owned();
    }
    spec.mounts.iter_mut().for_each(|mount| mount.source = Some(FIXED.to_owned()));
    plan(&spec);
});

/// A plan has what was asked for, or one line says why it was not made.
fn plan(spec: &Spec) {
    match Plan::new(spec, Path::new("/")) {
        Ok(mut plan) => {
            judge::keeps_its_word(spec, &plan);
            plan.show_group(None).expect("nobody's group needs no /proc");
        }
        Err(error) => {
            let lines = Failure::from_error(&error).lines("cellblock");
            assert!(judge::is_one_line(&lines), "{lines:?}");
        }
    }
}

/// A capability that is not to be had is a warning: a million of them would hide what matters.
fn silence_warnings() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| Log { file: Some(PathBuf::from("/dev/null")), json: false }.begin());
}
