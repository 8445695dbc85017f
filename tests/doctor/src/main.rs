//! The `doctor`: which lessons can this machine run, and what helps where it cannot?
//!
//! A file per wall. Where it is cheap and harmless a thing is *tried*, because what /proc says and what the kernel then
//! allows are two things: a switch, a security module or a container's filter may stand between. A trial happens in a
//! child, in namespaces that vanish with it ([`probe`]), and with the rights that a launcher would have here ([`rights`]).

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use kernel::{Failure, purpose, sys};

mod cgroups;
mod check;
mod filesystems;
mod machine;
mod modules;
mod namespaces;
mod network;
mod privileges;
mod probe;
mod report;
mod rights;
mod rootfs;
mod seccomp;

use report::{Format, Report};
use rights::Rights;

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

fn examine(options: Options) -> Result<ExitCode> {
    options.explain.begin("doctor");
    require_proc()?;
    reset_signals()?;
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

/// Refuses to work without a /proc, by which the kernel tells of itself: every second line would be wrong.
fn require_proc() -> Result<()> {
    if std::path::Path::new("/proc/self").exists() {
        return Ok(());
    }
    Err(Failure::new("there is no /proc, by which the kernel tells of itself").hint("mount -t proc proc /proc").into())
}

/// Gives signals their default action: a caller may ignore SIGCHLD, and then the kernel would not tell how a trial ended.
fn reset_signals() -> Result<()> {
    purpose("no signal ignored, or we would not hear how a trial ends");
    Ok(sys::process::reset_signals()?)
}

/// A file of the kernel's, or nothing where it is missing or closed to us: no look fails for that.
fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Where a program is; in root's folders too, which an ordinary user's PATH lacks.
fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}
