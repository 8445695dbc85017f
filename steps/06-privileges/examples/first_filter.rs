//! Runs a command under the first filter, the one that is written by hand: it refuses `chdir`.
//!
//! `cargo run -q -p privileges --example first_filter sh -c 'cd /'`

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::Context;
use kernel::sys::privilege::no_new_privileges;
use kernel::sys::seccomp::{Flags, set_filter};
use privileges::seccomp::{calls, first, listing};

fn main() -> anyhow::Result<()> {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let (program, arguments) = words.split_first().context("which command?")?;
    let machine = &calls::of_this_machine()[0];
    let filter = first::refuse(machine, machine.number("chdir").context("it has a number")?);
    print!("{}", listing(&filter));
    no_new_privileges()?;
    set_filter(&filter, Flags::default())?;
    Err(Command::new(program).args(arguments).exec().into())
}
