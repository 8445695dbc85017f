//! The engines above an OCI runtime: how one is started in a lab, and taken through a list of steps.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use classroom::Lab;
use classroom::attacks::{self, Verdict};
use classroom::init::below_an_init;
use classroom::lab::{FIGURES, not_run, workspace};
use classroom::run::code;
use classroom::runtimes::{Runtime, installed, ours, peers};

mod common;
pub mod containerd;
pub mod docker;
pub mod podman;
mod table;

use table::Table;

/// An engine, and what it must be able to do with a runtime.
pub struct Engine {
    pub name: &'static str,
    /// The programs that it consists of.
    pub needs: &'static [&'static str],
    /// What one types, and what must come of it.
    pub steps: &'static [&'static [Step]],
    /// How it starts the inmate: a command line, up to the inmate's own words.
    pub cell: &'static str,
    /// Attacks that the engine, not the runtime, lets through.
    pub lets_through: &'static [&'static str],
}

/// Something that an engine is told to do.
pub struct Step {
    name: &'static str,
    line: &'static str,
    code: i32,
    says: &'static str,
}

/// A step: the line that one types must end with this exit code, and print this among other things.
pub const fn step(name: &'static str, line: &'static str, code: i32, says: &'static str) -> Step {
    Step { name, line, code, says }
}

/// An engine that runs, with one runtime. It ends when dropped.
struct Running<'a> {
    lab: &'a Lab,
    engine: &'a Engine,
    runtime: &'a Runtime,
    folder: PathBuf,
}

/// No step takes longer, in seconds.
const PATIENCE: &str = "40";

impl<'a> Running<'a> {
    fn start(lab: &'a Lab, engine: &'a Engine, runtime: &'a Runtime) -> Running<'a> {
        let folder = lab.folder.join("engine");
        fs::create_dir(&folder).expect("the lab is ours");
        let running = Running { lab, engine, runtime, folder };
        let (code, text) = running.sh("up");
        assert_eq!(code, 0, "{} does not start: {text}\n{}", engine.name, running.log());
        running
    }

    /// A command line, with the engine's variables and functions.
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("timeout");
        let script = format!("source \"$ENGINES/{}.sh\" && {{ {line}; }}", self.engine.name);
        command.args(["--foreground", "--kill-after=5", PATIENCE, "bash", "-c", &script]);
        command.current_dir(&self.folder); // conmon drops files where it is started
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
        // The folder's number is its own among all clones on this machine, which share the tree of groups.
        let parent = format!("/cellblock-lab-{}", fs::metadata(&self.lab.folder).expect("it is ours").ino());
        command.env("ENGINES", workspace().join("tests/engines"));
        command.env("FOLDER", &self.folder).env("RUNTIME", &self.runtime.path).env("ROOTFS", &self.lab.rootfs);
        command.env("PARENT", parent).env("PATH", path).env_remove("TERM").stdin(Stdio::null());
        command
    }

    /// Runs a command line: its exit code, and all that it printed.
    fn sh(&self, line: &str) -> (i32, String) {
        // A file, for a pipe would stay open as long as anything lives that was started.
        let file = self.folder.join("output");
        let output = fs::File::create(&file).expect("the folder is ours");
        let copy = output.try_clone().expect("descriptors are left");
        let status = self.command(line).stdout(output).stderr(copy).status().expect("timeout is there");
        (code(status), String::from_utf8_lossy(&fs::read(&file).unwrap_or_default()).into_owned())
    }

    /// Does a step: nothing, or what went wrong.
    fn does(&self, step: &Step) -> Result<(), String> {
        let (code, text) = self.sh(step.line);
        if code == step.code && text.contains(step.says) {
            return Ok(());
        }
        Err(format!("$ {}\nwanted {}, and {:?}; got {code}:\n{}", step.line, step.code, step.says, text.trim_end()))
    }

    fn attack(&self, name: &str) -> Verdict {
        let command = self.command(&format!("{} inmate attack {name}", self.engine.cell));
        self.lab.attack_by(command, name)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let (code, text) = self.sh("down");
        let log = self.log();
        let _ = fs::remove_dir_all(&self.folder);
        if !std::thread::panicking() {
            assert_eq!(code, 0, "{} does not end: {text}\n{log}", self.engine.name);
        }
    }
}

/// Takes an engine through its list, with each runtime that is there.
pub fn goes_through_its_list(lab: &Lab, engine: &Engine) {
    let steps = || engine.steps.iter().copied().flatten();
    let rows = steps().map(|step| step.name.to_owned()).collect();
    with_each_runtime(lab, engine, Table::new(engine.name, rows), |running| {
        steps().map(|step| running.does(step)).collect()
    });
}

/// Has an engine start the inmate, with each runtime that is there.
pub fn holds_the_inmate(lab: &Lab, engine: &Engine) {
    let names = attacks::names();
    let table = Table::new(&format!("{}-attacks", engine.name), names.clone());
    with_each_runtime(lab, engine, table, |running| {
        let held = |name: &String| {
            let verdict = running.attack(name);
            let expected = verdict.word != "ESCAPED" || engine.lets_through.contains(&name.as_str());
            if expected { Ok(()) } else { Err(format!("{name}: {}: {}", verdict.word, verdict.why)) }
        };
        names.iter().map(held).collect()
    });
}

fn with_each_runtime(lab: &Lab, engine: &Engine, mut table: Table, work: impl Fn(&Running) -> Vec<Result<(), String>>) {
    if let Some(missing) = engine.needs.iter().find(|program| installed(program).is_none()) {
        return not_run(engine.name, &format!("{missing} is missing: scripts/bootstrap --with engines"));
    }
    below_an_init(|| {
        let peers = peers();
        for (runtime, is_ours) in peers.iter().map(|peer| (peer, false)).chain(ours().iter().map(|ours| (ours, true))) {
            let cells = runtime.among_its_cgroups(|| work(&Running::start(lab, engine, runtime)));
            table.add(&runtime.name, is_ours, cells);
        }
        table.write();
        table.notes().iter().for_each(|note| eprintln!("{FIGURES}: {note}"));
        assert!(table.faults().is_empty(), "{}", table.faults().join("\n\n"));
    });
}
