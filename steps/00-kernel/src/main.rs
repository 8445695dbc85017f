//! Step 0: one system call, made, and perhaps refused. `--explain` shows both.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use kernel::{Errno, Remedy, purpose, sys};

/// Enter a directory, and say where we are then
#[derive(Parser, Debug)]
#[command(name = "kernel", version)]
struct Options {
    #[command(flatten)]
    explain: kernel::ExplainOptions,

    /// The directory that this process moves to; the shell that started it stays where it is
    #[arg(default_value = "/")]
    directory: PathBuf,
}

fn main() -> ExitCode {
    kernel::launcher::run(enter)
}

// ANCHOR: enter
fn enter(options: Options) -> Result<ExitCode> {
    options.explain.begin("kernel");
    let directory = &options.directory;
    purpose("the directory that relative paths begin at");
    sys::process::chdir(directory)
        .hint_on(Errno::ENOENT, "nothing has that name: ls shows what is there")
        .hint_on(Errno::ENOTDIR, "it is a file: only a directory can be entered")
        .hint_on(Errno::EACCES, "permission to enter it is lacking: ls -ld shows the permissions")
        .with_context(|| format!("cannot enter {}", directory.display()))?;
    let place = sys::process::getcwd()?;
    // Not println!: it panics where standard output refuses.
    writeln!(std::io::stdout(), "{}", place.display()).context("cannot print the answer")?;
    Ok(ExitCode::SUCCESS)
}
// ANCHOR_END: enter
