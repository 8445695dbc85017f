//! `spec`: a configuration to begin with.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use kernel::Failure;
use kernel::sys::privilege;

use super::Context;
use crate::bundle::Bundle;
use crate::cli::{self, RootfsOptions};
use crate::spec;

/// Both usages.
const USAGE: &str = "cellblock spec [OPTIONS]
       cellblock spec --rootfs DIR [OPTIONS] [COMMAND]...";

/// Write a config.json to begin with
#[derive(clap::Args, Debug)]
#[command(override_usage = USAGE, after_help = cli::MORE_WITH_ROOTFS)]
pub struct WriteSpec {
    #[command(flatten)]
    place: Place,

    /// For an ordinary user
    #[arg(long)]
    rootless: bool,
}

/// Write the bundle that a run with the lessons' options would be
#[derive(clap::Args, Debug)]
#[command(override_usage = USAGE)]
pub struct SpecRootfs {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    rootfs: RootfsOptions,
}

/// Where it is written.
#[derive(clap::Args, Debug)]
struct Place {
    /// The directory for it [default: the working directory]
    #[arg(long, short, value_name = "DIR")]
    bundle: Option<PathBuf>,
}

impl WriteSpec {
    pub(super) fn run(self, _: &Context) -> Result<ExitCode> {
        let (masked, read_only) = pivot_root::closed_paths();
        let mut template = spec::template(&masked, &read_only);
        if self.rootless {
            template = spec::rootless(template, privilege::user(), privilege::group());
        }
        self.place.write(&Bundle { spec: template, files: Vec::new(), owner: None, ids: None })
    }
}

impl SpecRootfs {
    pub(super) fn run(self, _: &Context) -> Result<ExitCode> {
        let mut checked = self.rootfs.check()?;
        checked.without_bridge("a configuration cannot describe it; a hook would have to make it")?;
        self.place.write(&checked.prepare()?.0)
    }
}

impl Place {
    fn write(self, bundle: &Bundle) -> Result<ExitCode> {
        let directory = self.bundle.unwrap_or_else(|| PathBuf::from("."));
        let file = directory.join("config.json");
        let refuse = |error| {
            let text = format!("cannot write {}: {}", file.display(), kernel::outside::reason(error));
            Failure::new(text).hint("--bundle names another directory")
        };
        let mut opened = OpenOptions::new().write(true).create_new(true).open(&file).map_err(refuse)?;
        opened.write_all(bundle.config().as_bytes()).map_err(refuse)?;
        bundle.write_files(&directory)?;
        Ok(ExitCode::SUCCESS)
    }
}
