//! `--explain`: a narration of what a binary asks of the kernel.
//!
//! One line of purpose in plain words, then the calls under it, as `strace` would print them, with their result:
//!
//! ```text
//! child  > a fresh /proc, so that ps sees this pid namespace only
//! child      fsopen("proc") = <proc>
//! ```
//!
//! Every line is made here, from what the wrappers in [`crate::sys`] hand in. Descriptors and processes appear by
//! label, so that the story is the same on every run. When it is off, nothing is formatted.

use std::fmt;
use std::io::Write;
use std::sync::Mutex;

use nix::errno::Errno;

use crate::Failure;

/// The option that every binary has.
#[derive(clap::Args, Debug, Clone, Copy)]
pub struct ExplainOptions {
    /// Tell on standard error what is asked of the kernel, and why
    #[arg(long)]
    explain: bool,
}

impl ExplainOptions {
    /// Whether it is among these words, before one of `verbs` or among the options right behind it: for what is done before
    /// they are understood (step 7). Further behind it could be the command's.
    pub fn among(words: impl IntoIterator<Item = std::ffi::OsString>, verbs: &[&str]) -> ExplainOptions {
        let mut is_behind = false;
        let is_ours = |word: &std::ffi::OsString| {
            let may_be = !is_behind || word.as_encoded_bytes().starts_with(b"-");
            is_behind |= verbs.iter().any(|verb| word == *verb);
            may_be
        };
        ExplainOptions { explain: words.into_iter().skip(1).take_while(is_ours).any(|word| word == "--explain") }
    }

    /// Begins the narration, if it is asked for, with `who` as the speaker of each line.
    pub fn begin(self, who: &'static str) {
        let mut narrator = NARRATOR.lock().expect("one thread, no panic inside");
        *narrator = Narrator { on: self.explain, who, purpose: None, held: None };
    }
}

/// Which process speaks, the purpose that the next call will print first, and lines that wait.
struct Narrator {
    on: bool,
    who: &'static str,
    purpose: Option<&'static str>,
    held: Option<String>,
}

static NARRATOR: Mutex<Narrator> = Mutex::new(Narrator { on: false, who: "", purpose: None, held: None });

impl Narrator {
    /// One line, one write: lines of parent and child never mix. A closed standard error is no reason to stop.
    fn line(&mut self, mark: &str, text: fmt::Arguments<'_>) {
        let line = format!("{:<6} {mark}{text}\n", self.who);
        match &mut self.held {
            Some(held) => held.push_str(&line),
            None => drop(std::io::stderr().write_all(line.as_bytes())),
        }
    }

    fn call(&mut self, text: fmt::Arguments<'_>) {
        if let Some(purpose) = self.purpose.take() {
            self.line("> ", format_args!("{purpose}"));
        }
        self.line("    ", text);
    }
}

fn when_on(tell: impl FnOnce(&mut Narrator)) {
    let mut narrator = NARRATOR.lock().expect("one thread, no panic inside");
    if narrator.on {
        tell(&mut narrator);
    }
}

/// Says in plain words why the next calls are made. It is printed with the first of them, or never.
pub fn purpose(text: &'static str) {
    when_on(|narrator| narrator.purpose = Some(text));
}

/// Says at once why we wait: whether a call follows depends on what has arrived already, and the story must not.
pub fn purpose_now(text: &'static str) {
    when_on(|narrator| {
        narrator.purpose = None;
        narrator.line("> ", format_args!("{text}"));
    });
}

/// Gives the rest of the narration another voice: a new process speaks for itself.
pub fn speak_as(who: &'static str) {
    when_on(|narrator| {
        narrator.who = who;
        narrator.purpose = None;
    });
}

/// Keeps lines back from now on: another process speaks, and ours would fall into its words.
pub fn hold() {
    when_on(|narrator| narrator.held = Some(String::new()));
}

/// Prints what was kept back.
pub fn release() {
    when_on(|narrator| drop(narrator.held.take().map(|held| std::io::stderr().write_all(held.as_bytes()))));
}

/// Tells of a call before it is made: one that does not return, or that lets another process go on.
pub fn announce(text: fmt::Arguments<'_>) {
    when_on(|narrator| narrator.call(text));
}

// ANCHOR: call
/// Tells of a call that was made, and turns the kernel's refusal into a [`Failure`] that names it.
pub fn call<T: Outcome>(text: fmt::Arguments<'_>, result: Result<T, Errno>) -> Result<T, Failure> {
    when_on(|narrator| match &result {
        Ok(value) => narrator.call(format_args!("{text} = {}", value.show())),
        Err(errno) => narrator.call(format_args!("{text} = {errno:?}")),
    });
    result.map_err(|errno| Failure::call(text, errno))
}
// ANCHOR_END: call

/// How the result of a call is told.
pub trait Outcome {
    /// The text behind the `=`.
    fn show(&self) -> String;
}

impl Outcome for () {
    fn show(&self) -> String {
        "0".to_owned()
    }
}

impl Outcome for usize {
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Outcome for std::path::PathBuf {
    fn show(&self) -> String {
        format!("{self:?}")
    }
}

impl Outcome for crate::Fd {
    fn show(&self) -> String {
        self.to_string()
    }
}

impl<A: Outcome, B: Outcome> Outcome for (A, B) {
    fn show(&self) -> String {
        format!("{} {}", self.0.show(), self.1.show())
    }
}
