//! A configuration, run by a runtime, and inspected.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use classroom::Desk;
use classroom::run::code;
use classroom::trace::orphans_end_within;
use proptest::prelude::*;
use serde_json::{Value, json};

/// No run takes as long, on a busy machine either.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code.
    pub code: i32,
    /// Standard output: what the container's own script has seen.
    pub seen: Vec<String>,
    /// Standard error.
    pub said: String,
}

impl Outcome {
    /// Whether the container ran, and not the runtime's failure was the end of it.
    pub fn ran(&self) -> bool {
        self.seen.last().is_some_and(|line| line == "the end")
    }
}

/// What exists of a directory: to be the same after the run.
type Tree = BTreeMap<PathBuf, (u32, u32, u32, u64)>;

/// Where configurations are run: a desk with a directory whose contents can be mounted.
pub struct Place<'a> {
    desk: &'a Desk<'a>,
    data: PathBuf,
    trees: [Tree; 2],
    mounts: String,
}

impl<'a> Place<'a> {
    /// Puts there what configurations can name.
    pub fn new(desk: &'a Desk) -> Place<'a> {
        let data = desk.bundle.join("data");
        fs::create_dir_all(data.join("below"))
            .and_then(|()| fs::write(data.join("file"), "content\n"))
            .expect("it is ours");
        let trees = [tree(&desk.lab.rootfs), tree(&data)];
        Place { desk, data, trees, mounts: mounts() }
    }

    /// The text of the configuration, with this test's own paths.
    fn write(&self, config: &Value) {
        let text = config.to_string().replace(super::DATA, &self.data.display().to_string());
        fs::write(self.desk.bundle.join("config.json"), text).expect("the bundle is ours");
    }

    /// Runs a configuration by our runtime, or by another one. Nothing may be left, and it may not take for ever.
    pub fn run(&self, config: &Value, peer: Option<&Path>) -> Result<Outcome, TestCaseError> {
        self.write(config);
        let mut command = match peer {
            None => self.desk.command(&["run", "--bundle", "target/bundle", "one"]),
            Some(path) => {
                let mut command = Command::new("timeout");
                command
                    .args(["--foreground", "--signal=KILL", "30"])
                    .arg(path)
                    .arg("--root")
                    .arg(self.desk.lab.folder.join("peer"));
                command.args(["run", "--bundle"]).arg(&self.desk.bundle).arg("one");
                command
            }
        };
        let (output, errors) = (self.desk.lab.folder.join("output"), self.desk.lab.folder.join("errors"));
        let file = |path: &Path| fs::File::create(path).expect("the lab is ours");
        command.stdin(Stdio::null()).stdout(file(&output)).stderr(file(&errors)).env_remove("TERM");
        let begin = Instant::now();
        let status = command.status().expect("it was built");
        let text = |path: &Path| String::from_utf8_lossy(&fs::read(path).expect("the lab is ours")).into_owned();
        let seen = text(&output).lines().map(str::to_owned).collect();
        let outcome = Outcome { code: code(status), seen, said: text(&errors) };
        fs::remove_file(output).and_then(|()| fs::remove_file(errors)).expect("the lab is ours");
        let left = self.clean();
        if peer.is_none() {
            prop_assert!(begin.elapsed() < PATIENCE, "it takes {:?}", begin.elapsed());
            prop_assert!(!outcome.said.contains("panicked") && ![101, 134, 139].contains(&outcome.code), "{outcome:?}");
            left.map_err(|what| TestCaseError::fail(format!("{what}\n{outcome:?}")))?;
        }
        Ok(outcome)
    }

    /// Takes away the places of mounts that were made, which is all that may be left.
    fn clean(&self) -> Result<(), String> {
        let ended = orphans_end_within(Duration::from_secs(5));
        let _ = fs::remove_dir_all(self.desk.lab.folder.join("peer"));
        let mut wrong = Vec::new();
        if !ended {
            wrong.push("a process is left".to_owned());
        }
        if mounts() != self.mounts {
            wrong.push(format!("mounts are left:\n{}", mounts()));
        }
        for (directory, before) in [&self.desk.lab.rootfs, &self.data].into_iter().zip(&self.trees) {
            let after = tree(directory);
            let changed = before.iter().filter(|(path, found)| after.get(*path) != Some(found));
            wrong.extend(changed.map(|(path, _)| format!("{} is not as it was", path.display())));
            for path in after.keys().rev().filter(|path| !before.contains_key(*path)) {
                let removed = fs::remove_file(path).or_else(|_| fs::remove_dir(path));
                wrong.extend(removed.err().map(|error| format!("{}: {error}", path.display())));
            }
        }
        let remembered: Vec<_> =
            fs::read_dir(&self.desk.root).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        wrong.extend(remembered.iter().map(|path| format!("{} is left", path.display())));
        if !self.desk.groups().is_empty() {
            wrong.push(format!("groups are left: {:?}", self.desk.groups()));
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.data);
    }
}

fn mounts() -> String {
    fs::read_to_string("/proc/self/mountinfo").expect("/proc is there")
}

/// Everything below a directory: mode, owner, length.
fn tree(directory: &Path) -> Tree {
    let mut found = Tree::new();
    for path in fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let Ok(about) = path.symlink_metadata() else { continue };
        let length = if about.is_dir() { 0 } else { about.len() };
        if about.is_dir() {
            found.extend(tree(&path));
        }
        found.insert(path, (about.mode(), about.uid(), about.gid(), length));
    }
    found
}

/// Looks at everything that a configuration can decide, and prints a line for each.
const LOOK: &str = r#"
report=$(inmate report)
echo "$report" | sed 's/^mounts  *//; t split; p; d; :split; s/, /\nmounts /g; s/^/mounts /' | sort
fact() { echo "$*" | tr '\n' ' '; echo; }
fact pwd "$(pwd)"
fact umask "$(umask)"
fact groups "$(id -G 2>/dev/null | tr ' ' '\n' | sort -nu)"
fact variables "$(env | sort)"
fact oom "$(cat /proc/self/oom_score_adj 2>&1)"
fact machine "$(uname -m)"
fact nofile "$(ulimit -n) $(ulimit -Hn) core $(ulimit -c) $(ulimit -Hc) stack $(ulimit -s) fsize $(ulimit -f)"
for file in net/ipv4/ip_forward net/core/somaxconn kernel/msgmax fs/mqueue/msg_max kernel/shm_rmid_forced kernel/domainname; do
    fact "sysctl $file" "$(cat /proc/sys/$file 2>/dev/null)"
done
for path in "$@"; do
    fact "file $path" "$(stat -c '%F %a %u:%g %t:%T' "$path" 2>/dev/null)" "$(ls -A "$path" 2>/dev/null | grep -vc '^[0-9]')" "$(test -w "$path" && echo writable)"
    fact "mount $path" "$(sed -n "s|^[0-9]* [0-9]* [^ ]* [^ ]* $path \([^ ]*\) .*|\1|p" /proc/self/mountinfo 2>/dev/null | sort)"
done
echo the end
"#;

/// The configuration with a command that looks at what the template does not have, and ends with this code.
pub fn looking(config: &Value, template: &Value, code: u8) -> Value {
    let mut config = config.clone();
    let list = |pointer: &str, field: &str| -> Vec<String> {
        let entries = |config: &Value| config.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default();
        let known = entries(template);
        let new = entries(&config).into_iter().filter(|entry| !known.contains(entry));
        new.filter_map(|entry| entry.get(field).unwrap_or(&entry).as_str().map(str::to_owned)).collect()
    };
    let mounts = list("/mounts", "destination").into_iter().map(|place| format!("/{}", place.trim_start_matches('/')));
    let mut places: Vec<String> = mounts.chain(list("/linux/devices", "path")).collect();
    places.extend([list("/linux/maskedPaths", ""), list("/linux/readonlyPaths", "")].concat());
    places.sort();
    places.dedup();
    let script = format!("{LOOK}exit {code}");
    let command = ["/bin/sh", "-c", &script, "sh"].map(str::to_owned).into_iter().chain(places);
    config["process"]["args"] = command.collect::<Value>();
    config["process"]["terminal"] = json!(false);
    config
}
