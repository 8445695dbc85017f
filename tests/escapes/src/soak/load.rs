//! Many: alive together, started at once, and come and gone.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, ensure};

use crate::bundle::Bundle;
use crate::case::{Case, processes, text, wait};
use crate::sandbox::Sandbox;

/// How to do it.
#[derive(clap::Args)]
pub struct Options {
    /// The runtime.
    #[arg(long, value_name = "PATH")]
    pub runtime: PathBuf,
    /// So many alive together, started one after another; 0 leaves it out.
    #[arg(long, default_value_t = 1000)]
    alive: usize,
    /// So many started at once.
    #[arg(long, default_value_t = 64)]
    at_once: usize,
    /// So many run and gone, one after another.
    #[arg(long, default_value_t = 10_000)]
    gone: usize,
    /// The last start of those alive may cost this many times the first.
    #[arg(long, default_value_t = 1.3)]
    at_most: f64,
}

/// With this many containers; the last number is `at_most`.
type Stage = fn(&Case, usize, f64) -> Result<()>;

/// All three; nothing may be left of any.
pub fn run(sandbox: &Sandbox, options: &Options) -> Result<()> {
    let stages: [(usize, Stage); 3] = [(options.alive, alive), (options.at_once, at_once), (options.gone, gone)];
    for (count, stage) in stages.into_iter().filter(|(count, _)| *count > 0) {
        let case = Case::new(sandbox);
        let before = case.trace();
        let begin = Instant::now();
        let result = stage(&case, count, options.at_most);
        println!("    took {:.0} s", begin.elapsed().as_secs_f64());
        let left = case.left_since(&before);
        case.clear();
        result?;
        ensure!(left.is_empty(), "{} things are left: {}", left.len(), left[0]);
    }
    Ok(())
}

/// Bundles that share one root filesystem, each with a cgroup of its own; their ids.
fn bundles(case: &Case, count: usize, args: &[&str]) -> Vec<(String, PathBuf)> {
    let mut first = case.bundle();
    let rootfs = text(&first.rootfs("/"));
    first.args(args).set("/root/path", rootfs);
    let place = |_| {
        let folder = case.folder.join(case.name("light"));
        std::fs::create_dir(&folder).expect("the sandbox is ours");
        let mut bundle = Bundle { folder, config: first.config.clone() };
        (case.place(&mut bundle), bundle.folder)
    };
    (0..count).map(place).collect()
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// What the last starts cost, and what those cost that have few beside them: the first, and as many more when all others are
/// gone. So a machine that is slower now than it was then, or that had to warm up, is not taken for growth.
fn alive(case: &Case, count: usize, at_most: f64) -> Result<()> {
    let bundles = bundles(case, count, &["sleep", "600"]);
    let some = (count / 10).clamp(1, 50);
    let times = start(case, &bundles)?;
    let sleepers = processes().iter().filter(|(_, name)| name == "sleep").count();
    ensure!(sleepers == count, "only {sleepers} of {count} live");
    let (first, last) = (median(times[..some].to_vec()), median(times[count - some..].to_vec()));
    delete(case, &bundles)?;
    let again = median(start(case, &bundles[..some])?);
    delete(case, &bundles[..some])?;
    let growth = last / f64::midpoint(first, again);
    println!(
        "{count} alive: a start costs {first:.1} ms at first, {last:.1} ms at last, {again:.1} ms when they are gone: \
         {growth:.2} times (medians of {some})"
    );
    ensure!(growth <= at_most, "the last start costs {growth:.2} times the first");
    Ok(())
}

/// Starts them one after another; how many milliseconds each takes.
fn start(case: &Case, bundles: &[(String, PathBuf)]) -> Result<Vec<f64>> {
    let one = |(id, folder): &(String, PathBuf)| {
        let begin = Instant::now();
        let output = case.call(&["run", "--detach", "--bundle", &text(folder), id]);
        ensure!(output.code == 0, "{id} does not start: {}", output.line());
        Ok(begin.elapsed().as_secs_f64() * 1000.0)
    };
    bundles.iter().map(one).collect()
}

fn delete(case: &Case, bundles: &[(String, PathBuf)]) -> Result<()> {
    bundles.iter().try_for_each(|(id, _)| {
        let output = case.call(&["delete", "--force", id]);
        ensure!(output.code == 0, "{id} cannot be deleted: {}", output.line());
        Ok(())
    })
}

fn at_once(case: &Case, count: usize, _: f64) -> Result<()> {
    let bundles = bundles(case, count, &["true"]);
    let begin = Instant::now();
    let run = |(id, folder): &(String, PathBuf)| {
        case.start(case.command(&["run", "--bundle", &text(folder), id]), &case.folder.join(format!("{id}.output")))
    };
    let mut children: Vec<_> = bundles.iter().map(run).collect();
    let ended = children.iter_mut().map(wait).filter(|code| *code == 0).count();
    println!("{count} at once: {ended} end well, in {:.0} ms", begin.elapsed().as_secs_f64() * 1000.0);
    ensure!(ended == count, "{} of {count} fail", count - ended);
    Ok(())
}

fn gone(case: &Case, count: usize, _: f64) -> Result<()> {
    let (id, folder) = bundles(case, 1, &["true"]).remove(0);
    let descriptors = || std::fs::read_dir("/proc/self/fd").map(Iterator::count).unwrap_or_default();
    let before = descriptors();
    let begin = Instant::now();
    for number in 1..=count {
        let output = case.call(&["run", "--bundle", &text(&folder), &id]);
        ensure!(output.code == 0, "number {number} fails: {}", output.line());
    }
    println!("{count} run and gone: {:.1} ms each", begin.elapsed().as_secs_f64() * 1000.0 / count as f64);
    ensure!(descriptors() == before, "descriptors are left open");
    Ok(())
}
