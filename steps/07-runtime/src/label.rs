//! The AppArmor profile that confines the command (config.md, Linux Process): it takes hold with the exec.

use std::path::PathBuf;

use anyhow::{Context, Result};
use kernel::purpose;
use kernel::sys::mount::{self, Attributes};

/// Asks for a profile at the next exec, by a /proc of our own: the container's could be another file system in disguise, and
/// the word would go nowhere (CVE-2019-16884). Call it while file systems can still be made.
///
/// # Errors
/// No such profile, or no AppArmor.
pub fn confine(profile: Option<&str>) -> Result<()> {
    let Some(profile) = profile.filter(|profile| !profile.is_empty() && *profile != "unconfined") else {
        return Ok(());
    };
    purpose("the AppArmor profile that takes hold with the exec");
    let proc = mount::fsmount(&mount::fsopen(c"proc", "new")?, Attributes::default(), "own /proc")?;
    let own = PathBuf::from(std::process::id().to_string()).join("attr");
    let word = format!("exec {profile}");
    // The first has been there since Linux 5.1; in the second, a second security module may have the say.
    mount::write_below(&proc, &own.join("apparmor/exec"), &word)
        .or_else(|_| mount::write_below(&proc, &own.join("exec"), &word))
        .with_context(|| format!("process.apparmorProfile: {profile}"))
}
