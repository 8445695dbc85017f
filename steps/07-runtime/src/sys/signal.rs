//! Signals of the runtime's own.

/// Does something during which a write to a pipe without a reader is an error, and not the end of this process: the child of a
/// launch has the default action for SIGPIPE, as its command is to have it (man 7 pipe).
pub fn without_sigpipe<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: no handler is set, so no code of ours can be called.
    let before = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    let result = work();
    // SAFETY: this is what was set before: an action of the kernel's, for this program has no handlers.
    unsafe { libc::signal(libc::SIGPIPE, before) };
    result
}
