//! A group that root gives to the ordinary user of a lab, as systemd does with `Delegate=yes`.

use std::path::PathBuf;

use cgroups::hierarchies::Hierarchies;
use kernel::sys::cgroup;

/// The group for a test; none where the controllers are in v1's trees, of which nothing can be given away.
pub fn group(test: &str) -> Option<PathBuf> {
    let hierarchies = Hierarchies::read().expect("/proc is there");
    let tree = hierarchies.unified.filter(|_| hierarchies.legacy.is_empty())?;
    Some(PathBuf::from(tree.point).join(format!("cellblock-lab-{test}")))
}

/// A piece of shell script for root: makes the group, gives it away, and moves the shell into a leaf of it, for it could
/// pass nothing on with the shell in it.
pub fn script(test: &str, user: u32) -> String {
    let Some(group) = group(test) else { return String::new() };
    format!(
        "(cd {top}; for c in cpu cpuset memory pids io; do echo +$c >cgroup.subtree_control; done; \
         mkdir -p {group}/supervisor; cd {group}; \
         for g in . supervisor; do chown {user}:{user} $g $g/cgroup.procs $g/cgroup.threads $g/cgroup.subtree_control; done; \
         echo $$ >supervisor/cgroup.procs); ",
        top = group.parent().expect("it lies at the top").display(),
        group = group.display(),
    )
}

/// Removes the group. Whatever else is in it was left by the launcher.
pub fn remove(test: &str) {
    let Some(group) = group(test).filter(|group| group.is_dir()) else { return };
    cgroup::wait_until_empty(&group).expect("the lab has ended");
    cgroup::remove(&group.join("supervisor")).expect("it is empty");
    cgroup::remove(&group).expect("the launcher leaves nothing in a group that was delegated");
}
