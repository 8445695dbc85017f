//! `--prune`: what a crash has left behind. A bridge without a cell, rules without a bridge.

use anyhow::Result;
use kernel::sys::netlink::Netlink;

use crate::lease;
use crate::{bridge, firewall, link, note, router};

/// The launcher's other work: removing what a crash has left.
#[derive(clap::Args, Debug)]
pub struct PruneOptions {
    /// Run no command: remove what launchers that were killed have left behind
    #[arg(long, conflicts_with = "command")]
    prune: bool,
}

impl PruneOptions {
    /// Whether no command is to be run.
    pub fn is_given(&self) -> bool {
        self.prune
    }
}

/// Removes what a crash has left behind, and returns a line for each thing that was removed.
pub fn prune() -> Result<Vec<String>> {
    let netlink = Netlink::route()?;
    let _lock = lease::lock()?;
    let mut removed = Vec::new();
    let links = link::links(&netlink)?;
    for link in &links {
        let empty = match note::subnets_of(link) {
            Some(subnets) => lease::leases(&links, link, subnets[0]).is_empty(),
            None => note::is_half_made(link),
        };
        if empty {
            bridge::take_down(&netlink, &link.name)?;
            removed.push(format!("removed the bridge {} and its rules", link.name));
        }
    }
    for name in firewall::tables()? {
        if links.iter().all(|link| link.name != name) {
            firewall::remove(&name)?;
            removed.push(format!("removed the rules of the bridge {name}, which is gone"));
        }
    }
    if router::prune(&netlink)? {
        removed.push("switched forwarding off: a bridge that is gone had it switched on".to_owned());
    }
    Ok(removed)
}
