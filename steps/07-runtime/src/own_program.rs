//! Our own program, out of the container's reach.
//!
//! A process of ours is in the container for a moment, before it becomes the command, and /proc/PID/exe leads to the file
//! that it runs: the runtime, on the host. Who opens it for writing as soon as nobody runs it owns the host at the next
//! start (CVE-2019-5736). So a process that goes in runs a copy in memory that cannot be changed.

pub use namespaces::go_on_sealed;

/// The verbs that go into a container.
pub const VERBS: [&str; 3] = ["create", "run", "exec"];

/// Whether these words call for a verb that goes into a container. They are looked at before they are understood: what is
/// understood twice costs twice.
pub fn is_needed_for(words: impl Iterator<Item = std::ffi::OsString>) -> bool {
    words.into_iter().any(|word| VERBS.iter().any(|verb| word == *verb))
}
