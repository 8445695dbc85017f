//! Writes the man pages and the shells' completions into a directory, all from the definition of the options:
//!
//! ```sh
//! cargo run -p cellblock --example pages -- target/pages
//! man -l target/pages/cellblock-run.1
//! . target/pages/cellblock.bash    # then: cellblock run --<Tab>
//! ```
//!
//! It is no verb, so that none of it is in the runtime, which copies itself at each start.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap_complete::Shell;

fn main() -> ExitCode {
    let directory = std::env::args_os().nth(1).map(PathBuf::from);
    let written = directory.context("which directory? such as target/pages").and_then(|directory| {
        std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        write(directory)
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pages: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn write(directory: PathBuf) -> Result<()> {
    let definition = cellblock::verbs::usage::whole();
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        clap_complete::generate_to(shell, &mut definition.clone(), "cellblock", &directory)?;
    }
    Ok(clap_mangen::generate_to(definition.disable_help_subcommand(true), directory)?)
}
