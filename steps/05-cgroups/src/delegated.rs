//! Groups for an ordinary user: in a part of v2's tree that was *delegated*, that is, given to that user.
//!
//! A group is delegated by giving away its directory and three of its files: cgroup.procs, cgroup.threads and
//! cgroup.subtree_control. Its new owner may make groups in it and share out what it has. Its limits
//! stay with the giver. systemd does that on request: `systemd-run --user --scope -p Delegate=yes`. Of v1's trees nothing can be
//! given away safely.

use std::path::{Path, PathBuf};

use crate::hierarchies::{Hierarchies, Hierarchy};
use anyhow::{Context, Result};
use kernel::sys::cgroup;
use kernel::{Failure, purpose};

/// The group into which a launcher steps aside. A shell that wants to start launchers goes there by hand.
const LEAF: &str = "supervisor";

/// Whether the top of the tree belongs to another user, so that our groups must lie in a part of it.
pub fn is_delegated(tree: &Hierarchy) -> bool {
    !cgroup::may_write(Path::new(&tree.point))
}

/// Whether we may write at the top of the tree, whichever there is. A user who may not has to ask the owner of his own part.
pub fn is_tree_ours() -> bool {
    let Ok(trees) = Hierarchies::read() else { return true };
    trees.unified.iter().chain(&trees.legacy).next().is_none_or(|tree| !is_delegated(tree))
}

/// The group in which we are; the one above, where we are in its leaf.
pub fn base(hierarchies: &Hierarchies, tree: &Hierarchy) -> PathBuf {
    let ours = PathBuf::from(hierarchies.our_directory(tree, ""));
    match ours.parent() {
        Some(above) if ours.ends_with(LEAF) => above.to_owned(),
        _ => ours,
    }
}

// ANCHOR: aside
/// We have left our group for a leaf of it, so that it may pass its controllers on. Dropped, all is as before.
#[derive(Debug)]
pub struct InLeaf {
    group: PathBuf,
}

impl InLeaf {
    /// Moves this process, and it alone: others in the group are not ours to move.
    pub fn move_from(group: &Path) -> Result<InLeaf> {
        purpose("a group has processes or passes controllers on: we step aside, into a leaf");
        let leaf = group.join(LEAF);
        if !leaf.is_dir() {
            cgroup::make(&leaf).map_err(not_ours)?;
        }
        let aside = InLeaf { group: group.to_owned() };
        cgroup::write(&leaf, "cgroup.procs", "0").with_context(|| format!("cannot move into {}", leaf.display()))?;
        Ok(aside)
    }

    fn back(&self) -> Result<(), Failure> {
        let enabled = cgroup::read(&self.group, "cgroup.subtree_control");
        for controller in enabled.split_whitespace() {
            cgroup::write(&self.group, "cgroup.subtree_control", &format!("-{controller}"))?;
        }
        cgroup::write(&self.group, "cgroup.procs", "0")?;
        cgroup::remove(&self.group.join(LEAF))
    }
}

impl Drop for InLeaf {
    fn drop(&mut self) {
        purpose("back to where we were");
        let _ = self.back(); // refused when another process has begun to use the group: then it stays as it is
    }
}
// ANCHOR_END: aside

/// What a group's processes must do before it can pass controllers on.
pub fn how_to_leave(group: &Path) -> String {
    let leaf = group.join(LEAF);
    let leaf = leaf.display();
    format!("it has processes, which must leave it; your shell goes by: mkdir -p {leaf}; echo $$ >{leaf}/cgroup.procs")
}

/// Only root, or whom a part of the tree was given to, may make groups in it.
pub fn not_ours(failure: Failure) -> Failure {
    refused(
        failure,
        "limits need root, or a part of the tree that was delegated to you: systemd-run --user --scope -p Delegate=yes bash",
    )
}

/// v1 has nothing to give.
pub fn not_ours_v1(failure: Failure) -> Failure {
    refused(failure, "limits need root here: only a tree of cgroup v2 can be delegated to a user, and this is v1")
}

fn refused(failure: Failure, hint: &str) -> Failure {
    use kernel::Errno::{EACCES, EPERM, EROFS};
    match failure.errno() {
        Some(EACCES | EPERM | EROFS) => failure.hint(hint),
        _ => failure,
    }
}
