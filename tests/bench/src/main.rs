//! Times two commands in turn, A B A B ..., so that a machine whose speed drifts does so for both, and prints the
//! medians and their ratio. Either can be a chain of commands, which are timed one by one.
//!
//! ```text
//! bench RUNS AT_MOST -- COMMAND A [+ COMMAND A2 ...] -- COMMAND B [+ COMMAND B2 ...]
//! ```
//!
//! Exit status 1 when one of A takes more than AT_MOST times as long as its like of B.

use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let parts: Vec<&[String]> = words.split(|word| word == "--").collect();
    let [[runs, at_most], a, b] = parts[..] else {
        eprintln!("bench: two commands are needed\nhint: bench RUNS AT_MOST -- COMMAND A -- COMMAND B");
        return ExitCode::from(125);
    };
    let (Ok(runs), Ok(at_most)) = (runs.parse::<usize>(), at_most.parse::<f64>()) else {
        eprintln!("bench: {runs} and {at_most} are not a count and a ratio");
        return ExitCode::from(125);
    };
    let chains = [a, b].map(|side| side.split(|word| word == "+").collect::<Vec<_>>());
    let mut times = chains.clone().map(|chain| vec![Vec::new(); chain.len()]);
    for round in 0..=runs {
        for (chain, times) in chains.iter().zip(&mut times) {
            for (command, times) in chain.iter().zip(times) {
                let time = time(command);
                times.extend((round > 0).then_some(time)); // the first round warms the caches
            }
        }
    }
    let [a_times, b_times] = times.map(|chain| chain.into_iter().map(median).collect::<Vec<_>>());
    let mut worst = 0.0;
    for (((a, a_time), b), b_time) in chains[0].iter().zip(a_times).zip(&chains[1]).zip(b_times) {
        let ratio = a_time / b_time;
        println!("{a_time:>8.2} ms  {}", shown(a));
        println!("{b_time:>8.2} ms  {}", shown(b));
        println!("{ratio:>8.2}     ratio of the medians of {runs} runs each, in turn; at most {at_most} is wanted");
        worst = f64::max(worst, ratio);
    }
    if worst <= at_most { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// A command in short: the program's own name, and its words.
fn shown(command: &[String]) -> String {
    let program = command[0].rsplit('/').next().unwrap_or_default();
    [&[program.to_owned()], &command[1..]].concat().join(" ")
}

/// How long one run takes, in milliseconds.
fn time(command: &[String]) -> f64 {
    let begin = Instant::now();
    let status = Command::new(&command[0]).args(&command[1..]).stdin(Stdio::null()).stdout(Stdio::null()).status();
    let taken = begin.elapsed().as_secs_f64() * 1000.0;
    assert!(status.is_ok_and(|status| status.success()), "{command:?} fails: nothing to time");
    taken
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
