//! Step 7, the runtime: a verb, and what it does.

use std::process::ExitCode;

use anyhow::Result;
use cellblock::log::Log;
use cellblock::own_program;
use cellblock::verbs::Options;

/// The program lives for a moment only: `sys::arena` says why that suffices.
#[global_allocator]
static MEMORY: cellblock::sys::arena::Arena = cellblock::sys::arena::Arena::new();

fn main() -> ExitCode {
    let mut log = Log::default();
    match run(&mut log) {
        Ok(code) => code,
        Err(error) => {
            let failure = kernel::Failure::from_error(&error);
            log.tell(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(log: &mut Log) -> Result<ExitCode> {
    if own_program::is_needed_for(std::env::args_os()) {
        kernel::ExplainOptions::among(std::env::args_os(), &own_program::VERBS).begin("parent");
        own_program::go_on_sealed()?;
    }
    let options = Options::parse_or_exit();
    *log = options.log();
    log.begin();
    options.run()
}
