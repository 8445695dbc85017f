//! Running a launcher in the lab, as a learner would, and what it prints.

use std::fmt;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::lab::{Lab, binary, workspace};

/// What a command printed, standard error included, in order, and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    command: String,
    /// What it printed, made equal between machines.
    pub text: String,
    /// The exit code, as a shell gives it: 128 and the number for a signal.
    pub code: i32,
}

/// Nothing runs unless the new /dev is there.
const OWN_DEV: &str = r#"
set -e
mount -t tmpfs tmpfs /dev
node() { mknod -m 666 "/dev/$1" c "$2" "$3"; }
node null 1 3; node zero 1 5; node full 1 7; node random 1 8; node urandom 1 9; node tty 5 0
set +e
"$@"
code=$?
cd /dev && stat -c 'outside: %n %a %u:%g' null zero full random urandom tty
exit $code
"#;

/// The same command, on a host whose /dev is the test's own: what is done to its nodes is not done to the machine's.
/// After the command each node is shown: its name, permissions and owner.
pub fn on_own_dev(command: &Command) -> Command {
    let mut own = Command::new("unshare");
    own.args(["--mount", "sh", "-c", OWN_DEV, "sh"]).arg(command.get_program()).args(command.get_args());
    own
}

/// What root of a cell tries on the device nodes that it sees, and that they can be read and written.
pub const SEIZE_NODES: &str = "cd /dev; for node in null zero full random urandom tty; do \
    chmod 600 $node; chown 1:1 $node; done; dd if=zero bs=1 count=1 2>null >null && echo works";

/// The same by root of a cell that may mount there: first it makes what is read-only writable. A null device covers the interrupts.
pub const SEIZE_MOUNTED_NODES: &str = "cd /dev; for node in /dev/null /dev/zero /dev/full /dev/random \
    /dev/urandom /dev/tty /proc/interrupts; do mount -o remount,rw,bind $node; chmod 600 $node; chown 1:1 $node; done; \
    dd if=zero bs=1 count=1 2>null >null && echo works";

/// The nodes of the host after [`SEIZE_NODES`] must be as they were, and must have worked.
pub fn assert_not_seized(output: &Output) {
    let outside = |name| output.text.contains(&format!("outside: {name} 666 0:0\n"));
    let untouched = ["null", "zero", "full", "random", "urandom", "tty"].into_iter().all(outside);
    assert!(untouched && output.code == 0 && output.text.contains("works\n"), "{output}");
}

impl Lab {
    /// A launcher, ready to run on the lab's root filesystem, with no standard input.
    pub fn launcher(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary(name));
        command.args(arguments).env("CELLBLOCK_ROOTFS", &self.rootfs).env_remove("TERM").stdin(Stdio::null());
        command
    }

    /// Runs a launcher.
    pub fn run(&self, name: &str, arguments: &[&str]) -> Output {
        let launcher = self.launcher(name, arguments);
        let typed: Vec<String> = arguments.iter().map(|word| self.short_paths(word)).collect();
        let arguments = &typed.iter().map(String::as_str).collect::<Vec<_>>()[..];
        self.output(format!("$ {}", as_typed(name, arguments)), launcher)
    }

    /// Runs any command; `shown` is the line that the snapshot begins with.
    pub fn output(&self, shown: String, mut command: Command) -> Output {
        let (mut reader, writer) = std::io::pipe().expect("descriptors are left");
        let copy = writer.try_clone().expect("descriptors are left");
        let mut child = command.stdout(writer).stderr(copy).spawn().expect("it was built");
        drop(command); // it holds the writing ends
        let mut text = Vec::new();
        reader.read_to_end(&mut text).expect("a pipe can be read");
        let status = child.wait().expect("it is our child");
        Output { command: shown, text: self.normalise(&String::from_utf8_lossy(&text)), code: code(status) }
    }

    /// A launcher [`on_own_dev`].
    pub fn on_own_dev(&self, command: &Command) -> Command {
        let mut own = on_own_dev(command);
        own.env("CELLBLOCK_ROOTFS", &self.rootfs).env_remove("TERM").stdin(Stdio::null());
        own
    }

    /// Starts a launcher, to be watched or killed; its output is thrown away.
    pub fn start(&self, name: &str, arguments: &[&str]) -> Child {
        self.launcher(name, arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it was built")
    }

    /// A line in a shell, in the lab's folder, in which `cargo doctor` and `cargo run -q -p NAME` start what was built. It is shown
    /// as one would type it.
    pub fn typed(&self, line: &str) -> Output {
        let folder = binary("").display().to_string();
        let mut parts = line.split("cargo run -q -p ");
        let before = parts.next().unwrap_or_default().replace("cargo doctor", "doctor");
        let short: String = std::iter::once(before).chain(parts.map(|run| run.replacen(" -- ", " ", 1))).collect();
        let mut command = Command::new("sh");
        let path = format!("{folder}:{}", std::env::var("PATH").unwrap_or_default());
        command.args(["-c", &short]).env("PATH", path).current_dir(&self.folder).stdin(Stdio::null());
        self.output(format!("$ {line}"), command)
    }

    /// Everything that differs between machines, replaced at this one place.
    pub fn normalise(&self, text: &str) -> String {
        let text = self.short_paths(text);
        text.lines().map(|line| without_drawn_names(&same_everywhere(line.trim_end())) + "\n").collect()
    }

    /// A text with the paths that a learner sees, wherever the workshop lies.
    fn short_paths(&self, text: &str) -> String {
        let text = text.replace(&format!("{}/", workspace().display()), "");
        let folder = self.folder.strip_prefix(workspace()).expect("labs lie in target").display().to_string();
        text.replace(&format!("{folder}/rootfs"), "target/rootfs/busybox").replace(&folder, "target/lab")
    }
}

/// How a learner starts a binary: the doctor by cargo's alias, the others by the name of their step.
fn as_typed(binary: &str, arguments: &[&str]) -> String {
    let (run, separator) =
        if binary == "doctor" { ("cargo doctor".to_owned(), "") } else { (format!("cargo run -p {binary}"), "-- ") };
    if arguments.is_empty() { run } else { format!("{run} {separator}{}", quoted(arguments)) }
}

/// The exit code as a shell gives it.
pub fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// A line of the inmate's report without what is the machine's own: limits, user ids, pids of no cell.
fn same_everywhere(line: &str) -> String {
    let hide: fn(&str) -> bool = match line.split(' ').next() {
        Some("limits") => |word| word == "unlimited" || word.parse::<u64>().is_ok(),
        Some("uid") => |word| word.parse::<u64>().is_ok_and(|id| id > 1),
        Some("process") => |word| word.trim_end_matches(',').parse::<u64>().is_ok_and(|pid| pid > 2),
        _ => return line.to_owned(),
    };
    let shown = |word: &str| match hide(word) {
        true if word.ends_with(',') => "N,".to_owned(),
        true => "N".to_owned(),
        false => word.to_owned(),
    };
    line.split(' ').map(shown).collect::<Vec<_>>().join(" ")
}

/// A line without the names that are drawn by lot: step 4's cables (cb and eight digits), step 5's groups (cell-).
fn without_drawn_names(line: &str) -> String {
    let is_drawn = |text: &str| text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let cable = |word: &str| match word.strip_prefix("cb") {
        Some(rest) if is_drawn(rest) => "<veth>".to_owned(),
        _ => word.to_owned(),
    };
    let line = line.split(' ').map(cable).collect::<Vec<_>>().join(" ");
    let mut parts = line.split("/cell-");
    let group = |part: &str| match part.get(..8) {
        Some(name) if is_drawn(name) => format!("/cell-N{}", &part[8..]),
        _ => format!("/cell-{part}"),
    };
    let first = parts.next().unwrap_or_default().to_owned();
    first + &parts.map(group).collect::<String>()
}

/// Arguments as one would type them.
fn quoted(arguments: &[&str]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    let quote = |word: &&str| match !word.is_empty() && word.chars().all(plain) {
        true => (*word).to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    };
    arguments.iter().map(quote).collect::<Vec<_>>().join(" ")
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.command)?;
        f.write_str(&self.text)?;
        if self.code == 0 { Ok(()) } else { writeln!(f, "[exit status {}]", self.code) }
    }
}
