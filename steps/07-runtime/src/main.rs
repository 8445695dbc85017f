//! Step 7, the runtime: a verb, and what it does.

use std::process::ExitCode;

fn main() -> ExitCode {
    let options = cellblock::verbs::Options::parse_or_exit();
    let log = options.log();
    log.begin();
    match options.run() {
        Ok(code) => code,
        Err(error) => {
            let failure = kernel::Failure::from_error(&error);
            log.tell(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}
