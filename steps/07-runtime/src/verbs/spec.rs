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
use crate::{people, spec};

/// Write a config.json to begin with, or the bundle that a run --rootfs would be
#[derive(clap::Args, Debug)]
#[command(override_usage = "cellblock spec [OPTIONS]\n       cellblock spec --rootfs DIR [OPTIONS] [COMMAND]...")]
pub struct WriteSpec {
    /// The directory for it [default: the working directory]
    #[arg(long, short, value_name = "DIR")]
    bundle: Option<PathBuf>,

    /// For an ordinary user
    #[arg(long, conflicts_with = "rootfs")]
    rootless: bool,

    #[command(flatten)]
    people: people::PeopleOptions,
}

impl WriteSpec {
    pub(super) fn run(self, _: &Context) -> Result<ExitCode> {
        let bundle = if self.people.command.has_rootfs() { self.wished()? } else { self.template() };
        let directory = self.bundle.unwrap_or_else(|| PathBuf::from("."));
        let file = directory.join("config.json");
        let refuse = |why: String| {
            Failure::new(format!("cannot write {}: {why}", file.display())).hint("--bundle names another directory")
        };
        let opened = OpenOptions::new().write(true).create_new(true).open(&file);
        let mut opened = opened.map_err(|error| refuse(error.to_string().to_lowercase()))?;
        opened.write_all(bundle.config().as_bytes()).map_err(|error| refuse(error.to_string()))?;
        bundle.write_files(&directory)?;
        Ok(ExitCode::SUCCESS)
    }

    fn template(&self) -> Bundle {
        let (masked, read_only) = pivot_root::closed_paths();
        let mut template = spec::template(&masked, &read_only);
        if self.rootless {
            template = spec::rootless(template, privilege::user(), privilege::group());
        }
        Bundle { spec: template, files: Vec::new(), owner: None }
    }

    /// What the lessons' options would be.
    fn wished(&self) -> Result<Bundle> {
        let mut wishes = self.people.check()?;
        wishes.without_us("a configuration has no words for it; hooks in it could call somebody who makes one")?;
        Ok(wishes.prepare()?.0)
    }
}
