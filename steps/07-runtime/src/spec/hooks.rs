//! Programs of the caller's that run at six moments of a container's life: `hooks` (config.md, POSIX-platform Hooks).

use super::object::object;

object! {
    /// The hooks, by their moment; those of one moment run in the order of the list.
    #[derive(Default)]
    Hooks {
        optional {
            /// On the host, when the namespaces are made; as `create_runtime`, and older.
            prestart: Vec<Hook>,
            /// On the host, when the namespaces are made and the root is not yet pivoted.
            create_runtime: Vec<Hook>,
            /// In the container's namespaces, before the root is pivoted; the path is the host's.
            create_container: Vec<Hook>,
            /// In the container, by its own paths, as the last thing before the process.
            start_container: Vec<Hook>,
            /// On the host, when the process runs.
            poststart: Vec<Hook>,
            /// On the host, when the container is gone.
            poststop: Vec<Hook>,
        }
    }
}

/// The names of the six moments, in the order in which they come.
pub const HOOKS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

impl Hooks {
    /// The hooks of all six moments, in the order of [`HOOKS`].
    pub fn all(&self) -> [&[Hook]; 6] {
        [
            &self.prestart,
            &self.create_runtime,
            &self.create_container,
            &self.start_container,
            &self.poststart,
            &self.poststop,
        ]
    }
}

object! {
    /// One program; it gets the [`State`](super::State) on its standard input.
    #[derive(Default)]
    Hook {
        required {
            /// The program: an absolute path.
            path: String,
        }
        optional {
            /// Its arguments, its own name the first.
            args: Vec<String>,
            /// Its variables, each as NAME=VALUE.
            env: Vec<String>,
            /// Seconds after which it is killed. Default: never.
            timeout: Option<i64>,
        }
    }
}
