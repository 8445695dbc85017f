//! How long a profile takes to become a filter, and how long the filter is.
//!
//! `cargo run --release -p privileges --example filter [PROFILE]`; without PROFILE the default, with Docker's
//! capabilities.

use std::time::Instant;

use privileges::seccomp::{Filter, Profile, default_profile};

fn main() -> anyhow::Result<()> {
    const RUNS: u32 = 1000;
    let path = std::env::args_os().nth(1);
    let holds = |name: &str| name == "CAP_SYS_CHROOT";
    let profile = || match &path {
        Some(path) => Profile::read(path.as_ref()),
        None => Ok(default_profile(holds)),
    };
    let begin = Instant::now();
    let filter = Filter::new(&profile()?, holds)?;
    println!("{} instructions; the first time {:?}", filter.program().len(), begin.elapsed());

    let begin = Instant::now();
    for _ in 0..RUNS {
        profile()?;
    }
    println!("to read it:    {:?}", begin.elapsed() / RUNS);
    let profile = profile()?;
    let begin = Instant::now();
    for _ in 0..RUNS {
        Filter::new(&profile, holds)?;
    }
    println!("to compile it: {:?}", begin.elapsed() / RUNS);
    Ok(())
}
