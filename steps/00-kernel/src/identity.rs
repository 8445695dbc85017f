//! What tells a thing from its successor of the same name or number: which start of the machine, which namespace.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

/// Which start of the machine this is (man 5 proc, /proc/sys/kernel/random/boot_id).
///
/// # Errors
/// There is no /proc.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Which namespace of a kind this process is in, by its inode (man 7 namespaces): `net`, `pid`, `time`.
///
/// # Errors
/// There is no /proc; a kernel without namespaces of this kind.
pub fn namespace_here(kind: &str) -> io::Result<u64> {
    Ok(fs::metadata(format!("/proc/self/ns/{kind}"))?.ino())
}

/// Whether /proc shows this process's own pid namespace. One of another, which was mounted before this process moved, has
/// other processes under the same numbers.
pub fn proc_is_ours() -> bool {
    fs::read_link("/proc/self").is_ok_and(|own| own.to_str() == Some(&std::process::id().to_string()))
}
