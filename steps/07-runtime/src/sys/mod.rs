//! The system calls that only a runtime makes, beside the lessons' own in [`kernel::sys`].
//!
//! | file | used for |
//! |---|---|
//! | [`arena`] | the memory of a program that lives for a moment |
//! | [`descriptor`] | descriptors that another program has opened, by number |
//! | [`event`] | a counter that the kernel adds to |
//! | [`namespace`] | namespaces and processes that are there already: joined, signalled, waited for |
//! | [`pattern`] | regular expressions |
//! | [`poll`] | several descriptors waited for at once, and bytes moved between them |
//! | [`schedule`] | scheduler, priorities, processors, memory policy, personality |
//! | [`signal`] | the runtime's own signals |
//! | [`terminal`] | pseudo-terminals |
#![allow(unsafe_code)]

pub mod arena;
pub mod descriptor;
pub mod event;
pub mod namespace;
pub mod pattern;
pub mod poll;
pub mod schedule;
pub mod signal;
pub mod terminal;
