//! A call that fails once, for want of memory or because a signal came, says nothing of what it was to look at or remove. Where
//! no other command would try again, it is tried a second time.

/// The second outcome, if the first one is a failure.
pub fn twice<T, E>(attempt: impl Fn() -> Result<T, E>) -> Result<T, E> {
    attempt().or_else(|_| attempt())
}
