//! The system calls that only a runtime makes, beside the lessons' own in [`kernel::sys`].
//!
//! | file | used for |
//! |---|---|
//! | [`arena`] | the memory of a program that lives for a moment |
//! | [`descriptor`] | descriptors that another program has opened, by number |
//! | [`namespace`] | namespaces and processes that are there already: joined, signalled, waited for |
//! | [`poll`] | several descriptors waited for at once, and bytes moved between them |
//! | [`schedule`] | scheduler, priorities, processors, memory policy, personality |
//! | [`signal`] | the runtime's own signals |
//! | [`terminal`] | pseudo-terminals |
#![allow(unsafe_code)]

pub mod arena;
pub mod descriptor;
pub mod namespace;
pub mod poll;
pub mod schedule;
pub mod signal;
pub mod terminal;
