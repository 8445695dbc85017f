//! Step 6, handcuffs: root in the cell is not root on the host.
//!
//! The walls are built by a root who may do everything, and until now the command *is* that root. It can take the walls
//! down again: mount a /proc on which nothing is read-only, read the host's disk by inode number. So it is given less:
//!
//! - a *user namespace* ([`IdMaps`]): root of the cell only, and an ordinary user outside;
//! - *capabilities* ([`Capabilities`]): of root's forty powers those that a server needs;
//! - a *seccomp* filter ([`seccomp`]): of the kernel's 350 calls those that programs make;
//! - *no new privileges*: no program in here gets more rights than the process that starts it;
//! - limits, a keyring of its own, a umask of its own.
//!
//! What order matters: [`Confinement::apply`]. Most of these need a right that another takes away.

use std::path::Path;

use anyhow::{Context, Result};
use kernel::sys::clone::CloneFlags;
use kernel::sys::privilege;
use kernel::{Errno, Fd, Remedy, purpose};
use namespaces::Child;
use pivot_root::{Mounts, Sources};

mod capabilities;
mod channel;
mod command;
mod id_maps;
mod options;
mod range;
mod reservation;
mod rlimits;
pub mod seccomp;
mod subordinate;
mod switches;
mod user;

pub use capabilities::{Capabilities, Set};
pub use channel::DescriptorChannel;
pub use command::{UserCommand, at_home};
pub use id_maps::IdMaps;
pub use options::{PrivilegeOptions, Privileges};
pub use range::Range;
pub use reservation::{Reservation, remove_old_reservations};
pub use rlimits::Rlimit;
pub use subordinate::SubordinateIds;
pub use switches::Switch;
pub use user::{Asked, User, home_of};

impl Privileges {
    /// The namespace that the child is born into, with all others: they belong to it, and its root is root in them.
    pub fn flags(&self) -> CloneFlags {
        if self.id_maps.is_some() { CloneFlags::CLONE_NEWUSER } else { CloneFlags::empty() }
    }

    // ANCHOR: set_up_child
    /// The parent's part, while the child waits at the gate: the maps of its ids; limits that only the parent can raise; and
    /// mounts of the host's files that show other owners.
    pub fn set_up_child(
        &self,
        child: &Child,
        channel: &DescriptorChannel,
        rootfs: &Path,
        mounts: &Mounts,
    ) -> Result<()> {
        let Some(id_maps) = &self.id_maps else { return self.raise_limits(child) };
        self.reservation.as_ref().map_or(Ok(()), |ids| ids.is_of(child.pid()))?;
        id_maps.write(child.pid())?;
        give_standard_of(child.pid(), self.user.find_below(rootfs)?.uid);
        self.raise_limits(child)?;
        if id_maps.is_ours_to_choose() {
            let sources = Sources::open(rootfs, mounts)?;
            sources.make_private()?;
            channel::show_as_theirs(&sources, id_maps, child.pid())?;
            channel.send(&sources)?;
        }
        Ok(())
    }
    // ANCHOR_END: set_up_child

    fn raise_limits(&self, child: &Child) -> Result<()> {
        self.rlimits.iter().try_for_each(|limit| limit.raise(child.pid()))
    }

    // ANCHOR: take_on_root
    /// The child's first step: it becomes root of its user namespace. It was born with the launcher's user, which has no id there.
    pub fn take_on_root(&self) -> Result<()> {
        if self.id_maps.is_some() {
            purpose("become root of this user namespace: until now this process had no id in it");
            User::default().switch_to()?;
            namespaces::die_with_parent()?;
        }
        purpose("no other process may look into this one while it holds what is the launcher's (CVE-2016-9962)");
        Ok(privilege::not_dumpable()?)
    }
    // ANCHOR_END: take_on_root

    /// The host's files for the cell: from the parent, or opened here where the parent has no more rights than the child.
    pub fn sources(&self, channel: &DescriptorChannel, rootfs: &Path, mounts: &Mounts) -> Result<Sources> {
        match &self.id_maps {
            Some(id_maps) if id_maps.is_ours_to_choose() => channel.receive(mounts.volume_count()),
            _ => Sources::open(rootfs, mounts),
        }
    }

    /// Looks the user up in the new root, and decides what the command is to have.
    ///
    /// # Errors
    /// The root filesystem has no such user.
    pub fn confinement(&self) -> Result<Confinement<'_>> {
        let user = self.user.find()?;
        let capabilities = Capabilities::for_user(user.uid == 0, self.kept, self.named);
        Ok(Confinement {
            new_keyring: self.new_keyring,
            rlimits: &self.rlimits,
            user,
            keeps_groups: false,
            capabilities,
            no_new_privileges: self.no_new_privileges,
            filter: self.filter.as_ref(),
            umask: self.umask,
            own_terminal: false,
        })
    }
}

/// What a process has and does not have, from its exec on.
#[derive(Debug)]
pub struct Confinement<'a> {
    /// Leave the caller's session keyring.
    pub new_keyring: bool,
    /// Limits of the process.
    pub rlimits: &'a [Rlimit],
    /// The user that it runs as.
    pub user: User,
    /// It stays in the caller's other groups, instead of the user's (step 7).
    pub keeps_groups: bool,
    /// Its five sets.
    pub capabilities: Capabilities,
    /// No program that it starts gets more rights.
    pub no_new_privileges: bool,
    /// Which calls it can make.
    pub filter: Option<&'a seccomp::Filter>,
    /// Which rights new files do not have.
    pub umask: u32,
    /// Its terminal was made for it (step 7).
    pub own_terminal: bool,
}

impl Confinement<'_> {
    // ANCHOR: apply_all
    /// Applies all of it, in the only order that works. `look` is called as the command's user and before the filter, which need
    /// not allow what it does. Returns the filter's listener, if it has one.
    ///
    /// # Errors
    /// What the kernel refuses: no command starts with more than it was to have.
    pub fn apply(&self, look: impl FnOnce() -> Result<()>) -> Result<Option<Fd>> {
        self.drop_privileges()?;
        look()?;
        let early = self.filter_early()?;
        Ok(self.apply_filter()?.or(early))
    }

    /// Keyring, limits, user and capabilities: all but the filter, and the one capability that an early filter needs.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn drop_privileges(&self) -> Result<()> {
        privilege::give_standard(self.user.uid, self.own_terminal);
        if self.new_keyring {
            leave_keyring()?;
        }
        self.rlimits.iter().try_for_each(Rlimit::set)?;
        kernel::sys::process::umask(self.umask);
        self.capabilities.bound()?; // needs SETPCAP
        purpose("the user that the command runs as: groups first, they cannot be changed once root is given up");
        privilege::keep_capabilities()?; // else all are lost with root
        if self.keeps_groups {
            self.user.switch_ids()?;
        } else {
            self.user.switch_to()?;
        } // needs SETGID and SETUID
        if self.filters_early() {
            self.capabilities.set_and_filter()?
        } else {
            self.capabilities.set()?
        }
        namespaces::die_with_parent() // a change of user has made the kernel forget it
    }

    /// Applies the filter where new privileges are allowed: only CAP_SYS_ADMIN gives the right to it then. The capability was kept
    /// until now, and is dropped: that is all that this filter must allow besides the exec.
    pub fn filter_early(&self) -> Result<Option<Fd>> {
        if !self.filters_early() {
            return Ok(None);
        }
        let listener = self.filter_calls()?;
        self.capabilities.drop_others()?;
        Ok(listener)
    }

    fn filters_early(&self) -> bool {
        self.filter.is_some() && !self.no_new_privileges
    }

    /// The last two: no new privileges, then the filter, which need not allow any call of [`Confinement::drop_privileges`].
    pub fn apply_filter(&self) -> Result<Option<Fd>> {
        if !self.no_new_privileges {
            return Ok(None);
        }
        purpose("no program in here gets more rights than the process that starts it");
        privilege::no_new_privileges()?;
        self.filter_calls()
    }
    // ANCHOR_END: apply_all

    fn filter_calls(&self) -> Result<Option<Fd>> {
        self.filter.map_or(Ok(None), seccomp::Filter::apply)
    }
}

/// The parent's part where the child is in another user namespace: its rights do not reach what the host's users own. The
/// user's number is the one in there.
pub fn give_standard_of(child: i32, uid: u32) {
    if let Some(outside) = id_maps::outside(child, uid) {
        privilege::give_standard(outside, false);
    }
}

/// Leaves the caller's keys behind. The new keyring has no name: one that is joined by name may have been made before by
/// another user of the host, who would then read what is put into it.
fn leave_keyring() -> Result<()> {
    purpose("keys of its own: the caller's stay outside");
    privilege::join_session_keyring()
        .hint_on(Errno::ENOSYS, "this kernel keeps no keys, so there are none to leave: --no-new-keyring")
        .context("cannot leave the caller's keyring")
}
