//! Step 6, handcuffs: what root in a cell may still do.

pub mod seccomp;
