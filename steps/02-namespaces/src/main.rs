//! Step 2, the launcher so far: a command in another root directory and in namespaces of its own.

use std::convert::Infallible;
use std::process::ExitCode;

use anyhow::Result;
use chroot::Command;
use clap::Parser;

/// Run a command that sees no process, name, memory segment or mount of the host's
#[derive(Parser, Debug)]
#[command(name = "namespaces", version)]
struct Options {
    #[command(flatten)]
    explain: kernel::ExplainOptions,
    #[command(flatten)]
    namespaces: namespaces::NamespaceOptions,
    #[command(flatten)]
    command: chroot::CommandOptions,
}

fn main() -> ExitCode {
    kernel::launcher::run(parent)
}

// ANCHOR: launch
fn parent(options: Options) -> Result<ExitCode> {
    options.explain.begin("parent");
    chroot::close_inherited()?;
    let command = &options.command.check()?;
    options.namespaces.check()?;
    options.namespaces.set_clocks()?;
    let child = namespaces::spawn(options.namespaces.flags(), || child(&options, command))?;
    child.open_gate()?;
    child.read_report()?;
    child.wait()
}

fn child(options: &Options, command: &Command) -> Result<Infallible> {
    namespaces::make_mounts_private()?;
    options.namespaces.set_hostname()?;
    chroot::enter(&command.rootfs)?;
    options.namespaces.become_command(|| chroot::exec(command))
}
// ANCHOR_END: launch
