//! How long a profile takes to become a filter, and how long the filter is.
//!
//! `cargo run --release -p privileges --example filter [PROFILE [FILE]]`; without PROFILE the default, with Docker's
//! capabilities. The program goes to FILE, as the kernel takes it: eight bytes for each instruction.

use std::time::Instant;

use kernel::sys::seccomp::Instruction;
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
    if let Some(file) = std::env::args_os().nth(2) {
        std::fs::write(file, bytes(filter.program()))?;
    }

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

fn bytes(program: &[Instruction]) -> Vec<u8> {
    let whole = program.iter().map(|step| {
        let [code, number] = [step.code.to_ne_bytes().to_vec(), step.number.to_ne_bytes().to_vec()];
        [code, vec![step.when_true, step.when_false], number].concat()
    });
    whole.flatten().collect()
}
