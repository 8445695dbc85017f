//! A fault in every system call of `run`: strace makes one fail, one run for each, in the parent and in the child.
//!
//! The runtime may fail, with a word, and leave nothing; or it may succeed: then the inmate's report is the same as
//! without the fault. What must never come of it is a weaker container.
//!
//! strace counts the calls of each process for itself, and would make the same number fail in both: a child's fault would
//! hide behind its parent's. So it follows one of the two only. The child's it finds by a hook, which is run when the child
//! waits for its parent and has done next to nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use classroom::lab::workspace;
use classroom::runtimes::installed;
use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::case::{Case, Output, read, text};
use crate::sandbox::Sandbox;
use crate::soak::sample;

/// The inmate's report, and all that must not be weaker and is not in it. Names and numbers that every run has anew are
/// taken out.
const REPORT: &str = r#"
    /bin/inmate report
    sed 's/^[0-9]* [0-9]* [0-9:]* //; s/\(shared\|master\):[0-9]*/\1/' /proc/self/mountinfo
    grep -E '^(Groups|Cap|Seccomp|NoNewPrivs|Cpus_allowed)' /proc/self/status
    cat /proc/self/limits /proc/self/cgroup /proc/self/uid_map /proc/self/oom_score_adj /proc/sys/net/ipv4/ip_forward
    stat -c '%n %a %u %g %t %T' /dev/* /proc/kcore /sys/firmware
    cd /sys/fs/cgroup
    for file in memory.max pids.max memory/memory.limit_in_bytes pids/pids.max devices/devices.list; do
        [ ! -e $file ] || echo $file $(cat $file)
    done
    umask"#;

/// What is left out, and why.
const LEFT_OUT: [(&str, &str); 6] = [
    (
        "execve execveat exit exit_group rt_sigreturn restart_syscall",
        "they do not return, or belong to strace's own start",
    ),
    (
        "brk mmap munmap mprotect mremap madvise",
        "no program goes on without memory: it aborts, which is tried by kills",
    ),
    ("futex nanosleep clock_nanosleep sched_yield", "waiting: a failure means to wait again"),
    (
        "arch_prctl set_tid_address set_robust_list rseq sigaltstack",
        "the C library's, at the start and the end of a program",
    ),
    ("gettid getpid getppid geteuid getuid umask", "they cannot fail"),
    ("close", "the kernel closes even when it reports an error; strace's fault would leave it open"),
];

/// What a program does before main begins: the loader, the C library, the language's own start. Left out there, too, for
/// they abort, and nothing is made yet.
const START: &str = "execve brk mmap munmap mprotect arch_prctl set_tid_address set_robust_list rseq prlimit64 \
    getrandom access openat read pread64 fstat newfstatat close poll rt_sigaction rt_sigprocmask sigaltstack readlink \
    madvise sched_getaffinity gettid clone futex fcntl";
/// The first file that our main opens: a loader opens none of this name.
const OPENED_BY_MAIN: &str = "/proc/self/exe";

/// Has strace follow the child whose number is in the state that a hook reads; ends when it does.
const FOLLOW_CHILD: &str = r#"
    pid=$(sed 's/.*"pid": *\([0-9]*\).*/\1/')
    rm -f "$SAID"
    "$@" -p "$pid" </dev/null >/dev/null 2>"$SAID" &
    until grep -q attached "$SAID"; do sleep 0.002; done"#;

/// Nothing failed: the call was not made.
const NOT_REACHED: &str = "not reached";

/// How to do it.
#[derive(clap::Args)]
pub struct Options {
    /// The runtime.
    #[arg(long, value_name = "PATH")]
    pub runtime: PathBuf,
    /// So many of the calls only, evenly spread.
    #[arg(long, value_name = "COUNT")]
    sample: Option<usize>,
    /// Tell of each call what came of it.
    #[arg(long)]
    verbose: bool,
    /// The error.
    #[arg(long, default_value = "EIO")]
    error: String,
}

/// Whose calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// Those of the process that the caller has started.
    Parent,
    /// Those of the container's first process, until it becomes the inmate.
    Child,
}

/// A call: whose, its name, and how many of that name there were up to it.
type Call = (Whose, String, usize);

/// A container to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// In the host's user namespace.
    Plain,
    /// In a user namespace of its own: much is then handed in by the parent.
    OwnUsers,
}

impl Kind {
    /// All walls that there are, so that each could come out weaker.
    fn bundle(self, case: &Case) -> Bundle {
        let mut bundle = case.bundle();
        let filter = read(&workspace().join("steps/06-privileges/src/seccomp/default.json"));
        let filter: Value = serde_json::from_str(&filter).expect("it is JSON");
        bundle.set("/linux/seccomp", filter).set("/linux/sysctl", json!({ "net.ipv4.ip_forward": "1" }));
        bundle.set("/linux/resources/memory", json!({ "limit": 256 << 20 }));
        bundle.set("/root/readonly", true).set("/process/oomScoreAdj", 100);
        bundle.set("/process/rlimits", json!([{ "type": "RLIMIT_NOFILE", "soft": 256, "hard": 512 }]));
        bundle.set("/process/user", json!({ "uid": 1000, "gid": 1000, "additionalGids": [7], "umask": 0o027 }));
        bundle.mount("/mnt", "bind", &text(&case.canary), &["rbind", "ro", "nosuid", "nodev", "noexec"]);
        if self == Kind::OwnUsers {
            let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
            bundle.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
            bundle.config["linux"]["namespaces"].as_array_mut().expect("a list").push(json!({ "type": "user" }));
        }
        bundle.script(REPORT);
        bundle
    }
}

/// Runs one after the other, and fails when one of them is at fault.
pub fn run(sandbox: &Sandbox, options: &Options) -> Result<()> {
    ensure!(installed("strace").is_some(), "strace is missing: scripts/bootstrap --with engines");
    for (calls, why) in LEFT_OUT {
        println!("left out: {calls}: {why}");
    }
    println!("left out: whatever comes before main: a start that fails aborts, and nothing is made yet");
    println!("left out: the child's close and fcntl before it waits for its parent: strace has not found it by then");
    let kinds = [Kind::Plain, Kind::OwnUsers].map(|kind| of_kind(sandbox, options, kind));
    kinds.into_iter().collect()
}

/// All faults in the making of one kind of container.
fn of_kind(sandbox: &Sandbox, options: &Options, kind: Kind) -> Result<()> {
    let (begin, mut all, mut report) = (Instant::now(), Vec::new(), String::new());
    for whose in [Whose::Parent, Whose::Child] {
        let whole = traced(sandbox, kind, whose, &[]);
        ensure!(whole.output.code == 0, "it does not run: {}", whole.output.line());
        ensure!(report.is_empty() || report == whole.output.text, "its report differs from run to run");
        all.extend(calls(whose, &whole.trace));
        report = whole.output.text;
    }
    let chosen = sample(&all, options.sample);
    let of_child = all.iter().filter(|(whose, ..)| *whose == Whose::Child).count();
    println!("{kind:?}: {} calls, {of_child} of them the child's; a fault is put in {}", all.len(), chosen.len());
    let mut tally: BTreeMap<&str, usize> = BTreeMap::new();
    for call in &chosen {
        let try_once = || one(sandbox, kind, call, &options.error, &report);
        let (word, why) = match try_once() {
            (NOT_REACHED, _) => try_once(), // now and then a process has one call less: a signal that came early, say
            found => found,
        };
        *tally.entry(word).or_default() += 1;
        if word == "FAULT" || options.verbose {
            println!("{word}: {:?}, {} number {}: {why}", call.0, call.1, call.2);
        }
    }
    println!("{kind:?}: {tally:?} in {:.0} s", begin.elapsed().as_secs_f64());
    match tally.get("FAULT") {
        Some(count) => bail!("{count} of {} end badly", chosen.len()),
        None => Ok(()),
    }
}

/// One run with one fault: what came of it, and why.
fn one(sandbox: &Sandbox, kind: Kind, (whose, call, at): &Call, error: &str, report: &str) -> (&'static str, String) {
    let run = traced(sandbox, kind, *whose, &["-e", &format!("inject={call}:error={error}:when={at}")]);
    let Output { code, text } = &run.output;
    let said = said_beside(report, text);
    let fault = |why: String| ("FAULT", why);
    match () {
        () if *code == 124 => fault("it hangs".to_owned()),
        () if *code >= 128 && *code != 255 => fault(format!("it crashes ({code}): {}", run.output.line())),
        () if text.contains("panicked at") => fault(format!("it panics: {}", run.output.line())),
        () if !run.left.is_empty() => fault(format!("{} things are left: {}", run.left.len(), run.left[0])),
        () if !run.trace.contains("(INJECTED)") => {
            (NOT_REACHED, run.trace.lines().last().unwrap_or_default().to_owned())
        }
        () if *whose == Whose::Child && in_inmate(&run.trace) => ("hit the inmate itself", String::new()),
        () if *code != 0 && said.trim().is_empty() => fault("it fails without a word".to_owned()),
        () if *code != 0 && !is_clear(said) => fault(format!("it says too much: {}", said.replace('\n', "; "))),
        () if *code != 0 => ("fails", said.trim().replace('\n', "; ")),
        () if text == report => ("succeeds", String::new()),
        () => fault(format!("another container comes of it: {}", difference(report, text))),
    }
}

/// What comes after the report, or after the part of it that has been printed.
fn said_beside<'a>(report: &str, text: &'a str) -> &'a str {
    let same = report.bytes().zip(text.bytes()).take_while(|(one, other)| one == other).count();
    text.get(same..).unwrap_or(text)
}

/// One line, and perhaps a second with the remedy.
fn is_clear(said: &str) -> bool {
    let mut lines = said.lines();
    lines.next().is_some() && lines.all(|line| line.starts_with("hint: "))
}

fn difference(report: &str, other: &str) -> String {
    let known: Vec<&str> = report.lines().collect();
    other.lines().find(|line| !known.contains(line)).unwrap_or("a line is missing").to_owned()
}

/// What came of a run, and the calls that were followed, in order, one a line.
struct Traced {
    output: Output,
    trace: String,
    left: Vec<String>,
}

/// Has the runtime run the inmate, which reports, and strace with these options follow one of the two processes.
fn traced(sandbox: &Sandbox, kind: Kind, whose: Whose, options: &[&str]) -> Traced {
    let case = Case::new(sandbox);
    let before = case.trace();
    let mut bundle = kind.bundle(&case);
    let file = case.folder.join("strace");
    let mut strace = vec!["strace".to_owned(), "-s".to_owned(), "64".to_owned(), "-o".to_owned(), text(&file)];
    strace.extend(options.iter().map(|&option| option.to_owned()));
    if whose == Whose::Child {
        let args: Vec<String> =
            ["sh", "-ec", FOLLOW_CHILD, "hook"].map(str::to_owned).into_iter().chain(strace.drain(..)).collect();
        let env = [format!("PATH={}", std::env::var("PATH").unwrap_or_default()), format!("SAID={}.said", text(&file))];
        bundle
            .set("/hooks", json!({ "createRuntime": [{ "path": "/bin/sh", "args": args, "env": env, "timeout": 5 }] }));
    }
    let id = case.place(&mut bundle);
    let runtime = case.command(&["run", "--bundle", &text(&bundle.folder), &id]);
    let words = strace.iter().map(std::ffi::OsStr::new).chain([runtime.get_program()]).chain(runtime.get_args());
    let words: Vec<_> = words.collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir(&case.folder);
    let output = case.output(command);
    let left = case.left_since(&before); // strace, too, has ended then
    let trace = read(&file);
    case.clear();
    Traced { output, trace, left }
}

/// The name of the call in a line of strace's: `openat(...) = 3`.
fn name(line: &str) -> Option<&str> {
    let (name, _) = line.split_once('(')?;
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_').then_some(name)
}

/// The calls in which a fault can be put: from where main begins to where the inmate does.
fn calls(whose: Whose, trace: &str) -> Vec<Call> {
    let start: Vec<&str> = START.split_whitespace().collect();
    let left_out: Vec<&str> = LEFT_OUT.iter().flat_map(|(calls, _)| calls.split_whitespace()).collect();
    let end = if whose == Whose::Child { inmate(trace) } else { usize::MAX };
    let (mut counts, mut found) = (BTreeMap::new(), Vec::new());
    let mut in_start = whose == Whose::Parent;
    for line in trace.lines().take(end) {
        let Some(name) = name(line) else { continue };
        let count = counts.entry(name).and_modify(|count| *count += 1).or_insert(1);
        // A program that goes on as another one starts anew.
        in_start = name.starts_with("execve") || in_start && start.contains(&name) && !line.contains(OPENED_BY_MAIN);
        if !in_start && !left_out.contains(&name) {
            found.push((whose, name.to_owned(), *count));
        }
    }
    found
}

/// In which line a trace turns to the inmate's: at the last program. The trace's end, if it never does.
fn inmate(trace: &str) -> usize {
    let last = trace.lines().enumerate().filter(|(_, line)| line.starts_with("execve(")).last();
    last.map_or(usize::MAX, |(at, _)| at)
}

/// Whether the fault came when the inmate ran already: then it says nothing about the runtime.
fn in_inmate(trace: &str) -> bool {
    trace.lines().skip(inmate(trace)).any(|line| line.contains("(INJECTED)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_main_to_the_inmate() {
        let trace = "execve(\"cellblock\") = 0\npoll() = 0\nopen(\"/proc/self/exe\") = 3\nclose(3) = 0\npoll() = 0\n\
            execveat(4) = 0\npoll() = 0\nopen(\"/proc/self/exe\") = 3\n--- SIGCHLD ---\nexecve(\"/bin/inmate\") = 0\nopen() = 3";
        let call = |whose, name: &str, at| (whose, name.to_owned(), at);
        let expected = [("open", 1), ("poll", 2), ("open", 2)].map(|(name, at)| call(Whose::Parent, name, at));
        assert_eq!(calls(Whose::Parent, trace)[..3], expected);
        assert_eq!(calls(Whose::Child, "read() = 2\nread() = 2\nexecve(\"/bin/inmate\") = 0\nread() = 1").len(), 2);
        assert!(in_inmate("read() = 2\nexecve(\"/bin/inmate\") = 0\nread() = -1 EIO (INJECTED)"));
        assert!(!in_inmate("read() = -1 EIO (INJECTED)\nexecve(\"/bin/inmate\") = 0"));
    }
}
