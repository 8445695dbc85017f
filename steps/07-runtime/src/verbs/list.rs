//! `list`: all containers.

use std::process::ExitCode;

use anyhow::Result;

use super::Context;

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
        let all = context.store.all();
        if self.quiet {
            all.iter().for_each(|container| println!("{}", container.record.id));
            return Ok(ExitCode::SUCCESS);
        }
        let rows = all.iter().map(|container| {
            let state = container.state(container.status());
            (state, container.record.created.clone())
        });
        if self.format == "json" {
            let list: Vec<_> = rows
                .map(|(state, created)| {
                    let mut row = serde_json::to_value(state)?;
                    row["created"] = created.into();
                    Ok(row)
                })
                .collect::<Result<_>>()?;
            println!("{}", serde_json::to_string(&list)?);
            return Ok(ExitCode::SUCCESS);
        }
        println!("{:<20} {:<8} {:<9} {:<31} BUNDLE", "ID", "PID", "STATUS", "CREATED");
        for (state, created) in rows {
            let pid = state.pid.unwrap_or(0);
            println!("{:<20} {pid:<8} {:<9} {created:<31} {}", state.id, state.status.name(), state.bundle);
        }
        Ok(ExitCode::SUCCESS)
    }
}
