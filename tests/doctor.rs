//! The doctor: what it finds, and what it leaves behind.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use classroom::lab::binary;
use classroom::trace::orphans_end_within;
use classroom::{Lab, World, check, lab};
use serde_json::Value;

const DOCTOR: &str = "doctor";
const STEPS: [&str; 8] =
    ["kernel", "chroot", "namespaces", "pivot-root", "network", "cgroups", "privileges", "cellblock"];

#[test]
fn failures() {
    lab!(World::User, |lab| {
        let wrong: [&[&str]; 3] = [&["--nosuch"], &["--format", "xml"], &["ls"]];
        check!("doctor_failures", wrong.map(|arguments| format!("{}\n", lab.run(DOCTOR, arguments))).concat());
    });
}

#[test]
fn help_is_no_failure() {
    lab!(World::User, |lab| {
        let help = lab.launcher(DOCTOR, &["--help"]).output().expect("it was built");
        assert!(help.status.success() && help.stderr.is_empty(), "{help:?}");
        assert!(String::from_utf8_lossy(&help.stdout).contains("--format"), "{help:?}");
    });
}

#[test]
fn explained() {
    lab!(World::User, |lab| {
        check!("doctor_explained", lab.typed("cargo doctor --explain 2>&1 >/dev/null | head -n 3"));
    });
}

/// A report that cannot be printed is a failure: /dev/full refuses every byte.
#[test]
fn nowhere_to_print() {
    lab!(World::User, |lab| check!("doctor_full", lab.typed("cargo doctor >/dev/full")));
}

#[test]
fn a_lack_has_its_remedy() {
    lab!(World::User, |lab| {
        let line = "CELLBLOCK_ROOTFS=/nosuch cargo doctor | grep -A 1 rootfs";
        check!("doctor_lack", lab.typed(line));
    });
}

/// The report as JSON, and the exit code. `exec` is how a shell starts the doctor.
fn report(lab: &Lab, exec: &str) -> (Value, i32) {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{exec} \"$0\" --format json")]).arg(binary(DOCTOR));
    let output = command.env("CELLBLOCK_ROOTFS", &lab.rootfs).output().expect("a shell is there");
    let text = String::from_utf8_lossy(&output.stdout);
    let report = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{exec}: {error}: {text}"));
    (report, classroom::run::code(output.status))
}

fn list<'a>(value: &'a Value, key: &str) -> Vec<&'a Value> {
    value[key].as_array().unwrap_or_else(|| panic!("{key} is a list: {value}")).iter().collect()
}

fn names(value: &Value, key: &str) -> BTreeSet<String> {
    list(value, key).iter().map(|name| name.as_str().expect("a name").to_owned()).collect()
}

/// What an instructor's program may rely on, and that the doctor agrees with itself.
fn is_sound(lab: &Lab) {
    let (report, code) = report(lab, "exec");
    let keys: Vec<_> = report.as_object().expect("an object").keys().cloned().collect();
    assert_eq!(keys, ["arch", "checks", "hostname", "kernel", "ok", "steps"]);
    assert_eq!(report["arch"], std::env::consts::ARCH);
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("the lab has a /proc");
    assert_eq!(report["kernel"], release.trim());

    let checks = list(&report, "checks");
    let mut known = BTreeSet::new();
    for check in &checks {
        let name = check["name"].as_str().expect("a name");
        assert!(known.insert(name.to_owned()), "{name} stands there twice");
        assert!(check["found"].as_str().is_some_and(|found| !found.is_empty()), "{check}");
        assert!(check["ok"].is_boolean() || check["ok"].is_null(), "{check}");
        assert_eq!(check["remedy"].is_string(), check["ok"] == false, "a remedy for each lack: {check}");
        assert!(names(check, "needed_by").iter().all(|step| STEPS.contains(&step.as_str())), "{check}");
    }

    let steps = list(&report, "steps");
    let order: Vec<_> = steps.iter().map(|step| step["name"].as_str().expect("a name")).collect();
    assert_eq!(order, STEPS);
    for step in &steps {
        let name = step["name"].as_str().expect("a name");
        let hinders = |check: &&&Value| check["ok"] == false && names(check, "needed_by").contains(name);
        let missing: BTreeSet<_> =
            checks.iter().filter(hinders).map(|check| check["name"].clone().to_string()).collect();
        let told: BTreeSet<_> = list(step, "missing").iter().map(ToString::to_string).collect();
        assert_eq!(told, missing, "what {name} lacks");
        assert_eq!(step["ok"], missing.is_empty(), "{step}");
    }
    let all_run = steps.iter().all(|step| step["ok"] == true);
    assert_eq!((report["ok"].as_bool(), code), (Some(all_run), i32::from(!all_run)), "0 exactly if all steps run");

    let text = lab.run(DOCTOR, &[]);
    assert_eq!(text.code, code, "{text}");
    let lines: Vec<_> = text.text.lines().filter(|line| line.starts_with(['✓', '✗', '•'])).collect();
    assert_eq!(lines.len(), checks.len(), "a line for each check: {text}");
}

#[test]
fn sound_for_root() {
    lab!(World::Root, is_sound);
}

#[test]
fn sound_for_root_of_a_user_namespace() {
    lab!(World::Rootless, is_sound);
}

#[test]
fn sound_for_an_ordinary_user() {
    lab!(World::User, is_sound);
}

/// A caller may have closed files, or ignore signals: without SIGCHLD the kernel would not tell how a trial
/// ended.
#[test]
fn started_anyhow() {
    lab!(World::User, |lab| {
        let (usual, code) = report(lab, "exec");
        let odd = [
            "exec <&-; exec",
            "exec env --ignore-signal=CHLD --ignore-signal=PIPE", // what dash's trap leaves alone
            "exec 7</ 8</etc; exec",
            "umask 077; exec",
            "ulimit -n 32; exec",
            "cd /; exec",
        ];
        for exec in odd {
            assert_eq!(report(lab, exec), (usual.clone(), code), "{exec}");
        }
    });
}

/// The trials are children, and must not outlive it.
#[test]
fn killed_at_every_moment() {
    lab!(World::Root, |lab| {
        for round in 0..60_u32 {
            let mut child = lab.start(DOCTOR, &[]);
            std::thread::sleep(Duration::from_micros(u64::from(round) * 700));
            child.kill().expect("it is our child");
            child.wait().expect("it is our child");
            assert!(orphans_end_within(Duration::from_secs(3)), "a trial outlived the doctor, killed in round {round}");
        }
    });
}
