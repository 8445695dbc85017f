//! Step 5, rations: how much of the machine a cell may use.
//!
//! Namespaces hide; they do not limit. One cell can still take all memory, all CPUs and the whole process table. For
//! that the kernel has control groups: a tree of groups, in which every process has its place and its children begin in
//! the same. What a group uses is counted, and its files say how much it may.
//!
//! What order matters:
//!
//! 1. [`Group::make`], before the child is born: the group is there, with its limits written.
//! 2. The child is born into it, by clone3: it never runs outside, not for one instruction.
//! 3. [`Group::join`], in the child: what is left of that for v1, which knows no being born into; then a cgroup
//!    namespace, in which its own group is the topmost.
//! 4. When the command has ended: kill the processes that are left, wait, remove.
//!
//! Where to read on:
//!
//! - [`v2`]: a limit is a file, and a group passes controllers on to those below it.
//! - [`directories`]: what a group is made of, on v2 and on v1; it is made below a parent, measured, and removed.
//! - [`Group`]: the cell's own group, with a lock by which the next launch knows whether its launcher still lives.
//! - [`view`]: what the cell sees of its group. [`devices`]: which devices it can open. [`delegated`]: what an ordinary user
//!   can have.
//!
//! Beside the lesson are v1 ([`v1`]), for machines that still have it; [`hierarchies`], which of the trees a machine has; the
//! options and their checks ([`LimitOptions`], [`CpuList`]); and what a cell has used ([`stats`]).

use anyhow::Result;

mod cpu_list;
pub mod delegated;
pub mod devices;
pub mod directories;
mod group;
pub mod hierarchies;
mod limits;
pub mod stats;
pub mod v1;
pub mod v2;
pub mod view;

pub use cpu_list::CpuList;
pub use directories::{Directories, PARENT, Parent, is_v2};
pub use group::Group;
pub use limits::{IoMax, LimitOptions, Limits, PERIOD, size};
pub use stats::Used;

/// A value for a file of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The file.
    pub file: String,
    /// What is written to it, in one call.
    pub value: String,
}

impl Setting {
    /// A value for a file.
    pub fn new(file: &str, value: String) -> Setting {
        Setting { file: file.to_owned(), value }
    }
}

/// Removes the groups that killed launchers have left, and returns a line for each.
pub fn prune(limits: &Limits) -> Result<Vec<String>> {
    let removed = group::prune(limits)?;
    Ok(removed.iter().map(|group| format!("removed the group {group}")).collect())
}
