//! The inmate: a process that tells what it can see, and tries to get out.
//!
//! ```text
//! inmate report           what a process in here can see and do
//! inmate attack           the list of attacks
//! inmate attack NAME      try one: ESCAPED (exit status 1), HELD (0), or n/a (2)
//! inmate orphans          leave three children behind, and see who must reap them
//! inmate sentinel COMMAND on the host: put up what some attacks look for, run the command, take it down again
//! ```
//!
//! Attacks are harmless when they succeed: they prove reach, and destroy nothing.

use std::process::ExitCode;

mod attack;
mod orphans;
mod report;
mod sentinel;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["report"] => report::print(),
        ["attack"] => attack::list(),
        ["attack", name] => attack::run(name),
        ["orphans"] => orphans::leave(),
        ["sentinel", ref command @ ..] if !command.is_empty() => sentinel::run(command),
        [attack::SETUID_PROBE] => attack::setuid_probe(),
        _ => {
            eprintln!("inmate: nothing to do\nhint: inmate report | attack [NAME] | orphans | sentinel COMMAND");
            ExitCode::from(125)
        }
    }
}
