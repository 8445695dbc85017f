//! `spec`: a configuration to begin with.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use kernel::Failure;
use kernel::sys::privilege;

use super::Context;
use crate::spec;

/// Write a config.json to begin with
#[derive(clap::Args, Debug)]
pub struct WriteSpec {
    /// The directory for it [default: the working directory]
    #[arg(long, short, value_name = "DIR")]
    bundle: Option<PathBuf>,

    /// For an ordinary user
    #[arg(long)]
    rootless: bool,
}

impl WriteSpec {
    pub(super) fn run(self, _: &Context) -> Result<ExitCode> {
        let (masked, read_only) = pivot_root::closed_paths();
        let mut template = spec::template(&masked, &read_only);
        if self.rootless {
            template = spec::rootless(template, privilege::user(), privilege::group());
        }
        let file = self.bundle.unwrap_or_else(|| PathBuf::from(".")).join("config.json");
        let refuse = |why: String| {
            Failure::new(format!("cannot write {}: {why}", file.display())).hint("--bundle names another directory")
        };
        let opened = OpenOptions::new().write(true).create_new(true).open(&file);
        let mut opened = opened.map_err(|error| refuse(error.to_string().to_lowercase()))?;
        opened.write_all(spec::to_json(&template).as_bytes()).map_err(|error| refuse(error.to_string()))?;
        Ok(ExitCode::SUCCESS)
    }
}
