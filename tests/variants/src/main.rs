//! variants: launchers and a runtime with one wall taken out.
//!
//! ```text
//! variants list              the holes, and what must see each
//! variants check             does each of them still fit its function?
//! variants show NAME         the change, as a diff
//! variants build NAME        builds it, and prints where it is
//! variants run [NAME...]     builds each, and demands ESCAPED, UNSAFE or RED of all that must see it
//! ```
//!
//! They are made in a copy of the repository, target/variants, and are never shipped.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use variants::holes::{self, Hole};
use variants::proof::{self, Probe};
use variants::tree::Tree;

#[derive(Parser)]
#[command(about = "Takes out one wall at a time, to show that each check can see")]
struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// The holes, and what must see each.
    List,
    /// Whether each still fits its function.
    Check,
    /// The change, as a diff.
    Show {
        /// The hole.
        name: String,
    },
    /// Builds it, and prints where it is.
    Build {
        /// The hole.
        name: String,
    },
    /// Builds each, and demands ESCAPED, UNSAFE or RED of all that must see it.
    Run {
        /// Only every so many, beginning with the one that the number of the commit chooses.
        #[arg(long, value_name = "COUNT", conflicts_with = "names")]
        sample: Option<usize>,
        /// Only these.
        names: Vec<String>,
    },
    /// Within the namespaces that `run` has made: an attack by a launcher.
    #[command(hide = true)]
    Inside {
        /// The attack.
        attack: String,
        /// The launcher and its options.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
}

fn main() -> ExitCode {
    let done = match Options::parse().verb {
        Verb::List => {
            list();
            Ok(())
        }
        Verb::Check => check(),
        Verb::Show { name } => find(&name).and_then(|hole| Tree::copy()?.show(hole)),
        Verb::Build { name } => find(&name).and_then(|hole| {
            println!("{}", Tree::copy()?.build(hole)?.display());
            Ok(())
        }),
        Verb::Run { sample, names } => chosen(sample, &names).and_then(|holes| run(&holes)),
        Verb::Inside { attack, command } => proof::inside(&attack, &command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("variants: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn find(name: &str) -> Result<&'static Hole> {
    match holes::all().find(|hole| hole.name == name) {
        Some(hole) => Ok(hole),
        None => bail!("no hole named {name}: variants list"),
    }
}

fn list() {
    for hole in holes::all() {
        let seen_by = hole.seen_by.iter().map(Probe::to_string).collect::<Vec<_>>().join(", ");
        println!("{:<30}{:<16}{seen_by}", hole.name, hole.package);
    }
}

fn check() -> Result<()> {
    let tree = Tree::here();
    let wrong: Vec<String> =
        holes::all().filter_map(|hole| tree.changed(hole).err()).map(|e| format!("{e:#}")).collect();
    if wrong.is_empty() {
        println!("{} holes fit", holes::all().count());
        return Ok(());
    }
    bail!("{} of {} holes do not fit any more:\n{}", wrong.len(), holes::all().count(), wrong.join("\n"))
}

fn chosen(sample: Option<usize>, names: &[String]) -> Result<Vec<&'static Hole>> {
    if let Some(count) = sample {
        return proof::sample(count);
    }
    if names.is_empty() {
        return Ok(holes::all().collect());
    }
    names.iter().map(|name| find(name)).collect()
}

fn run(holes: &[&'static Hole]) -> Result<()> {
    let tree = Tree::copy()?;
    let mut blind = Vec::new();
    for hole in holes {
        let program = match tree.build(hole) {
            Ok(program) => program,
            Err(error) => {
                eprintln!("{error:#}");
                blind.push(format!("{}: not built", hole.name));
                continue;
            }
        };
        for probe in hole.seen_by {
            let (word, why) =
                probe.try_on(hole.package, &program).unwrap_or_else(|error| ("n/a".into(), error.to_string()));
            println!("{:<30}{:<50}{word:<8}{}", hole.name, probe.to_string(), why.lines().next().unwrap_or_default());
            if !["UNSAFE", "ESCAPED", "RED"].contains(&&*word) {
                blind.push(format!("{} by {probe}", hole.name));
            }
        }
    }
    if blind.is_empty() { Ok(()) } else { bail!("{} were not seen: {}", blind.len(), blind.join(", ")) }
}
