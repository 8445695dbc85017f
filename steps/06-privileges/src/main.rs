//! Step 6, the launcher so far: a command in a cell, with few privileges.

use std::convert::Infallible;
use std::process::ExitCode;

use anyhow::Result;
use cgroups::Group;
use chroot::Command;
use clap::Parser;
use network::Network;
use pivot_root::Mounts;
use privileges::{DescriptorChannel, Privileges, UserCommand};

/// Run a command in a cell whose root has no rights outside
#[derive(Parser, Debug)]
#[command(name = "privileges", version)]
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
    privileges: privileges::PrivilegeOptions,
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
    privileges: &'a Privileges,
    channel: &'a DescriptorChannel,
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
    let privileges = &options.privileges.check()?;
    let group = &Group::make_or_stay(&limits)?;
    mounts.add_file_systems(group.file_systems());
    let mut network = network.prepare()?;
    mounts.add_files(network.files(&options.namespaces.hostname()?));
    options.namespaces.set_clocks()?;
    let channel = &DescriptorChannel::with_dev(privileges.id_maps.as_ref())?;
    let flags = options.namespaces.flags() | network.flags() | privileges.flags();
    let cell = Cell { options: &options, command, mounts: &mounts, network: &network, group, privileges, channel };
    let child = namespaces::spawn_into(flags, group.entrance(), || child(&cell))?;
    privileges.set_up_child(&child, channel, &command.rootfs, &mounts)?;
    network.plug(&child)?;
    child.open_gate()?;
    child.read_report()?;
    let code = child.wait()?;
    group.tell_end();
    Ok(code)
}

fn child(cell: &Cell) -> Result<Infallible> {
    cell.group.join()?;
    cell.privileges.take_on_root()?;
    namespaces::make_mounts_private()?;
    cell.options.namespaces.set_hostname()?;
    cell.network.configure_interfaces()?;
    let sources = cell.privileges.sources(cell.channel, &cell.command.rootfs, cell.mounts)?;
    let root = pivot_root::prepare_from(sources, cell.mounts)?;
    root.pivot()?;
    root.attach_mounts()?;
    namespaces::close_descriptors()?;
    let confinement = cell.privileges.confinement()?;
    let mut command = UserCommand::new(cell.command, confinement.user.home.as_deref())?;
    command.go_early()?; // as another user the process may have no right to
    confinement.apply(|| command.look_for_program())?; // a filter need not let it look
    cell.options.namespaces.become_command(|| command.exec())
}
// ANCHOR_END: launch
