//! An init for a pid namespace: conmon, shims and runtimes leave orphans on purpose, and wait until they are gone. So
//! a process must reap them, and that is PID 1, which does nothing else.

use std::process::Command;

use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::Pid;

/// Does the work in a child of this PID 1: the program starts itself once more. Ends as the child ends.
pub fn below_an_init(work: impl FnOnce()) {
    if std::process::id() != 1 {
        return work();
    }
    let mut again = Command::new(std::env::current_exe().expect("/proc is there"));
    again.args(std::env::args_os().skip(1));
    let mut child = again.spawn().expect("it is this program");
    let own = Pid::from_raw(child.id() as i32);
    let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    while let Some(orphan) = waitid(Id::All, peek).expect("a child is left").pid().filter(|pid| *pid != own) {
        waitpid(orphan, None).expect("it has ended");
    }
    let status = child.wait().expect("it is our child");
    assert!(status.code().is_some(), "it ended by {status}");
    if !status.success() {
        std::process::exit(status.code().unwrap_or(1));
    }
}
