//! The inmate's system calls. The classroom uses some of them to put up what the attacks look for.

pub mod sys;
