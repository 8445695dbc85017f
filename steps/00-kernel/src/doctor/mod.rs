//! What the doctor looks at, a file per wall.
//!
//! Where it is cheap and harmless a thing is *tried*, for what /proc says and what the kernel then allows are two
//! things: a switch, a security module or a container's filter may stand between. A trial happens in a child, in
//! namespaces that vanish with it ([`probe`]), and with the rights that a launcher would have here ([`rights`]).

use std::path::PathBuf;

use anyhow::Result;
use kernel::{Failure, purpose, sys};

pub mod cgroups;
pub mod check;

pub mod filesystems;
pub mod machine;
pub mod modules;
pub mod namespaces;
pub mod network;
pub mod privileges;
pub mod probe;
pub mod report;
pub mod rights;
pub mod rootfs;
pub mod seccomp;

/// Refuses to work without a /proc, by which the kernel tells of itself: every second line would be wrong.
pub fn require_proc() -> Result<()> {
    if std::path::Path::new("/proc/self").exists() {
        return Ok(());
    }
    Err(Failure::new("there is no /proc, by which the kernel tells of itself").hint("mount -t proc proc /proc").into())
}

/// Gives signals their default action: who started us may ignore SIGCHLD, and then the kernel would not tell how a
/// trial ended.
pub fn reset_signals() -> Result<()> {
    purpose("no signal ignored, or we would not hear how a trial ends");
    Ok(sys::process::reset_signals()?)
}

/// A file of the kernel's, or nothing where it is missing or closed to us: no look fails for that.
pub fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Where a program is; in root's folders too, which an ordinary user's PATH lacks.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}
