//! The AppArmor profile that confines the command (config.md, Linux Process): it takes hold with the exec.

use std::path::Path;

use anyhow::{Context, Result};
use kernel::sys::clone;
use kernel::sys::mount::{self, Attributes};
use kernel::{Failure, purpose};

/// Asks for a profile at the next exec, by a /proc of our own: the container's could be another file system in disguise, and
/// the word would go nowhere (CVE-2019-16884). It must be called while this process may make file systems.
///
/// # Errors
/// No such profile, or no AppArmor.
pub fn confine(profile: Option<&str>) -> Result<()> {
    ask(profile, |file, word| {
        let proc = mount::fsmount(&mount::fsopen(c"proc", "new")?, Attributes::default(), "own /proc")?;
        mount::write_below(&proc, &Path::new(&std::process::id().to_string()).join(file), word)
    })
}

/// Asks for a profile at the next exec, by the host's /proc: before this process joins a mount namespace of the container's.
/// What it asks for holds for the process that is born of it, too.
///
/// # Errors
/// No such profile, or no AppArmor.
pub fn confine_before_joining(profile: Option<&str>) -> Result<()> {
    ask(profile, |file, word| clone::write_file(&format!("/proc/self/{file}"), word))
}

fn ask(profile: Option<&str>, write: impl Fn(&str, &str) -> Result<(), Failure>) -> Result<()> {
    let Some(profile) = profile.filter(|profile| !profile.is_empty() && *profile != "unconfined") else {
        return Ok(());
    };
    purpose("the AppArmor profile that takes hold with the exec");
    let word = format!("exec {profile}");
    // The first has been there since Linux 5.1; in the second, a second security module may have the say.
    write("attr/apparmor/exec", &word)
        .or_else(|_| write("attr/exec", &word))
        .with_context(|| format!("process.apparmorProfile: {profile}"))
}
