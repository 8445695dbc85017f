//! Step 7, the prison: an OCI runtime, made of the lessons' crates.
//!
//! An engine (podman, containerd, Docker) makes a *bundle*: a root filesystem, and beside it `config.json`, which says what
//! the container is to be (the OCI runtime specification). It then calls a *runtime*, with a verb: create, start, kill,
//! delete. No process of the runtime stays between these calls: what must be known is on disk ([`store`]), what must live is the
//! container's own first process.
//!
//! - [`spec`]: the configuration, read and checked.
//! - [`plan`]: from its words to the plans that the lessons' crates take.
//! - [`launch`] (with [`gate`]) and [`init`]: the parent's and the child's list of calls. They are the lessons' own, in the lessons' order.
//! - [`visit`]: the child's list of calls where one process more comes into a container.
//! - [`verbs`]: a file for each.
//! - [`groups`] and [`systemd`]: the container's control group, made by us or by systemd.
//! - [`mounts`], [`net_devices`]: the mounts that a configuration lists, and network devices that it moves.
//! - [`sys`]: the system calls that no lesson needs.
//! - [`cli`]: `run --rootfs`, with the options of all lessons, and the [`bundle`] that they would be.
//!
//! What a runtime needs besides:
//!
//! - for the caller: hooks ([`hooks`]), a terminal ([`terminal`], [`foreground`], [`relay`]), descriptors that the caller hands on
//!   ([`handed_on`]), pid files and pidfds ([`caller`]), a word to the service manager ([`notify`]), what it can do ([`features`]),
//!   durations and dates ([`clock`]), failures that callers can read ([`log`]);
//! - for the container: its own file out of its reach ([`own_program`]), its limits ([`resources`]), its security label ([`label`]),
//!   the filter's listener ([`listener`]), the wait for `start` ([`waiting`]), birth in another container's pid namespace
//!   ([`birth`], [`sibling`]), and its end ([`removal`]).

pub mod birth;
mod bundle;
pub mod caller;
pub mod cli;
pub mod clock;
pub mod features;
pub mod foreground;
pub mod gate;
pub mod groups;
pub mod handed_on;
pub mod hooks;
pub mod init;
pub mod label;
pub mod launch;
pub mod listener;
pub mod log;
pub mod mounts;
pub mod net_devices;
pub mod notify;
pub mod own_program;
pub mod plan;
pub mod relay;
pub mod removal;
pub mod resources;
mod second_try;
pub mod sibling;
pub mod spec;
pub mod store;
pub mod sys;
pub mod systemd;
pub mod terminal;
pub mod verbs;
pub mod visit;
pub mod waiting;
