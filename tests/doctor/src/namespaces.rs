//! Namespaces: one of each kind, made in a child that ends at once; and whether an ordinary user may make them.

use std::path::Path;

use kernel::explain::call;
use kernel::sys::clone::{CloneFlags, unshare_time};
use kernel::{Errno, Failure, purpose};
use nix::unistd::{Gid, Uid};
use privileges::Switch;

use crate::check::{Check, Lack, NAMESPACES, NETWORKS, NOBODY};
use crate::rights::{PRIVILEGED, Rights, Way, refused};
use crate::{probe, read};

/// A kind of namespace.
struct Kind {
    check: &'static str,
    flag: CloneFlags,
    /// Its file in /proc/self/ns, and its name in /proc/sys/user.
    file: &'static str,
    option: &'static str,
    needed_by: &'static [&'static str],
}

const fn kind(
    check: &'static str,
    flag: CloneFlags,
    file: &'static str,
    option: &'static str,
    needed_by: &'static [&'static str],
) -> Kind {
    Kind { check, flag, file, option, needed_by }
}

/// The cgroup and the time namespace are options of lesson 2; only the runtime cannot do without the former.
const KINDS: [Kind; 7] = [
    kind("pid-namespace", CloneFlags::CLONE_NEWPID, "pid", "CONFIG_PID_NS", NAMESPACES),
    kind("uts-namespace", CloneFlags::CLONE_NEWUTS, "uts", "CONFIG_UTS_NS", NAMESPACES),
    kind("ipc-namespace", CloneFlags::CLONE_NEWIPC, "ipc", "CONFIG_IPC_NS", NAMESPACES),
    kind("mount-namespace", CloneFlags::CLONE_NEWNS, "mnt", "CONFIG_NAMESPACES", NAMESPACES),
    kind("net-namespace", CloneFlags::CLONE_NEWNET, "net", "CONFIG_NET_NS", NETWORKS),
    kind("cgroup-namespace", CloneFlags::CLONE_NEWCGROUP, "cgroup", "CONFIG_CGROUPS", &["cellblock"]),
    kind("time-namespace", CloneFlags::empty(), "time", "CONFIG_TIME_NS", NOBODY),
];

const USER: Kind =
    kind("user-namespace", CloneFlags::CLONE_NEWUSER, "user", "CONFIG_USER_NS", &["privileges", "cellblock"]);

/// The lines about namespaces.
pub fn checks(rights: &Rights) -> Vec<Check> {
    purpose("a namespace of each kind, in a child that ends at once");
    let mut checks: Vec<Check> = KINDS.iter().map(|kind| kind.check(rights)).collect();
    checks.push(user_namespace(rights));
    // From step 6 on a launcher runs as the user that starts it. Root can do without.
    let needed_by = if Uid::effective().is_root() { NOBODY } else { &["privileges"] };
    checks.push(Check::new("rootless", needed_by, rootless(rights)));
    checks
}

impl Kind {
    fn check(&self, rights: &Rights) -> Check {
        // A time namespace is entered by the next child: to make one, unshare is enough (man 7 time_namespaces).
        let work = || if self.flag.is_empty() { unshare_time() } else { Ok(()) };
        let result = rights.attempt(self.flag, work, || Some(self.is_in_kernel()), |errno| self.lack(errno, rights));
        Check::new(self.check, self.needed_by, result)
    }

    fn is_in_kernel(&self) -> bool {
        Path::new("/proc/self/ns").join(self.file).exists()
    }

    /// Why it cannot be made, by the errno that clone3 or unshare gave.
    fn lack(&self, errno: Errno, rights: &Rights) -> Lack {
        let limit = format!("user.max_{}_namespaces", self.file);
        match errno {
            Errno::EINVAL | Errno::EOPNOTSUPP => Lack::new(
                "not in this kernel",
                format!("boot a distribution's own kernel, or any with {}", self.option),
            ),
            Errno::ENOSPC if setting(&limit) == "0" => {
                Lack::new(format!("{limit}=0 forbids it"), rights.sudo(&format!("sysctl -w {limit}=10000")))
            }
            Errno::ENOSPC => Lack::new("as many as allowed are there, or nested too deep", format!("sysctl {limit}")),
            Errno::EPERM if self.flag == CloneFlags::CLONE_NEWUSER => {
                Lack::new(refused(errno).found, format!("{PRIVILEGED}\nin a chroot? try outside of it"))
            }
            _ => refused(errno),
        }
    }
}

/// The attempt was made already: it says by which way a launcher can become root.
fn user_namespace(rights: &Rights) -> Check {
    let result = match rights.sandbox {
        Ok(()) => Ok("works".to_owned()),
        Err(_) if rights.way == Way::Sudo && USER.is_in_kernel() && setting("user.max_user_namespaces") != "0" => {
            Ok("in this kernel (not tried, for that takes root)".to_owned())
        }
        Err(errno) => Err(USER.lack(errno, rights)),
    };
    Check::new(USER.check, USER.needed_by, result)
}

/// Whether an ordinary user may make a user namespace. Root tries it as nobody.
fn rootless(rights: &Rights) -> Result<String, Lack> {
    purpose("a user namespace again, made by nobody");
    let nobody_is_here = Uid::effective().is_root() && probe::in_child(CloneFlags::empty(), become_nobody).is_ok();
    let tried = if nobody_is_here {
        let as_nobody = || become_nobody().and_then(|()| probe::in_sandbox(|| Ok(())));
        probe::in_child(CloneFlags::empty(), as_nobody).map_err(|failure| probe::errno(&failure))
    } else {
        rights.sandbox
    };
    let allowed = || "an ordinary user may make user namespaces".to_owned();
    tried.map(|()| allowed()).map_err(|errno| match switch(setting) {
        Some((found, remedy)) => Lack::new(found, rights.sudo(&remedy)),
        None => USER.lack(errno, rights),
    })
}

/// Gives up root for good. Refused inside a user namespace that has no such user.
fn become_nobody() -> Result<(), Failure> {
    const NOBODY: u32 = 65534;
    call(format_args!("setgroups([])"), nix::unistd::setgroups(&[]))?;
    call(format_args!("setgid({NOBODY})"), nix::unistd::setgid(Gid::from_raw(NOBODY)))?;
    call(format_args!("setuid({NOBODY})"), nix::unistd::setuid(Uid::from_raw(NOBODY)))?;
    // Changing ids hands our files in /proc over to root, the id maps too (man 5 proc, "dumpable"): take them back.
    call(format_args!("prctl(SET_DUMPABLE, 1)"), nix::sys::prctl::set_dumpable(true))
}

/// A sysctl's value, empty where this kernel does not have it.
fn setting(name: &str) -> String {
    read(&format!("/proc/sys/{}", name.replace('.', "/"))).trim().to_owned()
}

/// The switch that forbids user namespaces, and the command that turns it.
fn switch(setting: impl Fn(&str) -> String) -> Option<(String, String)> {
    let Switch { name, forbids, allows } = Switch::that_forbids(setting)?;
    Some((format!("{name}={forbids} forbids it"), format!("sysctl -w {name}={allows}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_switch_that_forbids_is_named() {
        let ubuntu = |name: &str| match name {
            "kernel.unprivileged_userns_clone" => "1".to_owned(),
            "user.max_user_namespaces" => "63000".to_owned(),
            _ => "1".to_owned(),
        };
        let (found, remedy) = switch(ubuntu).unwrap();
        assert_eq!(found, "kernel.apparmor_restrict_unprivileged_userns=1 forbids it");
        assert_eq!(remedy, "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0");
        assert_eq!(switch(|_| String::new()), None, "no such switches here");
    }
}
