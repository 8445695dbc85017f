//! `ps`: a container's processes, by their numbers on the host.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use kernel::Failure;

use super::Context;

/// List a container's processes
#[derive(clap::Args, Debug)]
pub struct Ps {
    /// A table, or json: the numbers alone
    #[arg(long, short, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
    format: String,

    /// The container's name
    id: String,

    /// Options for ps(1) [default: -ef]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

impl Ps {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        let container = context.store.open(&self.id)?;
        let processes: Vec<i32> = match container.group()? {
            Some(group) => group.processes(),
            None => container.record.pid.into_iter().collect(),
        };
        if self.format == "json" {
            super::print(&format!("{}\n", serde_json::to_string(&processes)?))?;
            return Ok(ExitCode::SUCCESS);
        }
        let options = if self.options.is_empty() { vec!["-ef".to_owned()] } else { self.options };
        let output = Command::new("ps").args(&options).output().context("cannot run ps")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Failure::new(format!("ps {}: {said}", options.join(" "))).into());
        }
        super::print(&only(&String::from_utf8_lossy(&output.stdout), &processes)?)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The lines of a table about these processes, and its head.
fn only(table: &str, processes: &[i32]) -> Result<String, Failure> {
    let (head, rows) = table.split_once('\n').unwrap_or((table, ""));
    let column = head.split_whitespace().position(|title| title == "PID");
    let column = column.ok_or_else(|| Failure::new("ps tells no PID").hint("give it options that do, such as -ef"))?;
    let ours = |row: &&str| {
        let pid = row.split_whitespace().nth(column).and_then(|text| text.parse().ok());
        pid.is_some_and(|pid| processes.contains(&pid))
    };
    Ok(std::iter::once(head).chain(rows.lines().filter(ours)).map(|row| format!("{row}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_containers_rows() {
        let table = "UID   PID CMD\nroot    1 init\nroot   12 sh 13\nroot   13 ls\n";
        assert_eq!(only(table, &[12]).unwrap(), "UID   PID CMD\nroot   12 sh 13\n");
        assert!(only("CMD\nls\n", &[1]).is_err());
    }
}
