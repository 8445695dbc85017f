//! `features`: what this runtime can do, as JSON (features.md). Docker asks at its start.

use std::process::ExitCode;

use anyhow::Result;
use privileges::seccomp;

use super::Context;
use crate::features::{SeccompTables, Tables, features};
use crate::plan::{IDMAPPED_ROOT, KEEPS_GROUPS, MEMORY_FLAGS, MEMORY_MODES, SMALL_INIT, mounts};

/// Print what this runtime can do
#[derive(clap::Args, Debug)]
pub struct Features {}

impl Features {
    pub(super) fn run(self, _: &Context) -> Result<ExitCode> {
        let (options, capabilities) = (mounts::known_options(), privileges::Set::known().names());
        let known = seccomp::words();
        let tables = Tables {
            mount_options: options.iter().map(String::as_str).collect(),
            capabilities: capabilities.iter().map(String::as_str).collect(),
            seccomp: SeccompTables {
                actions: known.actions.to_vec(),
                operators: known.comparisons.to_vec(),
                archs: known.architectures.to_vec(),
                known_flags: known.flags.to_vec(),
                supported_flags: known.flags.to_vec(),
            },
            systemd: true,
            systemd_user: true,
            apparmor: true,
            selinux: false,
            idmap: true,
            net_devices: true,
            memory_modes: MEMORY_MODES.map(|(name, _)| name).to_vec(),
            memory_flags: MEMORY_FLAGS.map(|(name, _)| name).to_vec(),
            unsafe_annotations: vec![IDMAPPED_ROOT, SMALL_INIT, crate::systemd::ANNOTATION, KEEPS_GROUPS],
            version: env!("CARGO_PKG_VERSION"),
        };
        super::print(&format!("{}\n", serde_json::to_string_pretty(&features(tables))?))?;
        Ok(ExitCode::SUCCESS)
    }
}
