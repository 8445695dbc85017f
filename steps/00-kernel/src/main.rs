//! The `doctor`: which lessons can this machine run, and what helps where it cannot?

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

mod doctor;

use doctor::report::{Format, Report};
use doctor::rights::Rights;
use doctor::{cgroups, filesystems, machine, namespaces, network, privileges, rootfs, seccomp};

/// Say which lessons this machine can run, and what to do about the others
///
/// Things are tried, in short-lived children that leave nothing behind. The exit status is 0 if all steps run here.
#[derive(Parser, Debug)]
#[command(name = "doctor", version)]
struct Options {
    #[command(flatten)]
    explain: kernel::ExplainOptions,

    /// How to print: text for a reader, json for an instructor who collects it from many machines
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

fn main() -> ExitCode {
    kernel::launcher::run(examine)
}

// ANCHOR: examine
fn examine(options: Options) -> Result<ExitCode> {
    options.explain.begin("doctor");
    doctor::require_proc()?;
    doctor::reset_signals()?;
    let rights = Rights::look();
    let mut checks = machine::checks();
    checks.push(rights.check());
    checks.extend(namespaces::checks(&rights));
    checks.extend(filesystems::checks(&rights));
    checks.extend(network::checks(&rights));
    checks.extend(cgroups::checks(&rights));
    checks.push(seccomp::check());
    checks.extend(privileges::checks(&rights));
    checks.extend(rootfs::checks());
    let report = Report::new(checks);
    report.print(options.format)?;
    Ok(report.exit_code())
}
// ANCHOR_END: examine
