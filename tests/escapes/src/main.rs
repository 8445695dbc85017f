//! escapes: known escapes from real runtimes, and the faults they stumble over, tried on any OCI runtime.
//!
//! ```text
//! escapes --runtime /usr/sbin/runc              all checks, as a table
//! escapes --runtime /usr/bin/crun tiocsti       some of them, with the reasons
//! escapes list                                  what there is
//! escapes faults --runtime P                    each system call of `run` fails once
//! escapes kills --runtime P                     each verb is killed at every moment
//! escapes load --runtime P                      many, at once and one after another
//! ```
//!
//! Only the runtime's command line is used. Everything happens in namespaces, in memory, and below a cgroup of its own.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};

mod bundle;
mod case;
mod checks;
mod elf;
mod groups;
mod sandbox;
mod soak;

use checks::{Check, Unsafe, Verdict};

#[derive(Parser)]
#[command(about = "Tries known escapes and faults on an OCI runtime", args_conflicts_with_subcommands = true)]
struct Options {
    #[command(flatten)]
    suite: Option<Suite>,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Args)]
struct Suite {
    /// The runtime.
    #[arg(long, value_name = "PATH")]
    runtime: PathBuf,
    /// One JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
    /// Only these.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

#[derive(Subcommand)]
enum Verb {
    /// The checks that there are.
    List,
    /// Makes each system call of `run` fail once.
    Faults(soak::faults::Options),
    /// Kills create, start, exec and delete at every moment.
    Kills(soak::kills::Options),
    /// Many containers, at once and one after another.
    Load(soak::load::Options),
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match (options.verb, options.suite) {
        (Some(Verb::List), _) => Ok(list()),
        (Some(Verb::Faults(options)), _) => {
            sandbox::enter(&options.runtime.clone(), |sandbox| soak::faults::run(sandbox, &options))
        }
        (Some(Verb::Kills(options)), _) => {
            sandbox::enter(&options.runtime.clone(), |sandbox| soak::kills::run(sandbox, &options))
        }
        (Some(Verb::Load(options)), _) => {
            sandbox::enter(&options.runtime.clone(), |sandbox| soak::load::run(sandbox, &options))
        }
        (None, Some(suite)) => check(&suite),
        (None, None) => Err(anyhow::anyhow!("no runtime given: escapes --runtime PATH")),
    };
    done.unwrap_or_else(|error| {
        eprintln!("escapes: {error:#}");
        ExitCode::from(125)
    })
}

fn list() -> ExitCode {
    for Check { name, known_as, tries, .. } in checks::all() {
        println!("{name:<30}{known_as:<32}{tries}");
    }
    ExitCode::SUCCESS
}

fn check(suite: &Suite) -> Result<ExitCode> {
    let mut chosen = checks::all();
    if let Some(unknown) = suite.names.iter().find(|name| !chosen.iter().any(|check| check.name == **name)) {
        bail!("no check named {unknown}: escapes list");
    }
    chosen.retain(|check| suite.names.is_empty() || suite.names.iter().any(|name| name == check.name));
    sandbox::enter(&suite.runtime, |sandbox| {
        let verdicts = chosen.iter().map(|check| {
            let verdict = check.judge(sandbox);
            print(check, &verdict, suite.json);
            verdict
        });
        let failed = verdicts.filter(|verdict| matches!(verdict, Unsafe(_))).count();
        if failed > 0 { bail!("{failed} of {} are not safe", chosen.len()) } else { Ok(()) }
    })
}

fn print(check: &Check, verdict: &Verdict, json: bool) {
    let (word, why) = (verdict.word(), verdict.why().split_whitespace().collect::<Vec<_>>().join(" "));
    if json {
        let row = serde_json::json!({ "name": check.name, "known_as": check.known_as, "verdict": word, "why": why });
        println!("{row}");
    } else {
        println!("{:<30}{word:<8}{why}", check.name);
    }
}
