//! seccomp: which system calls a process may make at all (man 2 seccomp).
//!
//! A capability says what root may do. A filter says what can be *asked*: before each call the kernel runs a small
//! program of ours, and does what it answers: make the call, say that it failed, kill. What is never let in cannot
//! be attacked, and most of the kernel's faults of the last years lay in calls that no ordinary program makes.
//!
//! - [`first`]: a filter by hand, of seven instructions, and [`listing`], which tells any filter. Begin here.
//! - [`profile`]: which calls, as a file says it.
//! - [`plan`]: the same, checked, and in the kernel's numbers.
//! - [`calls`]: what the calls are called.
//! - [`compile`]: from rules to a program; [`program`]: how one is written.
//! - [`default`]: the profile where none is given.
//!
//! What order matters: the filter comes last. Every call that the launcher makes after it must be one that it lets
//! through; with a good profile that is `execve` and little else. And no_new_privs comes before it, or the kernel
//! refuses (unless CAP_SYS_ADMIN is held, which by then should be gone).

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kernel::sys::seccomp::{Flags, Instruction, set_filter};
use kernel::{Fd, purpose};

pub use default::{default_profile, native_profile};
pub use listing::listing;
pub use plan::decided;
pub use profile::{Profile, known_words, words};

pub mod calls;
pub mod compile;
pub mod default;
pub mod first;
mod listing;
pub mod plan;
pub mod profile;
pub mod program;
#[cfg(test)]
mod tests;

/// A compiled profile.
#[derive(Debug, Clone)]
pub struct Filter {
    program: Vec<Instruction>,
    flags: Flags,
    listener: Option<PathBuf>,
}

impl Filter {
    /// Compiles a profile for this machine. `holds` says whether a capability, by its name with CAP_, is in the
    /// process's bounding set: Docker's profiles have rules that depend on it.
    ///
    /// To be called before anything is made: a profile that is not right fails here, with the place in it.
    pub fn new(profile: &Profile, holds: impl Fn(&str) -> bool) -> Result<Filter> {
        let plan = plan::Plan::new(profile, holds)?;
        let program = compile::compile(&plan, calls::of_this_machine())?;
        let listener = if plan.asks() { profile.listener_path.clone() } else { None };
        Ok(Filter { program, flags: plan::flags(profile, listener.is_some()), listener })
    }

    // ANCHOR: apply
    /// Puts the calling process, which must be a single thread, under the filter. Nothing takes it off again.
    ///
    /// Returns the descriptor of the listener, if the profile has `SCMP_ACT_NOTIFY`: it is to be sent to the socket
    /// that [`Filter::listener`] names. Fails with EACCES if no_new_privs is not set and CAP_SYS_ADMIN not held.
    pub fn apply(&self) -> Result<Option<Fd>> {
        purpose("from here on a program of ours is asked before each call");
        set_filter(&self.program, self.flags).context("cannot set the seccomp filter")
    }
    // ANCHOR_END: apply

    /// The socket of the process that answers for calls, if the profile leaves some open.
    pub fn listener(&self) -> Option<&Path> {
        self.listener.as_deref()
    }

    /// The program, as the kernel gets it.
    pub fn program(&self) -> &[Instruction] {
        &self.program
    }
}
