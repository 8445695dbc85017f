//! Step 7, the prison: an OCI runtime.
//!
//! - [`spec`]: the configuration that a caller writes, read, checked, and written.
//! - [`features`]: what this runtime can do, told to callers.

pub mod features;
pub mod spec;
