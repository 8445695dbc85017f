//! Root's power in forty pieces (man 7 capabilities), and which of them a cell keeps.

use anyhow::{Context, Result};
use kernel::sys::privilege::{self, Sets};
use kernel::{Failure, purpose};

/// Their names, each at the place of its number (linux/capability.h), without the `CAP_` in front.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

// ANCHOR: default
/// What a cell keeps: what a server needs to start, to become another user, and to look after its own files. The list is
/// Docker's.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SYS_CHROOT",
    "MKNOD",
    "AUDIT_WRITE",
    "SETFCAP",
];
// ANCHOR_END: default

/// A set of capabilities, a bit for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Set(pub u64);

impl Set {
    /// The one of that name; `CAP_KILL`, `KILL` and `kill` are the same.
    ///
    /// # Errors
    /// A capability of that name does not exist.
    pub fn named(name: &str) -> Result<Set, Failure> {
        let upper = name.to_ascii_uppercase();
        let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let number = NAMES.iter().position(|known| *known == short).ok_or_else(|| {
            Failure::new(format!("there is no capability {name:?}")).hint("man 7 capabilities has the list")
        })?;
        Ok(Set(1 << number))
    }

    /// Docker's default.
    pub fn default_of_a_cell() -> Set {
        DEFAULT.iter().map(|name| Set::named(name).expect("it is in the table")).sum()
    }

    /// All that this table knows.
    pub fn known() -> Set {
        Set((1 << NAMES.len()) - 1)
    }

    /// What this process can hand on at all.
    pub fn to_be_had() -> Result<Set, Failure> {
        privilege::bounding_set().map(Set)
    }

    /// The capabilities of either set.
    pub fn and(self, other: Set) -> Set {
        Set(self.0 | other.0)
    }

    /// Without those.
    pub fn without(self, other: Set) -> Set {
        Set(self.0 & !other.0)
    }

    /// Whether it has the one of that name.
    pub fn has(self, name: &str) -> bool {
        Set::named(name).is_ok_and(|one| self.0 & one.0 != 0)
    }

    /// The names of those in it, as the kernel's documents write them.
    pub fn names(self) -> Vec<String> {
        let held = NAMES.iter().enumerate().filter(|(number, _)| self.0 >> number & 1 == 1);
        held.map(|(_, name)| format!("CAP_{name}")).collect()
    }
}

impl std::iter::Sum for Set {
    fn sum<I: Iterator<Item = Set>>(sets: I) -> Set {
        sets.fold(Set(0), Set::and)
    }
}

/// The five sets of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// What any program in the cell can ever have.
    pub bounding: Set,
    /// What the kernel looks at.
    pub effective: Set,
    /// What may be made effective.
    pub permitted: Set,
    /// What an exec hands on to a program whose file asks for it. Empty: CVE-2022-29162 was a runtime that left some in.
    pub inheritable: Set,
    /// What an exec hands on to every program, also when the user is not root.
    pub ambient: Set,
}

impl Capabilities {
    // ANCHOR: for_user
    /// The sets for root, or for another user: he gets only what was named for him, and keeps it across exec.
    pub fn for_user(is_root: bool, kept: Set, named: Set) -> Capabilities {
        if is_root {
            return Capabilities { bounding: kept, effective: kept, permitted: kept, ..Capabilities::default() };
        }
        let own = Set(named.0 & kept.0);
        Capabilities { bounding: kept, effective: own, permitted: own, inheritable: own, ambient: own }
    }
    // ANCHOR_END: for_user

    /// Takes out of the bounding set what no process in the cell may ever have. It needs CAP_SETPCAP, so it comes while all are
    /// still held.
    pub fn bound(&self) -> Result<()> {
        purpose("what no program in here can ever have, however it is started");
        privilege::keep_in_bounding_set(self.bounding.0).context("cannot take capabilities out of the bounding set")
    }

    /// Sets the other four.
    ///
    /// # Errors
    /// EPERM for one that this process does not have itself.
    pub fn set(&self) -> Result<()> {
        purpose("the capabilities that are left, exactly these");
        self.set_with(Set::default())?;
        self.hand_on()
    }

    /// Sets them as [`Capabilities::set`] does, and keeps the right to filter calls, where it is held, until
    /// [`Capabilities::drop_others`].
    ///
    /// # Errors
    /// EPERM for one that this process does not have itself.
    pub fn set_and_filter(&self) -> Result<()> {
        purpose("the capabilities that are left; and, until the filter is there, the right to set it");
        let held = Set(privilege::capabilities()?.permitted);
        let to_filter = Set::named("SYS_ADMIN").expect("it is in the table");
        self.set_with(Set(held.0 & to_filter.0))?;
        self.hand_on()
    }

    /// Drops all but those that were asked for. What is handed on to programs stays.
    ///
    /// # Errors
    /// A filter that does not allow it.
    pub fn drop_others(&self) -> Result<()> {
        purpose("the right to filter has served: the capabilities that are left, exactly these");
        self.set_with(Set::default())
    }

    fn set_with(&self, more: Set) -> Result<()> {
        let (effective, permitted) = (self.effective.and(more), self.permitted.and(more));
        privilege::set_capabilities(Sets {
            effective: effective.0,
            permitted: permitted.0,
            inheritable: self.inheritable.0,
        })
        .map_err(|refused| refused.hint("nobody can give what he does not have: grep Cap /proc/self/status"))
        .context("cannot set the capabilities")
    }

    fn hand_on(&self) -> Result<()> {
        privilege::raise_ambient(self.ambient.0).context("cannot hand capabilities on to programs")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_as_people_write_them() {
        assert_eq!(Set::named("CAP_CHOWN"), Ok(Set(1)));
        assert_eq!(Set::named("checkpoint_restore"), Ok(Set(1 << 40)));
        for wrong in ["", "CAP_", "ALL", "CAP_CAP_KILL", "KILL "] {
            assert!(Set::named(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(Set::named("kill").unwrap().names(), ["CAP_KILL"]);
    }

    #[test]
    fn the_default_is_dockers() {
        assert_eq!(Set::default_of_a_cell(), Set(0xa804_25fb));
    }

    #[test]
    fn an_ordinary_user_has_only_what_was_named() {
        let kept = Set::default_of_a_cell();
        let plain = Capabilities::for_user(false, kept, Set(0));
        assert_eq!((plain.bounding, plain.effective, plain.ambient), (kept, Set(0), Set(0)));
        let one = Set::named("NET_RAW").unwrap();
        let named = Capabilities::for_user(false, kept, one);
        assert_eq!((named.effective, named.inheritable, named.ambient), (one, one, one));
        assert_eq!(Capabilities::for_user(true, kept, one).inheritable, Set(0));
    }
}
