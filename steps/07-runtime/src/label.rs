//! The AppArmor profile that confines the command (config.md, Linux Process): it takes hold with the exec.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kernel::sys::mount::{self, Attributes};
use kernel::{Fd, purpose};

/// Asks for a profile at the next exec, by a /proc of our own: the container's could be another file system in disguise, and
/// the word would go nowhere (CVE-2019-16884). It must be called while this process may make file systems.
///
/// # Errors
/// No such profile, or no AppArmor.
pub fn confine(profile: Option<&str>) -> Result<()> {
    let Some(profile) = wanted(profile) else { return Ok(()) };
    let proc = mount::fsmount(&mount::fsopen(c"proc", "new")?, Attributes::default(), "own /proc")?;
    ask(&proc, &PathBuf::from(std::process::id().to_string()), profile)
}

/// Asks for a profile at the next exec, by the host's /proc: before this process joins a mount namespace of the container's.
/// What it asks for holds for the process that is born of it, too.
///
/// # Errors
/// No such profile, or no AppArmor.
pub fn confine_before_joining(profile: Option<&str>) -> Result<()> {
    let Some(profile) = wanted(profile) else { return Ok(()) };
    ask(&mount::open_path(Path::new("/proc"), "host's /proc")?, &PathBuf::from("self"), profile)
}

fn wanted(profile: Option<&str>) -> Option<&str> {
    let profile = profile.filter(|profile| !profile.is_empty() && *profile != "unconfined")?;
    purpose("the AppArmor profile that takes hold with the exec");
    Some(profile)
}

fn ask(proc: &Fd, process: &Path, profile: &str) -> Result<()> {
    let word = format!("exec {profile}");
    // The first has been there since Linux 5.1; in the second, a second security module may have the say.
    mount::write_below(proc, &process.join("attr/apparmor/exec"), &word)
        .or_else(|_| mount::write_below(proc, &process.join("attr/exec"), &word))
        .with_context(|| format!("process.apparmorProfile: {profile}"))
}
