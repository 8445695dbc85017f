//! A kill at every moment: whatever the runtime was doing, `delete --force` finds it on disk and ends it.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::bundle::Bundle;
use crate::case::{Case, text};
use crate::sandbox::Sandbox;
use crate::soak::sample;

/// The verbs that change something.
const VERBS: [&str; 4] = ["create", "start", "exec", "delete"];

/// How to do it.
#[derive(clap::Args)]
pub struct Options {
    /// The runtime.
    #[arg(long, value_name = "PATH")]
    pub runtime: PathBuf,
    /// The last moment, in milliseconds.
    #[arg(long, default_value_t = 20.0)]
    until: f64,
    /// From one moment to the next, in milliseconds.
    #[arg(long, default_value_t = 0.2)]
    step: f64,
    /// So many of the moments only, evenly spread.
    #[arg(long, value_name = "COUNT")]
    sample: Option<usize>,
}

/// Each verb, each moment; fails when something is left once.
pub fn run(sandbox: &Sandbox, options: &Options) -> Result<()> {
    let moments: Vec<Duration> = (0..)
        .map(|at| f64::from(at) * options.step)
        .take_while(|moment| *moment <= options.until + options.step / 2.0)
        .map(|moment| Duration::from_secs_f64(moment / 1000.0))
        .collect();
    let moments = sample(&moments, options.sample);
    let (begin, mut failed) = (Instant::now(), 0);
    for verb in VERBS {
        let faults: Vec<String> = moments.iter().filter_map(|moment| one(sandbox, verb, *moment)).collect();
        println!("{verb:<8}{} kills, {} of them leave something", moments.len(), faults.len());
        faults.iter().take(5).for_each(|fault| println!("    {fault}"));
        failed += faults.len();
    }
    println!("took {:.0} s", begin.elapsed().as_secs_f64());
    if failed > 0 { bail!("{failed} of {} kills leave something", moments.len() * VERBS.len()) } else { Ok(()) }
}

/// Kills one verb at one moment; what is left, if anything is.
fn one(sandbox: &Sandbox, verb: &str, moment: Duration) -> Option<String> {
    let case = Case::new(sandbox);
    let before = case.trace();
    let mut bundle = case.bundle();
    let id = case.place(bundle.args(&["sleep", "60"]));
    prepare(&case, verb, &bundle, &id);
    let words = match verb {
        "create" => vec!["create".to_owned(), "--bundle".to_owned(), text(&bundle.folder), id.clone()],
        "exec" => vec!["exec".to_owned(), id.clone(), "sleep".to_owned(), "60".to_owned()],
        "delete" => vec!["delete".to_owned(), "--force".to_owned(), id.clone()],
        verb => vec![verb.to_owned(), id.clone()],
    };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut child = case.start(case.command(&words), &case.folder.join("killed"));
    sleep(moment);
    let _ = child.kill().and_then(|()| child.wait());
    let deleted = case.call(&["delete", "--force", &id]);
    let left = case.left_since(&before);
    case.clear();
    let at = format!("after {:.1} ms", moment.as_secs_f64() * 1000.0);
    match (deleted.code, left.first()) {
        (0, None) => None,
        (0, Some(first)) => Some(format!("{at}: {} things are left: {first}", left.len())),
        (code, _) => Some(format!("{at}: delete --force ends with {code}: {}", deleted.line())),
    }
}

/// Brings the container to where the verb makes sense.
fn prepare(case: &Case, verb: &str, bundle: &Bundle, id: &str) {
    if verb != "create" {
        case.call(&["create", "--bundle", &text(&bundle.folder), id]);
    }
    if ["exec", "delete"].contains(&verb) {
        case.call(&["start", id]);
    }
}
