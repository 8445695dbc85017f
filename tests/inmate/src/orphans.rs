//! Orphans: whose parent ends before them become children of PID 1, and zombies on its hands when they end.

use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use kernel::sys::clone::{self, Clone};

const COUNT: usize = 3;

/// Makes three orphans that end at once, and says how many of them are ours to reap.
pub fn leave() -> ExitCode {
    (0..COUNT).for_each(|_| leave_one());
    sleep(Duration::from_millis(200)); // they end meanwhile
    let reaped = std::iter::from_fn(|| clone::reap_any().ok().flatten()).count();
    println!("I am pid {} and left {COUNT} orphans.", nix::unistd::getpid());
    println!("{reaped} of them became my children, and lay about as zombies until I reaped them.");
    ExitCode::SUCCESS
}

/// A child that has a child, and ends first.
fn leave_one() {
    match clone::fork("parent") {
        Ok(Clone::Child) => {
            if let Ok(Clone::Child) = clone::fork("orphan") {
                sleep(Duration::from_millis(50));
            }
            clone::exit_now(0)
        }
        Ok(Clone::Parent(child)) => drop(child.wait()),
        Err(failure) => eprintln!("inmate: {failure}"),
    }
}
