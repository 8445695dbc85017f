//! Lesson 6: a small program, handed to the kernel, which it runs before each system call of this process and of all
//! that come after it (man 2 seccomp; Documentation/userspace-api/seccomp_filter).

use nix::errno::Errno;

use super::{Fd, Lazy, new_fd};
use crate::explain::call;
use crate::{Failure, Remedy};

/// One instruction of the older, smaller machine (*classic* BPF), as it lies in memory: `struct sock_filter`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How many instructions to skip when a comparison holds. One byte: at most 255.
    pub when_true: u8,
    /// How many when it does not.
    pub when_false: u8,
    /// A number, or where to read one.
    pub number: u32,
}

/// What the kernel reads: `struct sock_fprog`.
#[repr(C)]
struct Program {
    count: u16,
    instructions: *const Instruction,
}

/// The most instructions that the kernel takes in one filter (BPF_MAXINSNS).
pub const MOST_INSTRUCTIONS: usize = 4096;

bitflags::bitflags! {
    /// How a filter is to be set, besides what it answers (man 2 seccomp, SECCOMP_FILTER_FLAG_*).
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    pub struct Flags: u32 {
        /// Write every answer but "allow" to the audit log.
        const LOG = 1 << 1;
        /// Leave the processor's guard against speculative store bypass as it is.
        const SPEC_ALLOW = 1 << 2;
        /// Give a descriptor on which another process answers for the calls that the filter leaves open.
        const NEW_LISTENER = 1 << 3;
        /// A call that waits for such an answer can be interrupted by KILL only (Linux 5.19).
        const WAIT_KILLABLE_RECV = 1 << 5;
    }
}

// ANCHOR: set_filter
/// Sets a filter for this thread, for good: it can be followed by others, and never be taken off (man 2 seccomp,
/// SECCOMP_SET_MODE_FILTER). With [`Flags::NEW_LISTENER`], returns the descriptor on which another process answers.
///
/// EACCES unless no_new_privs is set or CAP_SYS_ADMIN is held: else a setuid program could be run with a filter that
/// makes its calls fail in ways that its author never thought of. EINVAL for a program that the kernel refuses, and
/// for a flag that it does not know.
pub fn set_filter(program: &[Instruction], flags: Flags) -> Result<Option<Fd>, Failure> {
    const SET_MODE_FILTER: libc::c_uint = 1;
    let count = u16::try_from(program.len()).unwrap_or(u16::MAX); // the kernel refuses more than 4096
    let text = Lazy(|| {
        let names = super::names(flags.iter_names().map(|(name, _)| name), "");
        format!("seccomp(SET_MODE_FILTER, {names}, {count} instructions)")
    });
    let program = Program { count, instructions: program.as_ptr() };
    // SAFETY: the kernel reads `program` and its `count` instructions, no more, and both outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags.bits(), &raw const program) };
    let set = match flags.contains(Flags::NEW_LISTENER) {
        // SAFETY: with this flag, a filter that was set gives a new descriptor.
        true => call(format_args!("{text}"), unsafe { new_fd(result, "listener") }).map(Some),
        false => call(format_args!("{text}"), Errno::result(result).map(drop)).map(|()| None),
    };
    set.hint_on(Errno::EACCES, "no_new_privs must be set before, or CAP_SYS_ADMIN be held")
}
// ANCHOR_END: set_filter
