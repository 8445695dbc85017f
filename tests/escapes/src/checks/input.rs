//! Input: configurations that are huge, broken, or ask for what cannot be had.

use std::fs;

use serde_json::{Value, json};

use super::{Check, NotApplicable, Safe, Unsafe, Verdict, judge, must_refuse, safe_if, worst};
use crate::case::{Case, Output, put, text};

pub const CHECKS: [Check; 6] = [
    Check {
        name: "huge-configuration",
        known_as: "CVE-2021-43784",
        tries: "pass ten thousand id maps, a variable of 64 KiB, five hundred mounts",
        run: huge_configuration,
    },
    Check {
        name: "broken-configuration",
        known_as: "crun tests_libcrun_fuzzer",
        tries: "delete, retype, null and blow up every key of a good configuration",
        run: broken_configuration,
    },
    Check {
        name: "hook-fails",
        known_as: "runtime-spec lifecycle",
        tries: "have a hook fail at each stage, and find something left",
        run: hook_fails,
    },
    Check {
        name: "hook-never-ends",
        known_as: "runtime-spec hooks timeout",
        tries: "have a hook sleep past its time-out",
        run: hook_never_ends,
    },
    Check {
        name: "wish-is-ignored",
        known_as: "runtime-spec: errors",
        tries: "ask for protection that this machine doesn't have, and get none instead of an error",
        run: wish_is_ignored,
    },
    Check {
        name: "command-is-missing",
        known_as: "runc exec.LookPath",
        tries: "create a container whose command isn't there, is a folder, or has no right to run",
        run: command_is_missing,
    },
];

fn huge_configuration(case: &Case) -> Verdict {
    let mut maps = case.bundle();
    let map = |number: u32| json!({ "containerID": number * 2, "hostID": 100_000 + number * 2, "size": 1 });
    let list: Vec<Value> = (0..10_000).map(map).collect();
    maps.set("/linux/uidMappings", list.clone()).set("/linux/gidMappings", list);
    maps.config["linux"]["namespaces"].as_array_mut().expect("a list").push(json!({ "type": "user" }));
    let mut environment = case.bundle();
    environment.config["process"]["env"]
        .as_array_mut()
        .expect("a list")
        .push(json!(format!("HUGE={}", "x".repeat(65_536))));
    let mut mounts = case.bundle();
    for number in 0..500 {
        mounts.mount(&format!("/mnt/{number}"), "bind", "/etc/hostname", &["bind", "ro"]);
    }
    worst([maps, environment, mounts].iter_mut().map(|bundle| judge(&case.run(bundle.script("echo tried")))))
}

/// All places in a JSON value, as pointers.
fn pointers(value: &Value, path: &str, found: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(map) => {
            map.iter().map(|(key, value)| (key.replace('~', "~0").replace('/', "~1"), value)).collect()
        }
        Value::Array(list) => list.iter().take(2).enumerate().map(|(at, value)| (at.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    for (name, child) in children {
        let path = format!("{path}/{name}");
        found.push(path.clone());
        pointers(child, &path, found);
    }
}

fn spoil(config: &Value, pointer: &str, with: Option<Value>) -> Value {
    let mut spoilt = config.clone();
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    match (with, spoilt.pointer_mut(parent)) {
        (Some(value), _) => *spoilt.pointer_mut(pointer).expect("it is there") = value,
        (None, Some(Value::Object(map))) => {
            map.remove(name);
        }
        (None, Some(Value::Array(list))) => {
            list.remove(name.parse().expect("an index"));
        }
        _ => {}
    }
    spoilt
}

/// Never a crash and never a hang; a refusal is one clear line. What runs, runs.
fn broken_configuration(case: &Case) -> Verdict {
    let good = case.bundle();
    let mut places = Vec::new();
    pointers(&good.config, "", &mut places);
    let replacements =
        [None, Some(Value::Null), Some(json!("x")), Some(json!(-1)), Some(json!([[]])), Some(json!(1e300))];
    let mut bundle = case.bundle();
    let mut number = 0;
    let mut complaint = None;
    for place in &places {
        for with in &replacements {
            number += 1;
            bundle.config = spoil(&good.config, place, with.clone());
            let output = case.run(&mut bundle);
            complaint = complaint.or_else(|| complain(&output).map(|what| format!("{place} {}: {what}", shown(with))));
        }
    }
    let _ = fs::write(bundle.folder.join("config.json"), "{ \"ociVersion\": ");
    let cut = case.call(&["run", "--bundle", &text(&bundle.folder), "cut-off"]);
    match complaint.or_else(|| complain(&cut)) {
        Some(complaint) => Unsafe(complaint),
        None => Safe(format!("{number} of them end well")),
    }
}

fn shown(with: &Option<Value>) -> String {
    with.as_ref().map_or_else(|| "deleted".to_owned(), |value| format!("set to {value}"))
}

fn complain(output: &Output) -> Option<String> {
    let crashed = ["panicked at", "goroutine ", "Segmentation fault", "core dumped"];
    if output.code == 124 {
        return Some("it hangs".to_owned());
    }
    if output.code >= 128 || crashed.iter().any(|word| output.text.contains(word)) {
        return Some(format!("it crashes ({}): {}", output.code, output.line()));
    }
    (output.code != 0 && output.text.trim().is_empty()).then(|| "it fails without a word".to_owned())
}

const STAGES: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

fn hook_fails(case: &Case) -> Verdict {
    worst(STAGES.map(|stage| {
        let mut bundle = case.bundle();
        bundle.config["hooks"] = json!({ stage: [{ "path": "/bin/false" }] });
        let output = case.run(bundle.args(&["true"]));
        // What comes after the container runs can stop nothing: the specification wants a warning there.
        match stage {
            "poststart" | "poststop" => safe_if(output.code != 124, "it ends", format!("{stage}: it hangs")),
            _ if output.code == 0 || output.code == 124 => Unsafe(format!("{stage}: it ends with {}", output.code)),
            _ => judge(&output),
        }
    }))
}

fn hook_never_ends(case: &Case) -> Verdict {
    let mut bundle = case.bundle();
    bundle.config["hooks"] = json!({
        "createRuntime": [{ "path": "/bin/sleep", "args": ["sleep", "30"], "timeout": 1 }]
    });
    let begin = std::time::Instant::now();
    let output = case.run(bundle.args(&["true"]));
    let took = begin.elapsed().as_secs();
    safe_if(output.code != 0 && took < 5, "it fails in time", format!("it ends with {} after {took} s", output.code))
}

fn wish_is_ignored(case: &Case) -> Verdict {
    if fs::exists("/sys/kernel/security/apparmor").unwrap_or(false)
        || fs::exists("/sys/fs/selinux/status").unwrap_or(false)
    {
        return NotApplicable("this machine has AppArmor or SELinux".to_owned());
    }
    let wishes: [(&str, Value); 5] = [
        ("/process/apparmorProfile", json!("no-such-profile")),
        ("/process/selinuxLabel", json!("system_u:system_r:container_t:s0")),
        ("/linux/namespaces", json!([{ "type": "mount" }, { "type": "nosuch" }])),
        ("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_NOSUCH" })),
        ("/process/rlimits", json!([{ "type": "RLIMIT_NOSUCH", "soft": 1, "hard": 1 }])),
    ];
    worst(wishes.map(|(pointer, value)| {
        let mut bundle = case.bundle();
        bundle.set(pointer, value);
        must_refuse(&case.run(bundle.script("echo tried")), format!("{pointer} is passed over in silence"))
    }))
}

fn command_is_missing(case: &Case) -> Verdict {
    worst(["nosuch", "/bin/nosuch", "/etc", "/etc/passwd", "/bin/loop", "/bin/garbage"].map(|command| {
        let mut bundle = case.bundle();
        std::os::unix::fs::symlink("loop", bundle.rootfs("/bin/loop")).expect("it is ours");
        put(&bundle.rootfs("/bin/garbage"), "\u{7f}ELF");
        match case.boot(bundle.args(&[command])) {
            Ok(container) if command == "/bin/garbage" => {
                safe_if(container.becomes("stopped"), "it ends", "it does not end")
            }
            Ok(_) => Unsafe(format!("{command} is started")),
            Err(output) => judge(&output),
        }
    }))
}
