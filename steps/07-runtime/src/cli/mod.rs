//! `run --rootfs` and `spec --rootfs`: the options of all lessons instead of a bundle, and the bundle that they would be.
//!
//! Each lesson has checked its own ([`RootfsOptions::check`]); what is left to do is to write them down in the words of the
//! configuration, a file for each part of it. `run --rootfs` launches the result as it launches any bundle, and
//! `spec --rootfs` writes it into a directory: both are the same container.

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Context, Result};
use cgroups::Limits;
use chroot::{Command, CommandOptions};
use kernel::Failure;
use namespaces::NamespaceOptions;
use network::{Mode, Network};
use pivot_root::Mounts;
use privileges::{Privileges, User};

use crate::bundle::Bundle;
use crate::plan::{IDMAPPED_ROOT, SMALL_INIT};
use crate::spec::{self, Root, Spec};

mod linux;
mod mounts;
mod process;
mod resources;

pub(crate) use mounts::file_names;

/// Below the help of `run` and `spec` without `--rootfs`.
pub const MORE_WITH_ROOTFS: &str =
    "With --rootfs DIR, it takes the options of all lessons: --rootfs DIR --help lists them.";

/// The options of all lessons, and the command.
#[derive(clap::Args, Debug)]
pub struct RootfsOptions {
    #[command(flatten, next_help_heading = "Without a bundle")]
    command: CommandOptions,

    /// The container's name [default: a name that is free]
    #[arg(long, value_name = "ID")]
    name: Option<String>,

    /// A terminal of its own [default: if standard input and output are one]
    #[arg(long, short, conflicts_with = "no_tty")]
    tty: bool,

    /// No terminal of its own
    #[arg(long)]
    no_tty: bool,

    #[command(flatten, next_help_heading = "What it sees of the machine (step 2)")]
    namespaces: NamespaceOptions,
    #[command(flatten, next_help_heading = "What is mounted in it (step 3)")]
    mounts: pivot_root::MountOptions,
    #[command(flatten, next_help_heading = "Its network (step 4)")]
    network: network::NetworkOptions,
    #[command(flatten, next_help_heading = "How much of the machine it may use (step 5)")]
    limits: cgroups::LimitOptions,
    #[command(flatten, next_help_heading = "Who it is, and what it may (step 6)")]
    privileges: privileges::PrivilegeOptions,
}

/// The options, checked by each lesson.
#[derive(Debug)]
pub struct Checked<'a> {
    options: &'a RootfsOptions,
    /// The container's name.
    pub name: String,
    command: Command,
    rootfs: PathBuf,
    mounts: Mounts,
    network: network::Plan,
    /// The limits of its resources.
    pub limits: Limits,
    /// Who it is, and what it may.
    pub privileges: Privileges,
    user: User,
    terminal: bool,
}

impl RootfsOptions {
    /// Refuses what cannot work, before anything is made.
    ///
    /// # Errors
    /// Those of each lesson; a user who is not in the root filesystem's own files.
    pub fn check(&self) -> Result<Checked<'_>> {
        let command = self.command.check()?;
        self.namespaces.check()?;
        let privileges = self.privileges.check()?;
        let rootfs = std::fs::canonicalize(&command.rootfs)
            .with_context(|| format!("cannot open the root filesystem {}", command.rootfs.display()))?;
        let user = privileges.user.find_below(&rootfs)?;
        let at_one = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        Ok(Checked {
            options: self,
            name: self.name.clone().map_or_else(drawn_name, Ok)?,
            command: privileges::at_home(&command, user.home.as_deref())?,
            rootfs,
            mounts: self.mounts.check()?,
            network: self.network.check()?,
            limits: self.limits.check()?,
            privileges,
            user,
            terminal: self.tty || (at_one && !self.no_tty),
        })
    }
}

impl Checked<'_> {
    /// Takes no network where a bridge is the default and cannot be had.
    ///
    /// # Errors
    /// A bridge was asked for by name; `why` says what keeps it away.
    pub fn without_bridge(&mut self, why: &str) -> Result<()> {
        if self.options.network.asks_for_bridge() {
            return Err(Failure::new(format!("--net bridge: {why}")).hint("--net none, or --net host").into());
        }
        if self.network.mode == Mode::Bridge {
            crate::log::warn(&format!("its network is none and not a bridge: {why}"));
            self.network.mode = Mode::None;
        }
        Ok(())
    }

    /// Decides about its terminal: it has one if a console socket takes it or if one was asked for, and none by default where it is
    /// detached, because no process would use it.
    pub fn decide_terminal(&mut self, has_console_socket: bool, detached: bool) {
        self.terminal = has_console_socket || self.options.tty || (self.terminal && !detached);
    }

    /// Makes the part of the network that must be there before the container, and the bundle that these options are.
    ///
    /// # Errors
    /// A word that is not UTF-8; those of [`network::Plan::prepare`].
    pub fn prepare(self) -> Result<(Bundle, Network)> {
        let has_host_network = self.network.mode == Mode::Host;
        let linux = self.linux(has_host_network)?;
        let mut spec = Spec {
            oci_version: spec::NEWEST.to_owned(),
            process: Some(self.process()?),
            root: Some(Root { path: text("--rootfs", &self.rootfs)?, readonly: self.mounts.read_only }),
            hostname: self.options.namespaces.hostname.clone(),
            mounts: self.mounts()?,
            linux: Some(linux),
            ..Spec::default()
        };
        let mut note = |key: &str, wanted: bool| {
            wanted.then(|| spec.annotations.insert(key.to_owned(), "true".to_owned()));
        };
        note(SMALL_INIT, self.options.namespaces.init);
        note(IDMAPPED_ROOT, self.must_show_others(&self.rootfs)?);
        let owner = self.privileges.id_maps.as_ref().and_then(privileges::IdMaps::root_outside);
        let hostname = self.options.namespaces.hostname()?;
        let network = self.network.prepare()?;
        let files = network.files(&hostname).into_iter().map(|(path, text)| (mounts::file_name(path), text)).collect();
        let ids = self.privileges.reservation;
        Ok((Bundle { spec, files, owner, ids }, network))
    }
}

/// Not as step 5 names its groups: one whose launcher has ended is removed by the next.
fn drawn_name() -> Result<String> {
    Ok(format!("inmate-{:08x}", kernel::sys::process::random()?))
}

/// A word of the command line's as one of a configuration's.
///
/// # Errors
/// It is not UTF-8, and JSON is.
fn text(option: &str, word: impl AsRef<std::ffi::OsStr>) -> Result<String> {
    let word = word.as_ref();
    let text = word.to_str().map(str::to_owned);
    text.ok_or_else(|| Failure::new(format!("{option}: {word:?} is not UTF-8, and a configuration is")).into())
}
