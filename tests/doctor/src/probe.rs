//! A trial: something is done in a child, which ends at once. What it made in its namespaces vanishes with it.

use kernel::sys::clone::{self, Clone, CloneFlags, Exit};
use kernel::{Errno, Failure, explain};

/// Does `work` in a child that is born into `namespaces`, and waits for its end.
///
/// # Errors
/// The errno of clone3, or that of `work`: the child's exit code brings it over, for all of them fit into a byte.
pub fn in_child(namespaces: CloneFlags, work: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    match clone::clone3(namespaces, "probe")? {
        Clone::Parent(process) => match process.wait()? {
            Exit::Code(0) => Ok(()),
            Exit::Code(errno) => Err(refused(Errno::from_raw(errno.into()))),
            Exit::Signal(_) => Err(refused(Errno::EPERM)), // some filters kill instead of saying no
        },
        Clone::Child => {
            // A panic must not unwind into the parent's frames: there would be two doctors.
            std::panic::set_hook(Box::new(|_| clone::exit_now(Errno::EIO as u8)));
            explain::speak_as("probe");
            clone::exit_now(work().map_or_else(|failure| errno(&failure) as u8, |()| 0))
        }
    }
}

/// The same as root of a user namespace of its own, as `unshare --user --map-root-user` would.
pub fn in_sandbox(work: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    in_child(CloneFlags::CLONE_NEWUSER, || {
        // Without root's help a group map may be written only once setgroups is given up (man 7 user_namespaces).
        clone::write_file("/proc/self/setgroups", "deny")?;
        clone::write_file("/proc/self/uid_map", &format!("0 {uid} 1"))?;
        clone::write_file("/proc/self/gid_map", &format!("0 {gid} 1"))?;
        work()
    })
}

/// Why the kernel said no. What is no answer of the kernel's counts as an input/output error.
pub fn errno(failure: &Failure) -> Errno {
    failure.errno().unwrap_or(Errno::EIO)
}

fn refused(errno: Errno) -> Failure {
    Failure::call(format_args!("<probe>"), errno)
}
