//! Step 3, the launcher so far: a command in namespaces of its own, with another root mount.

use std::convert::Infallible;
use std::process::ExitCode;

use anyhow::Result;
use chroot::Command;
use clap::Parser;
use pivot_root::Mounts;

/// Run a command in a root filesystem of its own, from which no path leads out
#[derive(Parser, Debug)]
#[command(name = "pivot-root", version)]
struct Options {
    #[command(flatten)]
    explain: kernel::ExplainOptions,
    #[command(flatten)]
    namespaces: namespaces::NamespaceOptions,
    #[command(flatten)]
    mounts: pivot_root::MountOptions,
    #[command(flatten)]
    command: chroot::CommandOptions,
}

fn main() -> ExitCode {
    kernel::launcher::run(parent)
}

/// What the child needs of what its parent has checked and made.
struct Cell<'a> {
    options: &'a Options,
    command: &'a Command,
    mounts: &'a Mounts,
}

// ANCHOR: launch
fn parent(options: Options) -> Result<ExitCode> {
    options.explain.begin("parent");
    chroot::close_inherited()?;
    options.namespaces.seal_init()?;
    let command = &options.command.check()?;
    let mounts = options.mounts.check()?;
    options.namespaces.check()?;
    options.namespaces.set_clocks()?;
    let cell = Cell { options: &options, command, mounts: &mounts };
    let child = namespaces::spawn(options.namespaces.flags(), || child(&cell))?;
    child.open_gate()?;
    child.read_report()?;
    child.wait()
}

fn child(cell: &Cell) -> Result<Infallible> {
    namespaces::make_mounts_private()?;
    cell.options.namespaces.set_hostname()?;
    let root = pivot_root::prepare(&cell.command.rootfs, cell.mounts)?;
    root.pivot()?;
    root.attach_mounts()?;
    namespaces::close_descriptors()?;
    cell.options.namespaces.become_command(|| chroot::exec(cell.command))
}
// ANCHOR_END: launch
