//! Cells with a ration, and the groups that they are in, on cgroup v1 and v2 alike.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use cgroups::hierarchies::Hierarchies;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::every_step::wait_for_a_line;
use crate::lab::Lab;
use crate::run::Output;

/// The launcher.
pub const STEP: &str = "cgroups";

/// Which world this machine is: v1 (hybrid, too) or v2.
pub fn world() -> &'static str {
    let hierarchies = Hierarchies::read().expect("/proc is there");
    if hierarchies.legacy_with("pids").is_some() { "v1" } else { "v2" }
}

/// Runs a command in a cell without a network, which these tests do not need.
pub fn run(lab: &Lab, arguments: &[&str]) -> Output {
    lab.run(STEP, &[&["--net", "none"], arguments].concat())
}

/// The directories of a group, in every tree that is mounted.
pub fn directories(group: &str) -> Vec<PathBuf> {
    let hierarchies = Hierarchies::read().expect("/proc is there");
    let points = hierarchies.unified.iter().chain(&hierarchies.legacy).map(|tree| tree.point.clone());
    points.map(|point| PathBuf::from(format!("{point}{group}"))).filter(|path| path.is_dir()).collect()
}

/// The names of the groups below a parent.
pub fn names(parent: &str) -> Vec<String> {
    let Some(first) = directories(parent).into_iter().next() else { return Vec::new() };
    let entries = fs::read_dir(first).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir());
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// A number that a cell's --stats printed.
pub fn used(text: &str, what: &str) -> f64 {
    let line = text.lines().find(|line| line.starts_with(what)).unwrap_or_else(|| panic!("no {what} in {text}"));
    line.split_whitespace().find_map(|word| word.parse().ok()).unwrap_or_else(|| panic!("{line}"))
}

/// A group around launcher and cell, in which there is room for 400 processes: a bomb's second fuse, should the ration
/// that is tried not hold.
#[derive(Debug)]
pub struct Outer {
    group: String,
}

impl Outer {
    /// Makes it; `name` is the test's.
    pub fn new(lab: &Lab, name: &str) -> Outer {
        assert_eq!(run(lab, &["true"]).code, 0); // on v2 it passes the controllers on from the top
        let hierarchies = Hierarchies::read().expect("/proc is there");
        let tree = hierarchies.legacy_with("pids").or(hierarchies.unified.as_ref()).expect("there is one");
        let group = PathBuf::from(format!("{}/cellblock-outer-{name}", tree.point));
        fs::create_dir_all(group.join("launcher")).expect("we are root");
        fs::write(group.join("pids.max"), "400").expect("the controller is there");
        Outer { group: format!("/cellblock-outer-{name}") }
    }

    /// The command that starts a launcher in there, with its cell.
    pub fn launcher(&self, lab: &Lab, arguments: &[&str]) -> Command {
        let (leaf, cells) = (format!("{}/launcher", self.group), format!("{}/cells", self.group));
        let launcher = lab.launcher(STEP, &[&["--net", "none", "--cgroup-parent", &cells], arguments].concat());
        let mut command = Command::new("sh");
        let leaf = directories(&leaf).remove(0);
        command.args(["-ec", &format!("echo 0 >{}/cgroup.procs; exec \"$@\"", leaf.display()), "sh"]);
        command.arg(launcher.get_program()).args(launcher.get_args()).env("CELLBLOCK_ROOTFS", &lab.rootfs);
        command.stdin(Stdio::null());
        command
    }
}

impl Drop for Outer {
    fn drop(&mut self) {
        for group in directories(&self.group) {
            let _ = fs::remove_dir(group.join("launcher"));
            let _ = fs::remove_dir(group);
        }
    }
}

/// A cell whose command runs.
#[derive(Debug)]
pub struct Cell {
    /// Its launcher.
    pub launcher: Child,
    group: String,
}

impl Cell {
    /// Starts a command in a cell below `parent`, and waits for its first line, which is `up`.
    pub fn start(lab: &Lab, parent: &str, arguments: &[&str]) -> Cell {
        let before = names(parent);
        let arguments = [&["--net", "none", "--cgroup-parent", parent], arguments].concat();
        let mut command = lab.launcher(STEP, &arguments);
        let mut launcher = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it was built");
        assert_eq!(wait_for_a_line(&mut launcher), "up\n", "{arguments:?}");
        let new = names(parent).into_iter().find(|name| !before.contains(name)).expect("it has a group");
        Cell { launcher, group: format!("{parent}/{new}") }
    }

    /// Gives its parent the largest weight that there is: beside that, others on this machine get next to nothing, however
    /// busy they are. What this cell and its siblings do then depends on their own limits alone.
    pub fn before_all_others(&self) {
        let (file, most) = if world() == "v1" { ("cpu.shares", "262144") } else { ("cpu.weight", "10000") };
        let directory = self.directory_with(file);
        fs::write(directory.parent().expect("the cell's parent").join(file), most).expect("it is a test's own");
    }

    /// What a file of its group says, in whichever tree it is.
    pub fn read(&self, file: &str) -> String {
        let path = self.directory_with(file);
        fs::read_to_string(path.join(file)).expect("it can be read")
    }

    /// Its directory in the tree whose groups have this file.
    pub fn directory_with(&self, file: &str) -> PathBuf {
        let has = |directory: &PathBuf| Path::exists(&directory.join(file));
        directories(&self.group).into_iter().find(has).unwrap_or_else(|| panic!("{} has no {file}", self.group))
    }

    /// The CPU time that it has used until now, in seconds.
    pub fn cpu_time(&self) -> f64 {
        match world() {
            "v1" => self.read("cpuacct.usage").trim().parse::<f64>().expect("a number") / 1e9,
            _ => used(&self.read("cpu.stat"), "usage_usec") / 1e6,
        }
    }

    /// How many periods its group was throttled in. A group without a limit has no such line.
    pub fn throttled(&self) -> u64 {
        let stats =
            directories(&self.group).into_iter().filter_map(|path| fs::read_to_string(path.join("cpu.stat")).ok());
        let lines: Vec<String> = stats.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
        lines.iter().find_map(|line| line.strip_prefix("nr_throttled ")?.parse().ok()).unwrap_or_default()
    }

    /// Ends it by TERM, for which it needs `--init`, and returns what its launcher said.
    pub fn end(self) -> String {
        kill(Pid::from_raw(self.launcher.id() as i32), Signal::SIGTERM).expect("it is our child");
        let output = self.launcher.wait_with_output().expect("it is our child");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}
