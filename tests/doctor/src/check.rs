//! One thing that lessons need: is it here, what was found, what helps, and which steps need it.

use serde::Serialize;

/// The steps by name, from the ground up. Step N is `STEPS[N]`.
pub const STEPS: &[&str] =
    &["kernel", "chroot", "namespaces", "pivot-root", "network", "cgroups", "privileges", "cellblock"];

/// From step 1 on there is a command to run, so a root filesystem and the right to enter it.
pub const LAUNCHERS: &[&str] = STEPS.split_at(1).1;
/// From step 2 on the child is born into namespaces.
pub const NAMESPACES: &[&str] = STEPS.split_at(2).1;
/// From step 3 on mounts are made.
pub const MOUNTS: &[&str] = STEPS.split_at(3).1;
/// From step 4 on the network is the cell's own.
pub const NETWORKS: &[&str] = STEPS.split_at(4).1;
/// No step: good to know, or for a later lesson or an option.
pub const NOBODY: &[&str] = &[];

/// The line about one thing. Its fields are the JSON's keys, and stay as they are.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// Under which name the line is known.
    pub name: &'static str,
    /// Whether it is here; `None` where there is nothing to be had or lacked, or it cannot be told.
    pub ok: Option<bool>,
    /// What was found.
    pub found: String,
    /// What to type or do, a line each.
    pub remedy: Option<String>,
    /// The steps that do not run without it.
    pub needed_by: &'static [&'static str],
}

/// What is not here, and what helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// What was found instead.
    pub found: String,
    /// What to type or do, a line each. Without one it cannot be told, for something else is lacking that is needed to
    /// look; that has a line of its own, with its remedy.
    pub remedy: Option<String>,
}

impl Lack {
    /// What was found, and what helps.
    pub fn new(found: impl Into<String>, remedy: impl Into<String>) -> Lack {
        Lack { found: found.into(), remedy: Some(remedy.into()) }
    }

    /// Why it cannot be told.
    pub fn unknown(found: impl Into<String>) -> Lack {
        Lack { found: found.into(), remedy: None }
    }
}

impl Check {
    /// A thing that is here or lacking.
    pub fn new(name: &'static str, needed_by: &'static [&'static str], result: Result<String, Lack>) -> Check {
        let (ok, found, remedy) = match result {
            Ok(found) => (Some(true), found, None),
            Err(Lack { found, remedy: Some(remedy) }) => (Some(false), found, Some(remedy)),
            Err(Lack { found, remedy: None }) => (None, found, None),
        };
        Check { name, ok, found, remedy, needed_by }
    }

    /// A thing that is only good to know.
    pub fn note(name: &'static str, found: impl Into<String>) -> Check {
        Check { name, ok: None, found: found.into(), remedy: None, needed_by: NOBODY }
    }

    /// Whether a step does not run for lack of it.
    pub fn hinders(&self, step: &str) -> bool {
        self.ok == Some(false) && self.needed_by.contains(&step)
    }

    /// A tick, a cross, or a dot: a lack that hinders no step is no cross.
    pub fn mark(&self) -> char {
        match self.ok {
            Some(true) => '✓',
            Some(false) if !self.needed_by.is_empty() => '✗',
            _ => '•',
        }
    }
}
