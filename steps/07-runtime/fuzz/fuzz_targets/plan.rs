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
use kernel::sys::clone::CloneFlags;
use libfuzzer_sys::fuzz_target;

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
            keeps_its_word(spec, &plan);
            plan.show_group(None).expect("nobody's group needs no /proc");
        }
        Err(error) => {
            let lines = Failure::from_error(&error).lines("cellblock");
            assert!(lines.lines().count() <= 2 && lines.len() < 4000, "{lines:?}");
            assert!(!lines.replace('\n', "").contains(char::is_control), "{lines:?}");
        }
    }
}

/// No wall that was asked for is left out of the plan.
fn keeps_its_word(spec: &Spec, plan: &Plan) {
    let is_joined = plan.joined.iter().any(|(kind, _)| *kind == CloneFlags::CLONE_NEWNS);
    assert!(plan.new.contains(CloneFlags::CLONE_NEWNS) || is_joined);
    assert_eq!(plan.furniture.mounts.len(), spec.mounts.len());
    assert_eq!(plan.furniture.read_only, spec.root.as_ref().is_some_and(|root| root.readonly));
    let Some(linux) = &spec.linux else { return };
    assert_eq!(plan.new.bits().count_ones() as usize + plan.joined.len(), linux.namespaces.len());
    assert_eq!(plan.id_maps.is_some(), plan.new.contains(CloneFlags::CLONE_NEWUSER));
    assert_eq!(plan.furniture.masked.len(), linux.masked_paths.len());
    assert_eq!(plan.furniture.read_only_paths.len(), linux.readonly_paths.len());
    assert_eq!(plan.sysctl.len(), linux.sysctl.len());
    assert_eq!(plan.task.handcuffs().filter.is_some(), linux.seccomp.is_some());
}

/// A capability that is not to be had is a warning: a million of them would hide what matters.
fn silence_warnings() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| Log { file: Some(PathBuf::from("/dev/null")), json: false }.begin());
}
