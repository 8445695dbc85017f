//! A fault in every system call of `run`: strace makes one fail, one run for each, in the runtime's processes alike.
//!
//! The runtime may fail, with a word, and leave nothing; or it may succeed: then the inmate's report is the same as
//! without the fault. What must never come of it is a weaker container.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail, ensure};
use classroom::runtimes::installed;

use crate::case::{Case, Output, read, text};
use crate::sandbox::Sandbox;
use crate::soak::sample;

/// What is left out, and why.
const LEFT_OUT: [(&str, &str); 6] = [
    ("execve exit exit_group rt_sigreturn restart_syscall", "they do not return, or belong to strace's own start"),
    (
        "brk mmap munmap mprotect mremap madvise",
        "no program goes on without memory: it aborts, which is tried by kills",
    ),
    ("futex nanosleep clock_nanosleep sched_yield", "waiting: a failure means to wait again"),
    ("arch_prctl set_tid_address set_robust_list rseq sigaltstack", "the C library's start, before main"),
    ("gettid getpid getppid umask", "they cannot fail"),
    ("close", "the kernel closes even when it reports an error; strace's fault would leave it open"),
];

/// What a program does before main begins: the loader, the C library, the language's own start.
const START: &str = "execve brk mmap munmap mprotect arch_prctl set_tid_address set_robust_list rseq prlimit64 \
    getrandom access openat read pread64 fstat newfstatat close poll rt_sigaction rt_sigprocmask sigaltstack readlink \
    madvise sched_getaffinity gettid clone futex fcntl";

/// How to do it.
#[derive(clap::Args)]
pub struct Options {
    /// The runtime.
    #[arg(long, value_name = "PATH")]
    pub runtime: PathBuf,
    /// So many of the calls only, evenly spread.
    #[arg(long, value_name = "COUNT")]
    sample: Option<usize>,
    /// The error.
    #[arg(long, default_value = "EIO")]
    error: String,
}

/// A call of which each process makes so many.
type Counts = BTreeMap<String, usize>;

/// Runs one after the other, and fails when one of them is at fault.
pub fn run(sandbox: &Sandbox, options: &Options) -> Result<()> {
    ensure!(installed("strace").is_some(), "strace is missing: scripts/bootstrap --with engines");
    for (calls, why) in LEFT_OUT {
        println!("left out: {calls}: {why}");
    }
    let case = Case::new(sandbox);
    let whole = traced(&case, &[]);
    case.clear();
    ensure!(whole.output.code == 0, "it does not run: {}", whole.output.line());
    let all: Vec<(String, usize)> = counts(&whole.trace)
        .into_iter()
        .flat_map(|(call, count)| (1..=count).map(move |at| (call.clone(), at)))
        .collect();
    let chosen = sample(&all, options.sample);
    println!("{} calls in which a fault can be put, {} of them tried", all.len(), chosen.len());
    let mut tally: BTreeMap<&str, usize> = BTreeMap::new();
    for (call, at) in &chosen {
        let (word, why) = one(sandbox, call, *at, &options.error, &whole.output.text);
        *tally.entry(word).or_default() += 1;
        if word == "FAULT" {
            println!("{call} number {at}: {why}");
        }
    }
    println!("{tally:?}");
    match tally.get("FAULT") {
        Some(count) => bail!("{count} of {} end badly", chosen.len()),
        None => Ok(()),
    }
}

/// One run with one fault: what came of it, and why.
fn one(sandbox: &Sandbox, call: &str, at: usize, error: &str, report: &str) -> (&'static str, String) {
    let case = Case::new(sandbox);
    let before = case.trace();
    let inject = format!("inject={call}:error={error}:when={at}");
    let run = traced(&case, &["-e", &inject]);
    let left = case.left_since(&before);
    case.clear();
    let Output { code, text } = &run.output;
    match () {
        () if !run.trace.contains("(INJECTED)") => ("not reached", String::new()),
        () if *code == 124 => ("FAULT", "it hangs".to_owned()),
        () if *code >= 128 && *code != 255 => ("FAULT", format!("it crashes ({code}): {}", run.output.line())),
        () if text.contains("panicked at") => ("FAULT", format!("it panics: {}", run.output.line())),
        () if !left.is_empty() => ("FAULT", format!("{} things are left: {}", left.len(), left[0])),
        () if in_payload(&run.trace) => ("hit the inmate itself", String::new()),
        () if *code != 0 && text.trim().is_empty() => ("FAULT", "it fails without a word".to_owned()),
        () if *code != 0 => ("fails", String::new()),
        () if text == report => ("succeeds", String::new()),
        () => ("FAULT", format!("another container comes of it: {}", difference(report, text))),
    }
}

fn difference(report: &str, other: &str) -> String {
    let known: Vec<&str> = report.lines().collect();
    other.lines().find(|line| !known.contains(line)).unwrap_or("a line is missing").to_owned()
}

struct Traced {
    output: Output,
    trace: String,
}

/// Has the runtime run the inmate, which reports, under strace with these options.
fn traced(case: &Case, options: &[&str]) -> Traced {
    let mut bundle = case.bundle();
    let id = case.place(bundle.args(&["/bin/inmate", "report"]));
    let file = case.folder.join("strace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-q", "-s", "64", "-o"]).arg(&file).args(options);
    let runtime = case.command(&["run", "--bundle", &text(&bundle.folder), &id]);
    strace.arg(runtime.get_program()).args(runtime.get_args()).current_dir(&case.folder);
    let output = case.output(strace);
    let _ = std::fs::remove_dir_all(&bundle.folder);
    Traced { output, trace: read(&file) }
}

/// The calls of each process, in order: `123 openat(...) = 3`. What strace has torn in two counts once.
fn calls(trace: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut all: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in trace.lines() {
        let Some((pid, rest)) = line.split_once(char::is_whitespace) else { continue };
        let Some((name, _)) = rest.trim_start().split_once('(') else { continue };
        if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            all.entry(pid).or_default().push(name);
        }
    }
    all
}

/// How often each call is made at most by one process, from where main begins to where the inmate begins.
fn counts(trace: &str) -> Counts {
    let start: Vec<&str> = START.split_whitespace().collect();
    let left_out: Vec<&str> = LEFT_OUT.iter().flat_map(|(calls, _)| calls.split_whitespace()).collect();
    let mut most = Counts::new();
    for (number, (_, calls)) in calls(trace).iter().enumerate() {
        let main = if number == 0 { calls.iter().position(|call| !start.contains(call)).unwrap_or(0) } else { 0 };
        let end = if number == 0 { calls.len() } else { last_exec(calls) };
        let mut own = Counts::new();
        for (at, call) in calls[..end].iter().enumerate() {
            *own.entry((*call).to_owned()).or_default() += 1;
            if at >= main && !left_out.contains(call) {
                let count = own[*call];
                most.entry((*call).to_owned()).and_modify(|most| *most = (*most).max(count)).or_insert(count);
            }
        }
    }
    most
}

/// Where the last program of a process begins; its end, if it never starts one.
fn last_exec(calls: &[&str]) -> usize {
    calls.iter().rposition(|call| *call == "execve").unwrap_or(calls.len())
}

/// Whether the fault came when the inmate ran already: then it says nothing about the runtime.
fn in_payload(trace: &str) -> bool {
    let mut inmates = Vec::new();
    for line in trace.lines() {
        let (pid, rest) = line.split_once(char::is_whitespace).unwrap_or_default();
        if rest.contains("execve(") && rest.contains("inmate") {
            inmates.push(pid);
        }
        if rest.contains("(INJECTED)") && inmates.contains(&pid) {
            return true;
        }
    }
    false
}
