//! Planted holes: what each wall is worth is seen when it is taken out.
//!
//! A check that says SAFE may be blind. So each is run against a launcher or a runtime with that wall missing, which must be
//! ESCAPED or UNSAFE. The list of [`holes`] is data: a name, and the lines that change. It is applied to a copy of the
//! repository, never to the repository, and says so loudly when a function or a line is gone.

pub mod holes;
mod mends;
pub mod proof;
mod runtime;
pub mod tree;
