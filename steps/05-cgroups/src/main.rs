//! Step 5, the launcher so far: a command in a cell, with a ration of the machine.

use std::convert::Infallible;
use std::process::ExitCode;

use anyhow::Result;
use cgroups::Group;
use chroot::Command;
use clap::Parser;
use network::Network;
use pivot_root::Mounts;

/// Run a command in a cell that may use no more of the machine than you say
#[derive(Parser, Debug)]
#[command(name = "cgroups", version)]
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
    limits: cgroups::LimitOptions,
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
    group: &'a Group,
}

// ANCHOR: launch
fn parent(options: Options) -> Result<ExitCode> {
    options.explain.begin("parent");
    chroot::close_inherited()?;
    options.namespaces.seal_init()?;
    let limits = options.limits.check()?;
    if options.prune.is_given() {
        let removed = [cgroups::prune(&limits)?, network::prune()?].concat();
        removed.iter().for_each(|line| println!("{line}"));
        return Ok(ExitCode::SUCCESS);
    }
    let command = &options.command.check()?;
    let mut mounts = options.mounts.check()?;
    options.namespaces.check()?;
    let network = options.network.check()?;
    let group = &Group::make(&limits)?;
    mounts.add_file_systems(group.file_systems());
    let mut network = network.prepare()?;
    mounts.add_files(network.files(&options.namespaces.hostname()?));
    options.namespaces.set_clocks()?;
    let flags = options.namespaces.flags() | network.flags();
    let cell = Cell { options: &options, command, mounts: &mounts, network: &network, group };
    let child = namespaces::spawn_into(flags, group.entrance(), || child(&cell))?;
    network.plug(&child)?;
    child.open_gate()?;
    child.read_report()?;
    let code = child.wait()?;
    group.tell_end();
    Ok(code)
}

fn child(cell: &Cell) -> Result<Infallible> {
    cell.group.join()?;
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
