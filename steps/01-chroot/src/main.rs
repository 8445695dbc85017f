//! Step 1, the launcher so far: a command in another root directory.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

/// Run a command in another root directory
#[derive(Parser, Debug)]
#[command(name = "chroot", version)]
struct Options {
    #[command(flatten)]
    explain: kernel::ExplainOptions,
    #[command(flatten)]
    command: chroot::CommandOptions,
}

fn main() -> ExitCode {
    kernel::launcher::run(launch)
}

// ANCHOR: launch
fn launch(options: Options) -> Result<ExitCode> {
    options.explain.begin("chroot");
    chroot::close_inherited()?;
    let command = options.command.check()?;
    chroot::enter(&command.rootfs)?;
    match chroot::exec(&command)? {}
}
// ANCHOR_END: launch
