//! Step 4, the launcher so far: a command in a cell with a network of its own.

use std::convert::Infallible;
use std::process::ExitCode;

use anyhow::Result;
use chroot::Command;
use clap::Parser;
use network::Network;
use pivot_root::Mounts;

/// Run a command in a cell, with no network, the host's, or one plugged into a bridge
#[derive(Parser, Debug)]
#[command(name = "network", version)]
struct Options {
    #[command(flatten)]
    explain: kernel::ExplainOptions,
    #[command(flatten)]
    namespaces: namespaces::NamespaceOptions,
    #[command(flatten)]
    mounts: pivot_root::MountOptions,
    #[command(flatten)]
    network: network::NetworkOptions,
    #[command(flatten)]
    prune: network::PruneOptions,
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
    network: &'a Network,
}

// ANCHOR: launch
fn parent(options: Options) -> Result<ExitCode> {
    options.explain.begin("parent");
    chroot::close_inherited()?;
    options.namespaces.seal_init()?;
    if options.prune.is_given() {
        network::prune()?.iter().for_each(|line| println!("{line}"));
        return Ok(ExitCode::SUCCESS);
    }
    let command = &options.command.check()?;
    let mut mounts = options.mounts.check()?;
    options.namespaces.check()?;
    let mut network = options.network.check()?.prepare()?;
    mounts.add_files(network.files(&options.namespaces.hostname()?));
    options.namespaces.set_clocks()?;
    let flags = options.namespaces.flags() | network.flags();
    let cell = Cell { options: &options, command, mounts: &mounts, network: &network };
    let child = namespaces::spawn(flags, || child(&cell))?;
    network.plug(&child)?;
    child.open_gate()?;
    child.read_report()?;
    child.wait()
}

fn child(cell: &Cell) -> Result<Infallible> {
    namespaces::make_mounts_private()?;
    cell.options.namespaces.set_hostname()?;
    cell.network.configure_interfaces()?;
    let root = pivot_root::prepare(&cell.command.rootfs, cell.mounts)?;
    root.pivot()?;
    root.attach_mounts()?;
    namespaces::close_descriptors()?;
    cell.options.namespaces.become_command(|| chroot::exec(cell.command))
}
// ANCHOR_END: launch
