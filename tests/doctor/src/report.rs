//! The report: a line for each check, then which steps run here. As text, or as JSON.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::check::{Check, STEPS};
use crate::machine;

/// How the report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For a reader.
    Text,
    /// For a program.
    Json,
}

/// Everything that was found. Its fields are the JSON's keys, and stay as they are.
#[derive(Debug, Serialize)]
pub struct Report {
    hostname: String,
    kernel: String,
    arch: &'static str,
    ok: bool,
    checks: Vec<Check>,
    steps: Vec<Step>,
}

/// Whether a step runs here.
#[derive(Debug, Serialize)]
struct Step {
    name: &'static str,
    ok: bool,
    missing: Vec<&'static str>,
}

impl Report {
    /// Judges the steps by what was found.
    pub fn new(checks: Vec<Check>) -> Report {
        let steps: Vec<Step> = STEPS.iter().map(|name| judge(name, &checks)).collect();
        Report {
            hostname: nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned(),
            kernel: machine::kernel_release(),
            arch: std::env::consts::ARCH,
            ok: steps.iter().all(|step| step.ok),
            checks,
            steps,
        }
    }

    /// 0 if all steps run here, else 1.
    pub fn exit_code(&self) -> ExitCode {
        if self.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// Writes the report to standard output.
    pub fn print(&self, format: Format) -> Result<()> {
        let text = match format {
            Format::Text => self.text(),
            Format::Json => serde_json::to_string_pretty(self)? + "\n",
        };
        std::io::stdout().write_all(text.as_bytes()).context("cannot print the report")
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for check in &self.checks {
            text += &paragraph(&format!("{} {:<18}", check.mark(), check.name), &check.found);
            for line in check.remedy.iter().flat_map(|remedy| remedy.lines()) {
                text += &format!("{:20}{line}\n", ""); // never broken: it is there to be copied
            }
        }
        let run: Vec<_> = self.steps.iter().filter(|step| step.ok).map(|step| step.name).collect();
        text.push('\n');
        if !run.is_empty() {
            text += &paragraph("steps that run here: ", &run.join(", "));
        }
        let hindered = self.steps.iter().filter(|step| !step.ok);
        for (index, step) in hindered.enumerate() {
            let heading = if index == 0 { "steps that do not:" } else { "" };
            text += &paragraph(&format!("{heading:<21}"), &format!("{} ({})", step.name, step.missing.join(", ")));
        }
        text
    }
}

fn judge(name: &'static str, checks: &[Check]) -> Step {
    let missing: Vec<_> = checks.iter().filter(|check| check.hinders(name)).map(|check| check.name).collect();
    Step { name, ok: missing.is_empty(), missing }
}

const WIDTH: usize = 100;

/// A text beside its heading, broken between words, its further lines under the first.
fn paragraph(heading: &str, text: &str) -> String {
    let indent = heading.chars().count();
    let (mut lines, mut column) = (heading.to_owned(), indent);
    for word in text.split_whitespace() {
        let width = word.chars().count();
        if column > indent && column + 1 + width > WIDTH {
            lines += &format!("\n{:indent$}", "");
            column = indent;
        }
        if column > indent {
            lines.push(' ');
            column += 1;
        }
        lines += word;
        column += width;
    }
    lines + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{LAUNCHERS, Lack, NOBODY};

    fn sample() -> Report {
        let lack = Err(Lack::new("the program nft is not installed", "apt-get install nftables"));
        let optional = Err(Lack::new("this kernel has none", "boot another"));
        Report::new(vec![
            Check::new("kernel", STEPS, Ok("6.1.0 (5.14 or newer)".to_owned())),
            Check::note("machine", "neither container nor virtual machine"),
            Check::new("root", LAUNCHERS, Ok("uid 0".to_owned())),
            Check::new("nft", &["network"], lack),
            Check::new("overlay", NOBODY, optional),
        ])
    }

    #[test]
    fn text_has_marks_remedies_and_steps() {
        let expected = "\
✓ kernel            6.1.0 (5.14 or newer)
• machine           neither container nor virtual machine
✓ root              uid 0
✗ nft               the program nft is not installed
                    apt-get install nftables
• overlay           this kernel has none
                    boot another

steps that run here: kernel, chroot, namespaces, pivot-root, cgroups, privileges, cellblock
steps that do not:   network (nft)
";
        assert_eq!(sample().text(), expected);
    }

    #[test]
    fn json_keys_are_stable() {
        let json = serde_json::to_value(sample()).unwrap();
        let keys: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, ["arch", "checks", "hostname", "kernel", "ok", "steps"]);
        assert_eq!(json["ok"], false);
        let nft = serde_json::json!({
            "name": "nft", "ok": false, "found": "the program nft is not installed",
            "remedy": "apt-get install nftables", "needed_by": ["network"],
        });
        assert_eq!(json["checks"][3], nft);
        assert!(json["checks"][1]["ok"].is_null() && json["checks"][1]["remedy"].is_null());
        assert_eq!(json["steps"][4], serde_json::json!({"name": "network", "ok": false, "missing": ["nft"]}));
        assert_eq!(json["steps"][7], serde_json::json!({"name": "cellblock", "ok": true, "missing": []}));
    }

    #[test]
    fn long_lines_are_broken_between_words() {
        let text = paragraph("steps that do not:   ", &["pid-namespace"; 20].join(", "));
        assert!(text.lines().count() == 4 && text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with("                     pid-n")), "{text}");
    }
}
