//! The checks: what happened to a real runtime once, and whether it can happen to this one.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::case::{Case, Output};
use crate::sandbox::Sandbox;

mod descriptors;
mod devices;
mod input;
mod last_exec;
mod lifecycle;
mod names;
mod neighbours;
mod own_binary;
mod places;
mod proc_files;
mod resources;
mod rights;
mod strangers;
mod terminal;

/// One check.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// How the table calls it.
    pub name: &'static str,
    /// The advisory, or what runtimes call the matter.
    pub known_as: &'static str,
    /// What it does.
    pub tries: &'static str,
    run: fn(&Case) -> Verdict,
}

/// What came of it, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is held, or refused with nothing left.
    Safe(String),
    /// It got through, or something was left.
    Unsafe(String),
    /// It cannot be tried here.
    NotApplicable(String),
}

pub use Verdict::{NotApplicable, Safe, Unsafe};

impl Verdict {
    /// As the table has it.
    pub fn word(&self) -> &'static str {
        match self {
            Safe(_) => "SAFE",
            Unsafe(_) => "UNSAFE",
            NotApplicable(_) => "n/a",
        }
    }

    /// The reason.
    pub fn why(&self) -> &str {
        let (Safe(why) | Unsafe(why) | NotApplicable(why)) = self;
        why
    }
}

/// All of them, family by family.
pub fn all() -> Vec<Check> {
    let families: [&[Check]; 14] = [
        &descriptors::CHECKS,
        &last_exec::CHECKS,
        &own_binary::CHECKS,
        &places::CHECKS,
        &proc_files::CHECKS,
        &devices::CHECKS,
        &rights::CHECKS,
        &neighbours::CHECKS,
        &strangers::CHECKS,
        &names::CHECKS,
        &input::CHECKS,
        &terminal::CHECKS,
        &lifecycle::CHECKS,
        &resources::CHECKS,
    ];
    families.concat()
}

impl Check {
    /// Runs it, and looks at what is left. A refusal with something left is no refusal.
    pub fn judge(&self, sandbox: &Sandbox) -> Verdict {
        let case = Case::new(sandbox);
        let before = case.trace();
        let verdict = catch_unwind(AssertUnwindSafe(|| (self.run)(&case)))
            .unwrap_or_else(|_| Unsafe("the check itself came to grief, see above".to_owned()));
        let left = case.left_since(&before);
        case.clear();
        match verdict {
            Safe(_) if !left.is_empty() => {
                Unsafe(format!("{} things changed: {}", left.len(), left[..left.len().min(2)].join(", ")))
            }
            verdict => verdict,
        }
    }
}

/// Judges what a script inside printed: ESCAPED, and what it reached; `tried` when it came to its end.
pub fn judge(output: &Output) -> Verdict {
    let escaped = output.text.lines().find(|line| line.contains("ESCAPED"));
    match escaped {
        Some(line) => Unsafe(line.trim().to_owned()),
        None if output.text.contains("panicked at") || output.text.contains("goroutine ") => crashed(output),
        // A script that is wrong is no refusal: an apostrophe once hid a way out.
        None if output.text.contains("syntax error") => {
            Unsafe(format!("the probe itself does not run: {}", output.line()))
        }
        None if output.code == 124 => Unsafe("it hangs".to_owned()),
        None if output.text.lines().any(|line| line == "tried") => Safe("held".to_owned()),
        None if (129..160).contains(&output.code) => crashed(output), // 255 is an ordinary failure of exec
        None if output.code != 0 => Safe(format!("refused: {}", output.line())),
        None => Unsafe(format!("neither tried nor refused: {}", output.line())),
    }
}

/// Judges what a runtime must not run at all.
pub fn must_refuse(output: &Output, otherwise: String) -> Verdict {
    match judge(output) {
        Safe(why) if why == "held" => Unsafe(otherwise),
        verdict => verdict,
    }
}

fn crashed(output: &Output) -> Verdict {
    Unsafe(format!("the runtime crashed ({}): {}", output.code, output.line()))
}

/// The worst of several: what is unsafe, else what cannot be tried, else safe.
pub fn worst(verdicts: impl IntoIterator<Item = Verdict>) -> Verdict {
    let mut worst = Safe("held".to_owned());
    for verdict in verdicts {
        match (&worst, &verdict) {
            (_, Unsafe(_)) => return verdict,
            (Safe(_), _) => worst = verdict,
            _ => {}
        }
    }
    worst
}

/// Safe if it holds, else unsafe.
pub fn safe_if(holds: bool, safe: &str, otherwise: impl Into<String>) -> Verdict {
    if holds { Safe(safe.to_owned()) } else { Unsafe(otherwise.into()) }
}
