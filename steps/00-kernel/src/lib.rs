//! Step 0, the ground: talking to the kernel.
//!
//! A container is nothing that the kernel knows. It is an ordinary process that asked the kernel for a few
//! things in the right order. This crate is how every later step asks:
//!
//! - [`sys`]: the system calls, one thin function each. `unsafe` stands only in folders and files named `sys`, here and in later steps.
//! - [`explain`]: what `--explain` tells of each call, made at one place and free when off.
//! - [`failure`]: a call that was refused, as one line that names the object, the call and the reason, with a remedy.
//! - [`identity`]: what tells a thing from its successor of the same name or number.
//! - [`launcher`]: how every binary begins and ends.

pub mod explain;
pub mod failure;
pub mod identity;
pub mod launcher;
pub mod outside;
pub mod sys;

pub use explain::{ExplainOptions, purpose};
pub use failure::{Failure, Remedy};
pub use nix::errno::Errno;
pub use sys::Fd;
