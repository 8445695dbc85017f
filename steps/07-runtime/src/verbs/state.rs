//! `state`: what is known of a container, as JSON (runtime.md, State).

use std::process::ExitCode;

use anyhow::Result;

use super::Context;

/// Print what is known of a container
#[derive(clap::Args, Debug)]
pub struct State {
    /// The container's name
    id: String,
}

impl State {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        let container = context.store.open(&self.id)?;
        let mut state = serde_json::to_value(container.state(container.status()))?;
        // What runc tells besides, and some callers read.
        if let Some(fields) = state.as_object_mut() {
            fields.entry("pid").or_insert_with(|| 0.into());
            fields.insert("rootfs".to_owned(), container.record.rootfs.display().to_string().into());
            fields.insert("created".to_owned(), container.record.created.clone().into());
        }
        super::print(&format!("{}\n", serde_json::to_string_pretty(&state)?))?;
        Ok(ExitCode::SUCCESS)
    }
}
