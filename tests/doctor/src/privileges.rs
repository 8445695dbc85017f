//! What step 6 asks for besides user namespaces and filters: ids for more than one user, mounts that show other owners,
//! keyrings. Its launcher runs as the user that starts it, never through sudo, so here our own user counts.

use std::path::Path;

use kernel::sys::clone::{self, Clone, CloneFlags};
use kernel::sys::mount::{self, Depth};
use kernel::sys::privilege;
use kernel::{Errno, Failure, purpose};
use nix::unistd::{Uid, User};
use privileges::SubordinateIds;

use crate::check::{Check, Lack, NOBODY};
use crate::rights::{Rights, Way, in_first_user_namespace, refused};
use crate::{find_program, network, probe, rootfs};

const STEP: &[&str] = &["privileges"];

/// The lines about ids, owners and keys.
pub fn checks(rights: &Rights) -> Vec<Check> {
    vec![subordinate_ids(rights), idmapped_mounts(rights), Check::new("keyring", STEP, keyring())]
}

const SET_ASIDE_FOR_CELLS: &str = "root's cells take what is set aside for cellblock in /etc/subuid and /etc/subgid";
const NOT_SET_ASIDE: &str =
    "root's cells take ids that are given to nobody, from 2013265920 on; scripts/bootstrap sets some aside";

/// An ordinary user's cell has as many users as were set aside for him; without any, it has root alone.
fn subordinate_ids(rights: &Rights) -> Check {
    const NAME: &str = "subordinate-ids";
    let user = Uid::effective();
    let set_aside = SubordinateIds::read();
    if user.is_root() {
        return Check::note(NAME, if set_aside.has_ours() { SET_ASIDE_FOR_CELLS } else { NOT_SET_ASIDE });
    }
    let name = User::from_uid(user).ok().flatten().map(|user| user.name);
    let helpers = ["newuidmap", "newgidmap"].iter().all(|program| find_program(program).is_some());
    let result = match set_aside.of_user(user.as_raw(), name.as_deref()) {
        _ if !helpers => {
            let found = "the programs newuidmap and newgidmap are not installed: a cell has a single user";
            Err(Lack::new(found, rights.sudo(&network::install("uidmap"))))
        }
        Some((users, groups)) => Ok(format!("{} more users and {} groups, by newuidmap", users.count, groups.count)),
        None => {
            let first = set_aside.first_free();
            let range = format!("{first}-{}", first + 65535);
            let name = name.unwrap_or_else(|| user.to_string());
            let command = format!("usermod --add-subuids {range} --add-subgids {range} {name}");
            let found = "nothing is set aside in /etc/subuid and /etc/subgid: a cell has a single user";
            Err(Lack::new(found, rights.sudo(&command)))
        }
    };
    Check::new(NAME, NOBODY, result)
}

/// Files of the host with the cell's owners: root's cells need it, of the file system that the root filesystem is on.
fn idmapped_mounts(rights: &Rights) -> Check {
    const NAME: &str = "idmapped-mounts";
    if rights.way != Way::Root {
        return Check::note(NAME, "not for an ordinary user: in his cell, files of others have no owner");
    }
    if !in_first_user_namespace() {
        return Check::note(NAME, "not needed: in this user namespace, a cell has the ids that we have");
    }
    purpose("files with other owners, in a mount that has no place");
    let place = rootfs::place();
    let result = rights.attempt(
        CloneFlags::empty(),
        || show_other_owners(&place),
        || None,
        |errno| match errno {
            Errno::EINVAL => Lack::new(
                format!("the file system of {} cannot", place.display()),
                "put the root filesystem onto ext4, xfs or btrfs: CELLBLOCK_ROOTFS=...\nor give up this handcuff: --userns host",
            ),
            _ => refused(errno),
        },
    );
    Check::new(NAME, STEP, result)
}

fn show_other_owners(place: &Path) -> Result<(), Failure> {
    const MAP: &str = "0 2013265920 65536";
    let copy = mount::open_tree(&mount::open_path(place, "place")?, Depth::One, "copy")?;
    let (gate, ours) = clone::pipe("gate", "ours")?;
    match clone::clone3(CloneFlags::CLONE_NEWUSER, "owner")? {
        Clone::Child => {
            drop(ours);
            let _ = clone::read_some(&gate); // until the other end is closed, by whatever end we come to
            clone::exit_now(0)
        }
        Clone::Parent(owner) => {
            let tried = privilege::write_of_child(owner.pid(), "uid_map", MAP)
                .and_then(|()| privilege::write_of_child(owner.pid(), "gid_map", MAP))
                .and_then(|()| privilege::user_namespace_of(owner.pid()))
                .and_then(|namespace| mount::map_ids(&copy, Depth::One, &namespace));
            drop(ours);
            owner.wait()?;
            tried
        }
    }
}

fn keyring() -> Result<String, Lack> {
    purpose("a session keyring of its own");
    let join = privilege::join_session_keyring;
    match probe::in_child(CloneFlags::empty(), join).map_err(|failure| probe::errno(&failure)) {
        Ok(()) => Ok("works".to_owned()),
        Err(Errno::ENOSYS) => Err(Lack::new("this kernel keeps no keys", "privileges --no-new-keyring ...")),
        Err(errno) => Err(refused(errno)),
    }
}
