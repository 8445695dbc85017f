//! What is known of a container: the JSON that `state` prints and hooks read (runtime.md, State).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::object::object;

object! {
    /// One container, now.
    State {
        required {
            /// The version of the specification that this is written by.
            oci_version: String,
            /// The container's name on this machine.
            id: String,
            /// Where it is in its life.
            status: Status,
            /// The absolute path of its bundle.
            bundle: String,
        }
        optional {
            /// Its process, as the host counts; absent before there is one, and once it has stopped.
            pid: Option<i32>,
            /// The configuration's annotations.
            annotations: BTreeMap<String, String>,
        }
    }
}

object! {
    /// What the listener of a seccomp filter gets with the descriptors (config-linux.md, The Container Process State).
    ContainerProcessState {
        required {
            /// The version of the specification that this is written by.
            oci_version: String,
            /// The process that has the filter, as the host counts.
            pid: i32,
            /// Its container.
            state: State,
        }
        optional {
            /// What the descriptors are, in their order: `seccompFd`.
            fds: Vec<String>,
            /// The profile's `listenerMetadata`.
            metadata: Option<String>,
        }
    }
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is being made.
    Creating,
    /// It is made, and waits for `start`.
    Created,
    /// Its process runs.
    Running,
    /// Its process has ended.
    Stopped,
    /// Its processes are frozen: not the specification's word, but what every caller expects after `pause`.
    Paused,
    /// It cannot be seen from here whether its process lives: not the specification's word either.
    Unknown,
}

impl Status {
    /// Its name in the JSON.
    pub fn name(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Stopped => "stopped",
            Status::Paused => "paused",
            Status::Unknown => "unknown",
        }
    }
}
