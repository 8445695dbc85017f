//! How every binary begins and ends: its options read, its failure printed, its exit code returned.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::Failure;

// ANCHOR: run
/// Reads the options, runs `parent` with them, and prints what failed, if anything did.
///
/// The exit code is what `parent` returns, or the failure's: 125 when the launcher failed (bad options too),
/// 126 when the command cannot be executed, 127 when it is not there.
pub fn run<Options: Parser>(parent: impl FnOnce(Options) -> Result<ExitCode>) -> ExitCode {
    match parse::<Options>().and_then(parent) {
        Ok(code) => code,
        Err(error) => {
            let failure = Failure::from_error(&error);
            eprint!("{}", failure.lines(Options::command().get_name()));
            ExitCode::from(failure.exit_code())
        }
    }
}
// ANCHOR_END: run

// ANCHOR: parse
/// The options, or one line that says which of them is wrong. `--help` and `--version` print and leave here.
fn parse<Options: Parser>() -> Result<Options> {
    Options::try_parse().map_err(|error| {
        if !error.use_stderr() {
            error.exit();
        }
        let message = error.render().to_string();
        let first_paragraph = message.lines().take_while(|line| !line.is_empty());
        let line = first_paragraph.map(str::trim).collect::<Vec<_>>().join(" ");
        let name = Options::command().get_name().to_owned();
        Failure::new(line.trim_start_matches("error: ")).hint(format!("{name} --help lists the options")).into()
    })
}
// ANCHOR_END: parse
