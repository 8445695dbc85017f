//! `create`: a container that is whole and waits for `start`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use super::Context;
use crate::handed_on::HandedOn;
use crate::launch::{self, Request};
use crate::spec;

/// Make a container that waits for start
#[derive(clap::Args, Debug)]
pub struct Create {
    #[command(flatten)]
    bundle: OfBundle,
    #[command(flatten)]
    options: Options,
}

/// A container that a bundle describes.
#[derive(clap::Args, Debug)]
pub(super) struct OfBundle {
    /// The container's name
    pub id: String,

    /// The directory with config.json [default: the working directory]
    #[arg(long, short, value_name = "DIR")]
    bundle: Option<PathBuf>,

    /// The configuration [default: config.json in the bundle]
    #[arg(long, short = 'f', value_name = "FILE")]
    config: Option<PathBuf>,

    /// Keep the caller's session keyring
    #[arg(long)]
    no_new_keyring: bool,
}

/// What `create` and `run` have in common, with a bundle or without.
#[derive(clap::Args, Debug)]
pub(super) struct Options {
    /// A socket that takes the master of the container's terminal
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,

    /// Unix socket that receives a pidfd of the first process (man 2 pidfd_open)
    #[arg(long, value_name = "SOCKET")]
    pub pidfd_socket: Option<PathBuf>,

    /// Write the number of its first process to this file
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,

    /// Pass N more descriptors, starting at 3
    #[arg(long, value_name = "N", default_value = "0")]
    pub preserve_fds: u32,

    /// For callers of runc: without pivot_root there is no wall, so it is refused
    #[arg(long, hide = true)]
    pub no_pivot: bool,
}

impl OfBundle {
    /// The request that this makes, with the other options. What the caller left open is closed.
    pub fn request<'a>(&'a self, options: &'a Options, context: &Context) -> Result<Request<'a>> {
        let bundle = super::bundle(self.bundle.as_deref())?;
        let config = spec::contents(&self.config.clone().unwrap_or_else(|| bundle.join("config.json")))?;
        let handed_on = HandedOn::take(options.preserve_fds)?; // not before: both could be reached by one that is closed
        let no_new_keyring = self.no_new_keyring;
        Ok(Request { bundle, config, no_new_keyring, handed_on, ..options.request(&self.id, context)? })
    }
}

impl Options {
    /// The request that these options make, for whatever container.
    pub fn request<'a>(&'a self, id: &'a str, context: &Context) -> Result<Request<'a>> {
        if self.no_pivot {
            let text = "--no-pivot: a root that was only moved can be climbed out of";
            return Err(kernel::Failure::new(text)
                .hint("put the root filesystem on a disk, not on the initramfs")
                .into());
        }
        Ok(Request {
            id,
            console_socket: self.console_socket.as_deref(),
            pid_file: self.pid_file.as_deref(),
            pidfd_socket: self.pidfd_socket.as_deref().map(crate::caller::connect_pidfd_socket).transpose()?,
            systemd: context.systemd,
            no_group: context.no_groups,
            ..Request::default()
        })
    }
}

impl Create {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        let request = Request { waits: true, detached: true, ..self.bundle.request(&self.options, context)? };
        let launched = launch::launch(&context.store, request)?;
        launched.child.leave();
        Ok(ExitCode::SUCCESS)
    }
}
