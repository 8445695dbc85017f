//! The escape matrix: every attack of the inmate on every step.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use crate::lab::{Lab, World, binary, workspace};

/// A step, as a column of the matrix: its launcher and the options that its lesson gives it. No launcher: the host.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// The head.
    pub name: &'static str,
    /// The options: limits, which an ordinary user may not have.
    pub options: &'static [&'static str],
    /// Whether it does without them where it must.
    pub frugal: bool,
    /// A small init is PID 1, from step 2 on.
    pub init: bool,
}

/// The columns so far.
pub const COLUMNS: [Column; 8] = [
    Column { name: "host", options: &[], frugal: false, init: false },
    Column { name: "chroot", options: &[], frugal: false, init: false },
    Column { name: "namespaces", options: &[], frugal: false, init: false },
    Column { name: "pivot-root", options: &[], frugal: false, init: false },
    Column { name: "network", options: &[], frugal: false, init: false },
    Column { name: "cgroups", options: &["--pids", "64", "--memory", "64m"], frugal: false, init: false },
    Column { name: "privileges", options: &["--pids", "64", "--memory", "64m"], frugal: true, init: false },
    Column { name: RUNTIME, options: &["--pids", "64", "--memory", "64m"], frugal: true, init: false },
];

/// The same launchers with `--init`, which the first two columns have not.
pub fn columns_with_init() -> Vec<Column> {
    let has_init = |column: &&Column| !["host", "chroot"].contains(&column.name);
    COLUMNS.iter().filter(has_init).map(|column| Column { init: true, ..*column }).collect()
}

/// Step 7's launcher is a verb of its runtime, which remembers what it has made.
const RUNTIME: &str = "cellblock";

/// The attack on a small init: without one, the first process is the attacker.
const FIRST_PROCESS: &str = "init";

/// What came of an attack: HELD, ESCAPED or n/a, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The word.
    pub word: String,
    /// What held it, or what it reached.
    pub why: String,
}

impl Lab {
    /// Tries one attack on one step, with the sentinel outside.
    pub fn attack(&self, column: Column, attack: &str) -> Verdict {
        let inmate = if column.name == "host" { native_inmate() } else { "inmate".into() };
        let mut words = Vec::new();
        if column.name != "host" {
            words.push(binary(column.name).display().to_string());
            if column.name == RUNTIME {
                let (state, rootfs) = (self.folder.join("state"), &self.rootfs);
                let (state, rootfs) = (state.display().to_string(), rootfs.display().to_string());
                words.extend(["--root", &state, "run", "--rootfs", &rootfs].map(str::to_owned));
            }
            if column.init {
                words.push("--init".to_owned());
            }
            let needs_limits = ["fork-bomb", "memory"].contains(&attack);
            if self.world == World::Root || !column.frugal || needs_limits {
                words.extend(column.options.iter().map(|option| (*option).to_owned()));
            }
        }
        words.extend([inmate, "attack".into(), attack.into()]);
        let verdict = self.judge(attack, words);
        let _ = std::fs::remove_dir(self.folder.join("state"));
        verdict
    }

    /// What comes of an attack that a command line of one's own makes, with the sentinel outside: verdict and reason.
    pub fn verdict_of(&self, attack: &str, command: Vec<String>) -> String {
        let Verdict { word, why } = self.judge(attack, command);
        format!("{word} {why}")
    }

    fn judge(&self, attack: &str, mut words: Vec<String>) -> Verdict {
        if attack == "tiocsti" {
            words = on_a_terminal(&words);
        }
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env("CELLBLOCK_ROOTFS", &self.rootfs);
        self.attack_by(command, attack)
    }

    /// Tries one attack by a command that has the inmate try it, with the sentinel outside.
    pub fn attack_by(&self, attacker: Command, attack: &str) -> Verdict {
        let mut command = Command::new(native_inmate());
        command.arg("sentinel").arg(attacker.get_program()).args(attacker.get_args()).stdin(Stdio::piped());
        for (name, value) in attacker.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.current_dir(attacker.get_current_dir().unwrap_or(workspace()));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it was built");
        let mut lines = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        lines.read_line(&mut line).expect("a pipe can be read");
        let verdict = self.verdict(attack, line.trim());
        drop(child.stdin.take()); // the Enter for which a LOOK waits
        lines.read_to_string(&mut line).expect("a pipe can be read");
        child.wait().expect("it is our child");
        verdict
    }

    /// Reads the inmate's line. LOOK means that only a process outside can tell: that is this one.
    fn verdict(&self, attack: &str, line: &str) -> Verdict {
        if self.world != World::Root && !line.starts_with(attack) {
            let why = "the launcher is refused: an ordinary user's limits need cgroups that were delegated".to_owned();
            return Verdict { word: "n/a".to_owned(), why };
        }
        let told = line.strip_prefix(attack).and_then(|rest| rest.strip_prefix(": "));
        let (word, why) = told.and_then(|told| told.split_once(' ')).unwrap_or_else(|| panic!("{attack}: {line:?}"));
        let (word, why) = (word.to_owned(), why.trim().to_owned());
        if word != "LOOK" {
            return Verdict { word, why };
        }
        const MARK: &str = "inmate-was-here";
        let outside = ["/proc/sys/kernel/hostname", "/proc/self/mountinfo"].map(std::fs::read_to_string);
        let seen = outside.into_iter().flatten().any(|text| text.contains(MARK));
        let (word, why) =
            if seen { ("ESCAPED", "its mark is seen outside") } else { ("HELD", "its mark stays inside") };
        Verdict { word: word.to_owned(), why: why.to_owned() }
    }

    /// The whole matrix, as a table; below it the reasons of what is not applicable.
    ///
    /// What a machine lacks (SysRq, cgroup v1, a terminal that can be typed into) cannot be tried there, not even on
    /// its host: such rows are taken as `recorded` on a machine that has it, and returned with their reason.
    pub fn matrix(&self, columns: &[Column], recorded: &str) -> (String, BTreeMap<String, String>) {
        const LACKED_BY_SOME: [&str; 5] = ["sysrq", "release-agent", "file-handle", "tiocsti", "keyring"];
        let head = columns.iter().map(|column| format!("{:<12}", column.name)).collect::<String>();
        let mut table = format!("{:<17}{}\n", "", head.trim_end());
        let (mut notes, mut untried) = (String::new(), BTreeMap::new());
        for column in columns.iter().filter(|column| !column.options.is_empty()) {
            notes += &format!("{} runs with {}\n", column.name, column.options.join(" "));
        }
        let has_init = columns.iter().any(|column| column.init);
        for attack in names().into_iter().filter(|attack| has_init || attack != FIRST_PROCESS) {
            let verdicts: Vec<Verdict> = columns.iter().map(|column| self.attack(*column, &attack)).collect();
            let on_host = match columns[0].name {
                "host" => verdicts[0].clone(),
                _ if LACKED_BY_SOME.contains(&&*attack) => self.attack(COLUMNS[0], &attack),
                _ => verdicts[0].clone(),
            };
            if on_host.word == "n/a" && LACKED_BY_SOME.contains(&&*attack) {
                table.extend(recorded.lines().filter(|row| row.starts_with(&format!("{attack} "))).map(with_newline));
                untried.insert(attack, on_host.why);
                continue;
            }
            let cells = verdicts.iter().map(|verdict| format!("{:<12}", verdict.word)).collect::<String>();
            table += &format!("{attack:<17}{}\n", cells.trim_end());
            for verdict in verdicts.iter().filter(|verdict| verdict.word == "n/a") {
                let note = match verdict.why.starts_with("the launcher") {
                    true => format!("n/a: {}\n", verdict.why),
                    false => format!("n/a {attack}: {}\n", verdict.why),
                };
                if !notes.contains(&note) {
                    notes += &note;
                }
            }
        }
        (format!("{table}\n{notes}"), untried)
    }
}

fn with_newline(row: &str) -> String {
    format!("{row}\n")
}

/// The inmate on the host's side: the same static program.
fn native_inmate() -> String {
    workspace().join("target/rootfs/busybox/bin/inmate").display().to_string()
}

/// The names of all attacks.
pub fn names() -> Vec<String> {
    let list = Command::new(native_inmate()).arg("attack").output().expect("scripts/rootfs has put it there").stdout;
    let list = String::from_utf8(list).expect("it is text");
    list.lines().filter_map(|line| Some(line.split_whitespace().next()?.to_owned())).collect()
}

/// The same command on a terminal of its own (man 1 script).
fn on_a_terminal(words: &[String]) -> Vec<String> {
    ["script", "-qec", &words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" "), "/dev/null"]
        .map(str::to_owned)
        .to_vec()
}
