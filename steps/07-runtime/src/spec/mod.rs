//! The configuration of a container, as a caller writes it: `config.json` of the OCI runtime specification.
//!
//! It is all of version 1.2 for Linux and what 1.3 adds. Each part has a file, and each field its name there in Rust's
//! form. Reading it ([`read`], [`parse`]) refuses what has the wrong type, [`check`] what cannot be meant or cannot be
//! done, both before anything is made, each with one line that names the place: `process.rlimits[2].soft`. A field that
//! the specification does not know is ignored, as it demands.
//!
//! The types are our own, and lean: the runtime seals a copy of itself into memory at each start (see Cargo.toml).

use std::collections::BTreeMap;

mod check;
mod hooks;
mod linux;
mod locate;
mod mounts;
mod object;
mod process;
mod read;
mod resources;
mod state;
mod template;

pub use check::{Known, check, check_id, check_process, check_resources, is_done};
pub use hooks::*;
pub use linux::*;
pub use mounts::*;
pub use process::*;
pub use read::{contents, parse, read};
pub use resources::*;
pub use state::*;
pub use template::{rootless, template, to_json};

use object::object;

/// The oldest version of the specification whose configurations are understood.
pub const OLDEST: &str = "1.0.0";

/// The newest version of the specification that is known here; this is what we write.
pub const NEWEST: &str = "1.3.0";

object! {
    /// A container's whole configuration (config.md).
    #[derive(Default)]
    Spec {
        required {
            /// The version of the specification that it is written by, such as 1.2.0.
            oci_version: String,
        }
        optional {
            /// What runs in it.
            process: Option<Process>,
            /// Its root directory.
            root: Option<Root>,
            /// Its host name.
            hostname: Option<String>,
            /// Its NIS domain name.
            domainname: Option<String>,
            /// What is mounted in it.
            mounts: Vec<Mount>,
            /// Programs of the caller's that run at six moments of its life.
            hooks: Option<Hooks>,
            /// Whatever the caller notes down.
            annotations: BTreeMap<String, String>,
            /// What only Linux has.
            linux: Option<Linux>,
        }
    }
}

object! {
    /// The root directory (config.md, Root).
    #[derive(Default)]
    Root {
        required {
            /// A directory of the host, from the bundle if not absolute.
            path: String,
        }
        optional {
            /// Whether it cannot be written. Default: false.
            readonly: bool,
        }
    }
}

#[cfg(test)]
mod tests;

impl Spec {
    /// Whether it was written for version 1.`minor` of the specification, or a later one.
    pub fn is_at_least(&self, minor: u64) -> bool {
        let own = self.oci_version.split('.').nth(1).and_then(|number| number.parse::<u64>().ok());
        own.is_some_and(|own| own >= minor)
    }

    /// Whether the container gets a pid namespace of its own: then all its processes end with its first.
    pub fn has_pid_namespace(&self) -> bool {
        let own = |namespace: &Namespace| namespace.kind == NamespaceKind::Pid && namespace.path.is_none();
        self.linux.iter().flat_map(|linux| &linux.namespaces).any(own)
    }
}
