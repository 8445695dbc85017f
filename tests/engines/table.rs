//! What came of a list: steps down, runtimes across.

use std::fs;

use classroom::lab::workspace;

/// The table, and why its cells are as they are.
pub struct Table {
    name: String,
    rows: Vec<String>,
    columns: Vec<Column>,
}

struct Column {
    runtime: String,
    is_ours: bool,
    cells: Vec<Result<(), String>>,
}

impl Table {
    pub fn new(name: &str, rows: Vec<String>) -> Table {
        Table { name: name.to_owned(), rows, columns: Vec::new() }
    }

    /// Adds a runtime's column.
    pub fn add(&mut self, runtime: &str, is_ours: bool, cells: Vec<Result<(), String>>) {
        self.columns.push(Column { runtime: runtime.to_owned(), is_ours, cells });
    }

    /// Writes it to target/engines, with the failures in full below it.
    pub fn write(&self) {
        let head: String = self.columns.iter().map(|column| format!("{:<11}", column.runtime)).collect();
        let mut text = format!("{:<28}{}\n", self.name, head.trim_end());
        for (number, row) in self.rows.iter().enumerate() {
            let word = |column: &Column| if column.cells[number].is_ok() { "passes" } else { "FAILS" };
            let cells: String = self.columns.iter().map(|column| format!("{:<11}", word(column))).collect();
            text += &format!("{row:<28}{}\n", cells.trim_end());
        }
        for column in &self.columns {
            for (row, why) in self.failures(column) {
                text += &format!("\n== {} with {}\n{why}\n", row, column.runtime);
            }
        }
        let folder = workspace().join("target/engines");
        fs::create_dir_all(&folder).expect("target is ours");
        fs::write(folder.join(format!("{}.txt", self.name)), text).expect("target is ours");
    }

    fn failures<'a>(&'a self, column: &'a Column) -> impl Iterator<Item = (&'a String, &'a String)> {
        let failed = |(row, cell): (&'a String, &'a Result<(), String>)| Some((row, cell.as_ref().err()?));
        self.rows.iter().zip(&column.cells).filter_map(failed)
    }

    /// Whether some peer passes this row: then ours must.
    fn a_peer_passes(&self, row: &str) -> bool {
        let number = self.rows.iter().position(|each| each == row).unwrap_or_default();
        let mut peers = self.columns.iter().filter(|column| !column.is_ours).peekable();
        peers.peek().is_none() || peers.any(|peer| peer.cells[number].is_ok())
    }

    /// A line for each runtime, and what ours shares with its peers.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for column in &self.columns {
            let failed: Vec<&str> = self.failures(column).map(|(row, _)| row.as_str()).collect();
            let passed = format!(
                "{}: {} of {} with {}",
                self.name,
                self.rows.len() - failed.len(),
                self.rows.len(),
                column.runtime
            );
            notes.push(if failed.is_empty() { passed } else { format!("{passed}; not: {}", failed.join(", ")) });
        }
        for column in self.columns.iter().filter(|column| column.is_ours) {
            let shared = self.failures(column).filter(|(row, _)| !self.a_peer_passes(row));
            notes.extend(shared.map(|(row, _)| format!("{}: {row} fails with the control as well", self.name)));
        }
        notes
    }

    /// What ours fails and a peer passes.
    pub fn faults(&self) -> Vec<String> {
        let ours = self.columns.iter().filter(|column| column.is_ours);
        let failed = ours.flat_map(|column| self.failures(column));
        failed.filter(|(row, _)| self.a_peer_passes(row)).map(|(row, why)| format!("{row}: {why}")).collect()
    }
}
