//! With which rights would a launcher run here? `scripts/as-root` decides that on every `cargo run`; we decide alike.

use std::io::IsTerminal;
use std::process::{Command, Stdio};

use kernel::sys::clone::CloneFlags;
use kernel::{Errno, Failure, purpose};
use nix::unistd::{Group, Uid};

use crate::check::{Check, LAUNCHERS, Lack};
use crate::{probe, read};

/// How a launcher becomes root here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// We are.
    Root,
    /// Through sudo.
    Sudo,
    /// As root of a user namespace: the rootless sandbox.
    Sandbox,
    /// Not at all.
    Nowhere,
}

/// Our rights, and what became of the attempt at a sandbox.
#[derive(Debug)]
pub struct Rights {
    /// How a launcher becomes root.
    pub way: Way,
    /// Whether we may make a user namespace and be root in it.
    pub sandbox: Result<(), Errno>,
    root: bool,
}

/// What helps where an engine's container is around us.
pub const PRIVILEGED: &str = "in a container? start that one with more rights: docker run --privileged ...";

impl Rights {
    /// Looks whether we are root, and tries sudo and the sandbox.
    pub fn look() -> Rights {
        purpose("a user namespace, in which each user can be root: the sandbox of scripts/as-root");
        let sandbox = probe::in_sandbox(|| Ok(())).map_err(|failure| probe::errno(&failure));
        let root = Uid::effective().is_root();
        let way = if root && may_administer(&read("/proc/self/status")) {
            Way::Root
        } else if !root && sudo_usable() {
            Way::Sudo
        } else if !root && sandbox.is_ok() {
            Way::Sandbox
        } else {
            Way::Nowhere
        };
        Rights { way, sandbox, root }
    }

    /// The line about root.
    pub fn check(&self) -> Check {
        let result = match self.way {
            Way::Root if in_first_user_namespace() => Ok("yes"),
            Way::Root => Ok("yes, of a user namespace"),
            Way::Sudo => Ok("no, but sudo would do: cargo run goes through it (scripts/as-root)"),
            Way::Sandbox => Ok("no, but the rootless sandbox would do: cargo run takes it (scripts/as-root)"),
            Way::Nowhere if self.root => Err(Lack::new("uid 0, but without the capability CAP_SYS_ADMIN", PRIVILEGED)),
            Way::Nowhere => {
                let remedy = "log in as root, or as a user whom sudo trusts\nor allow user namespaces: see rootless";
                Err(Lack::new("no; sudo is not usable, and the rootless sandbox is refused", remedy))
            }
        };
        Check::new("root", LAUNCHERS, result.map(str::to_owned))
    }

    /// A command that needs root, as this user would type it.
    pub fn sudo(&self, command: &str) -> String {
        if self.root { command.to_owned() } else { format!("sudo {command}") }
    }

    /// Tries `work` in new `namespaces`, with the rights that a launcher would have.
    ///
    /// Where sudo would give them and we have none, nothing can be tried: then `in_kernel` must do, if it can tell. A
    /// refusal is explained by `lack`; EOPNOTSUPP says that the kernel does not have it.
    pub fn attempt(
        &self,
        namespaces: CloneFlags,
        work: impl FnOnce() -> Result<(), Failure>,
        in_kernel: impl FnOnce() -> Option<bool>,
        lack: impl FnOnce(Errno) -> Lack,
    ) -> Result<String, Lack> {
        let (tried, found) = match self.way {
            Way::Root => (probe::in_child(namespaces, work), "works"),
            Way::Sudo | Way::Sandbox if self.sandbox.is_ok() => {
                (probe::in_sandbox(|| probe::in_child(namespaces, work)), "works, inside a user namespace")
            }
            Way::Sudo => match in_kernel() {
                Some(true) => (Ok(()), "in this kernel (not tried, for that takes root)"),
                Some(false) => return Err(lack(Errno::EOPNOTSUPP)),
                None => return Err(Lack::unknown(NOT_TRIED)),
            },
            Way::Sandbox | Way::Nowhere => return Err(Lack::unknown(NOT_TRIED)),
        };
        tried.map(|()| found.to_owned()).map_err(|failure| lack(probe::errno(&failure)))
    }
}

/// Whether ids mean here what they mean to the kernel: the first user namespace has all of them, as they are.
pub fn in_first_user_namespace() -> bool {
    read("/proc/self/uid_map").split_whitespace().eq(["0", "0", "4294967295"])
}

const NOT_TRIED: &str = "not tried, for that takes root";

/// Why the kernel refused, in its own word and in plain ones, and what usually helps.
pub fn refused(errno: Errno) -> Lack {
    let found = format!("refused with {errno:?} ({})", errno.desc().to_lowercase());
    match errno {
        Errno::EAGAIN => Lack::new(found, "too many processes? ulimit -u"),
        Errno::ENOSPC => Lack::new(found, "too many namespaces? sysctl user"),
        Errno::ENOSYS => Lack::new(format!("{found}: a seccomp filter hides the call"), PRIVILEGED),
        _ => Lack::new(found, PRIVILEGED),
    }
}

/// A line of /proc/self/status, without its name.
pub fn status_field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// Whether CAP_SYS_ADMIN is among the effective capabilities: an engine's container has a root without it. Where that
/// cannot be read, the trials will tell.
fn may_administer(status: &str) -> bool {
    const SYS_ADMIN: u64 = 1 << 21;
    let effective = status_field(status, "CapEff").and_then(|hex| u64::from_str_radix(hex, 16).ok());
    effective.is_none_or(|set| set & SYS_ADMIN != 0)
}

/// Whether scripts/as-root would take sudo: it asks for no password, or can ask for it here.
fn sudo_usable() -> bool {
    if std::env::var_os("CELLBLOCK_AS_ROOT").is_some_and(|way| way == "sandbox") {
        return false;
    }
    let quiet = || Stdio::null();
    let sudo = Command::new("sudo").args(["-n", "true"]).stdin(quiet()).stdout(quiet()).stderr(quiet()).status();
    sudo.is_ok_and(|status| status.success() || std::io::stderr().is_terminal() && sudo_trusts_a_group())
}

fn sudo_trusts_a_group() -> bool {
    let groups = nix::unistd::getgroups().unwrap_or_default();
    let names = groups.iter().filter_map(|gid| Group::from_gid(*gid).ok().flatten()).map(|group| group.name);
    names.into_iter().any(|name| ["sudo", "wheel", "admin"].contains(&name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engines_root_may_not_administer() {
        assert!(may_administer("Name:\tdoctor\nCapEff:\t000001ffffffffff\n"));
        assert!(!may_administer("CapPrm:\t00000000a80425fb\nCapEff:\t00000000a80425fb\n"));
        assert!(may_administer(""), "it cannot be read: the trials will tell");
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let status = "Seccomp:\t2\nSeccomp_filters:\t1\n";
        assert_eq!(status_field(status, "Seccomp"), Some("2"));
        assert_eq!(status_field(status, "Seccomp_filters"), Some("1"));
        assert_eq!(status_field(status, "Sec"), None);
    }
}
