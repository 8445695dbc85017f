//! What must hold before anything is made.
//!
//! Reading a configuration has settled the types. Here is refused what cannot be meant, what the kernel would refuse in
//! the middle of the work, and what this runtime or this machine cannot do: each with one line that names the place.
//! Whatever passes is done as it says; nothing is dropped in silence.

use std::fmt::Display;

use cgroups::CpuList;
use kernel::Failure;

use super::locate::push_field;
use super::read::{manual, one_line};
use super::{HOOKS, Hooks, NamespaceKind, Spec};

mod linux;
mod maps;
mod mounts;
mod process;
mod resources;
mod sysctl;
mod unsupported;

pub use process::check_process;
pub use resources::check_resources;
pub use unsupported::is_done;

/// Names that other crates know: they take them, so they say which there are.
pub struct Known<'a> {
    /// Whether this is a capability, such as CAP_KILL.
    pub capability: &'a dyn Fn(&str) -> bool,
    /// Whether this is a resource limit, such as RLIMIT_NOFILE.
    pub rlimit: &'a dyn Fn(&str) -> bool,
}

/// Checks a whole configuration.
///
/// # Errors
/// The first rule that does not hold, as one line: `process.cwd: "tmp" is not an absolute path`.
pub fn check(spec: &Spec, known: &Known) -> Result<(), Failure> {
    check_version(&spec.oci_version)?;
    let process = spec.process.as_ref().ok_or_else(|| refuse("process", "missing: nothing would run"))?;
    check_process(process, "process.", known)?;
    check_root(spec)?;
    check_names(spec)?;
    mounts::check(spec)?;
    check_hooks(spec.hooks.as_ref())?;
    ensure(!spec.annotations.contains_key(""), "annotations", "a name is empty")?;
    if let Some(linux) = &spec.linux {
        linux::check(linux)?;
        sysctl::check(linux)?;
    }
    unsupported::check(spec)
}

/// Checks a container's id: it becomes a file's name, a cgroup's, and a part of messages.
///
/// # Errors
/// It is empty, longer than 255 bytes, `.` or `..`, or has other characters than letters, digits and `_ + - .`
pub fn check_id(id: &str) -> Result<(), Failure> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
    if !id.is_empty() && id.len() <= 255 && id != "." && id != ".." && id.bytes().all(allowed) {
        return Ok(());
    }
    Err(Failure::new(format!("invalid container id: {}", quoted(id)))
        .hint("letters, digits and _ + - . make an id, 255 of them at most; . and .. are none"))
}

/// Semantic versioning, and the major version is ours: what a later 1.x adds is ignored, as the specification wants.
fn check_version(version: &str) -> Result<(), Failure> {
    let suffix = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-+".contains(&byte));
    let (core, rest) = version.split_at(version.find(['-', '+']).unwrap_or(version.len()));
    let parts: Vec<Option<u64>> = core.split('.').map(number).collect();
    match parts[..] {
        [Some(1), Some(_), Some(_)] if rest.len() != 1 && suffix(rest) => Ok(()),
        [Some(_), Some(_), Some(_)] if suffix(rest) => {
            Err(refuse("ociVersion", format!("{} is not 1.x, which is all that is understood here", quoted(version))))
        }
        _ => Err(refuse("ociVersion", format!("{} is not a version, such as 1.2.0", quoted(version)))),
    }
}

/// Decimal digits alone, without a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn check_root(spec: &Spec) -> Result<(), Failure> {
    let root = spec.root.as_ref().ok_or_else(|| refuse("root", "missing: a container has a root directory"))?;
    ensure(!root.path.is_empty(), "root.path", "it is empty")
}

/// The kernel's own limit for both names (man 7 uts_namespaces).
const LONGEST_NAME: usize = 64;

fn check_names(spec: &Spec) -> Result<(), Failure> {
    let own = spec.linux.as_ref().is_some_and(|linux| linux.namespace(NamespaceKind::Uts).is_some());
    for (path, name) in [("hostname", &spec.hostname), ("domainname", &spec.domainname)] {
        let Some(name) = name else { continue };
        ensure(own, path, "without an own uts namespace it would be the host's that changes")?;
        ensure(name.len() <= LONGEST_NAME, path, format_args!("longer than {LONGEST_NAME} bytes"))?;
        ensure(!name.contains(char::is_control), path, "there is a control character in it")?;
    }
    Ok(())
}

fn check_hooks(hooks: Option<&Hooks>) -> Result<(), Failure> {
    let Some(hooks) = hooks else { return Ok(()) };
    for (moment, list) in HOOKS.into_iter().zip(hooks.all()) {
        for (index, hook) in list.iter().enumerate() {
            let at = format!("hooks.{moment}[{index}].");
            absolute(format_args!("{at}path"), &hook.path)?;
            process::check_env(&at, &hook.env)?;
            ensure(hook.timeout.is_none_or(|seconds| seconds > 0), format_args!("{at}timeout"), "must be above 0")?;
        }
    }
    Ok(())
}

/// Refuses what does not hold.
fn ensure(holds: bool, path: impl Display, why: impl Display) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(refuse(path, why)) }
}

fn refuse(path: impl Display, why: impl Display) -> Failure {
    // Not generic from here on: there are many kinds of callers, and each would have a copy of it.
    fn refusal(path: &dyn Display, why: &dyn Display) -> Failure {
        let path = one_line(&path.to_string());
        Failure::new(format!("{path}: {}", one_line(&why.to_string()))).hint(manual(&path))
    }
    refusal(&path, &why)
}

fn absolute(path: impl Display, value: &str) -> Result<(), Failure> {
    ensure(value.starts_with('/'), path, format_args!("{} is not an absolute path", quoted(value)))
}

/// A value from outside in quotes, its beginning at least.
fn quoted(value: &str) -> String {
    const MOST_CHARS: usize = 60;
    match value.char_indices().nth(MOST_CHARS) {
        Some((end, _)) => format!("{:?}...", &value[..end]),
        None => format!("{value:?}"),
    }
}

/// The path of a field of a map, whose name may have dots in it.
fn entry(map: &str, name: &str) -> String {
    let mut path = map.to_owned();
    push_field(&mut path, name);
    path
}

/// A list of CPUs or memory nodes, such as 0-3,7.
fn check_list(path: impl Display, list: &str) -> Result<(), Failure> {
    ensure(CpuList::parse(list).is_some(), path, format_args!("{} is not a list such as 0-3,7", quoted(list)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        for right in ["a", "A-1_b+c.d", "...", &"x".repeat(255)] {
            assert!(check_id(right).is_ok(), "{right:?}");
        }
        for wrong in ["", ".", "..", "a/b", "../a", "a b", "\u{e4}", "a\n", "a\0", &"x".repeat(256)] {
            assert!(check_id(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn versions() {
        for right in ["1.0.0", "1.3.0", "1.0.2-dev", "1.1.0-rc.1", "1.2.0+build", "1.99.0"] {
            assert!(check_version(right).is_ok(), "{right:?}");
        }
        for wrong in ["", "1", "1.0", "0.9.0", "2.0.0", "1.0.0-", "1.0.0- x", "+1.0.0", "1.0.x", "1.-1.0", "1..0"] {
            assert!(check_version(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn values_are_short_and_on_one_line() {
        let failure = refuse("a", format!("{} is wrong", quoted(&"\n\u{7f}\u{e4}".repeat(1 << 20))));
        assert!(failure.to_string().len() < 500 && !failure.to_string().contains('\n'), "{failure}");
    }
}
