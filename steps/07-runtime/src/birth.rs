//! A container in the pid namespace of another one, as engines make pods.
//!
//! A process that may trace others could attach to our child there, which still has the host's root, its descriptors and all
//! capabilities. So the child stays outside until it holds no more than the command will: then it is born there, as a sibling
//! that goes on in its place.

use anyhow::{Context, Result};
use kernel::sys::clone::{self, CloneFlags};
use kernel::sys::mount;
use kernel::{Fd, purpose};

use crate::plan::Plan;
use crate::sys::namespace;

/// A pipe for the number of the process that goes on, where the child can be born late.
///
/// With a joined user namespace that is not needed: the child is not dumpable, and a process with rights in that namespace only
/// cannot attach to it. With a new one it cannot be done: from in there the host's pid namespaces are not to be joined; but a
/// container with such a pair gets no new /proc, and fails. And before Linux 6.17 a new /proc shows the pid namespace of its
/// maker, so the child must be born early: there, a container with CAP_SYS_PTRACE on the host must not be the first of a pod.
///
/// # Errors
/// There are no descriptors left.
pub fn channel(plan: &mut Plan, joined: &[(Fd, CloneFlags)]) -> Result<(Option<Fd>, Option<Fd>)> {
    let Some((namespace, _)) = joined.iter().find(|(_, kind)| *kind == CloneFlags::CLONE_NEWPID) else {
        return Ok((None, None));
    };
    if plan.id_maps.is_some() || plan.joined_users().is_some() || !proc_can_show(namespace) {
        return Ok((None, None));
    }
    plan.show_pid_namespace(namespace);
    let (number, entry) = clone::pipe("number", "number")?;
    Ok((Some(number), Some(entry)))
}

fn proc_can_show(namespace: &Fd) -> bool {
    purpose("can a new /proc show another pid namespace than that of its maker?");
    let Ok(value) = std::ffi::CString::new(namespace::for_proc(namespace)) else { return false };
    mount::fsopen(c"proc", "new").and_then(|proc| mount::fsconfig_set(&proc, c"pidns", &value)).is_ok()
}

/// The child's part, while it may still join a namespace: what is born of it from here on is in there.
///
/// # Errors
/// EPERM, EINVAL: the pid namespace is not below ours.
pub fn prepare(joined: &[(Fd, CloneFlags)]) -> Result<()> {
    purpose("what is born from here on is in a pid namespace that is there already");
    joined
        .iter()
        .filter(|(_, kind)| *kind == CloneFlags::CLONE_NEWPID)
        .try_for_each(|(namespace, kind)| namespace::join(namespace, *kind))
        .context("linux.namespaces: cannot join the pid namespace")
}
