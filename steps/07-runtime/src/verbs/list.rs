//! `list`: all containers.

use std::process::ExitCode;

use anyhow::Result;

use super::Context;
use crate::log;
use crate::spec::State;
use crate::store::Container;

/// List the containers
#[derive(clap::Args, Debug)]
pub struct List {
    /// A table, or json
    #[arg(long, short, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
    format: String,

    /// Their names only
    #[arg(long, short)]
    quiet: bool,
}

impl List {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        let mut rows: Vec<(State, String)> = Vec::new();
        let tell = |error: anyhow::Error| log::warn(&format!("{error:#}: cellblock delete --force removes it"));
        let show = |container: &Container| {
            rows.push((container.state(container.status()), container.record.created.clone()));
        };
        context.store.each(show, tell)?;
        if self.quiet {
            let ids: String = rows.iter().map(|(state, _)| format!("{}\n", state.id)).collect();
            super::print(&ids)?;
            return Ok(ExitCode::SUCCESS);
        }
        if self.format == "json" {
            let list: Vec<_> = rows
                .into_iter()
                .map(|(state, created)| {
                    let mut row = serde_json::to_value(state)?;
                    row["created"] = created.into();
                    Ok(row)
                })
                .collect::<Result<_>>()?;
            super::print(&format!("{}\n", serde_json::to_string(&list)?))?;
            return Ok(ExitCode::SUCCESS);
        }
        let ids = rows.iter().map(|(state, _)| state.id.len());
        let width = ids.max().unwrap_or_default().max(20); // engines give their containers 64 digits
        let mut table = format!("{:<width$} {:<8} {:<9} {:<31} BUNDLE\n", "ID", "PID", "STATUS", "CREATED");
        for (state, created) in rows {
            let (pid, status) = (state.pid.unwrap_or(0), state.status.name());
            table += &format!("{:<width$} {pid:<8} {status:<9} {created:<31} {}\n", state.id, state.bundle);
        }
        super::print(&table)?;
        Ok(ExitCode::SUCCESS)
    }
}
