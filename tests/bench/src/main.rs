//! Times two commands in turn, A B A B ..., so that a machine whose speed drifts does so for both, and prints the
//! medians and their ratio.
//!
//! ```text
//! bench RUNS AT_MOST -- COMMAND A -- COMMAND B
//! ```
//!
//! Exit status 1 when A takes more than AT_MOST times as long as B.

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
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..=runs {
        for (command, times) in [a, b].iter().zip(&mut times) {
            let time = time(command);
            times.extend((round > 0).then_some(time)); // the first round warms the caches
        }
    }
    let [a_time, b_time] = times.map(median);
    let ratio = a_time / b_time;
    println!("{:>8.2} ms  {}", a_time, a[0]);
    println!("{:>8.2} ms  {}", b_time, b[0]);
    println!("{ratio:>8.2}     ratio of the medians of {runs} runs each, in turn; at most {at_most} is wanted");
    if ratio <= at_most { ExitCode::SUCCESS } else { ExitCode::from(1) }
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
