//! `checkpoint` and `restore`: not here.

use std::process::ExitCode;

use anyhow::Result;
use kernel::Failure;

/// Not supported
#[derive(clap::Args, Debug)]
pub struct Unsupported {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _words: Vec<String>,
}

impl Unsupported {
    pub(super) fn run(self) -> Result<ExitCode> {
        let text =
            "checkpoint and restore are not supported: a container's memory cannot be written to disk by this runtime";
        Err(Failure::new(text).hint("runc and crun can, with CRIU").into())
    }
}
