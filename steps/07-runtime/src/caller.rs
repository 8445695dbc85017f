//! What a caller hands on to the command, its descriptors; and what it is handed: which process was born.

use std::path::Path;

use anyhow::{Context, Result};
use kernel::sys::{process, socket};
use kernel::{Failure, Fd, purpose};
use namespaces::Child;

use crate::store::write_whole;
use crate::sys::descriptor;

/// The first descriptor that is not a standard one.
const FIRST: u32 = 3;

// ANCHOR: handed_on
/// The descriptors that the caller hands on to the command: from 3 on, and all of them were open when the runtime began. So none
/// can be one of the runtime's own, which lead to the host. Programs that the runtime starts, such as hooks, get none.
#[derive(Debug, Default, Clone, Copy)]
pub struct HandedOn {
    count: u32,
}

impl HandedOn {
    /// Takes them, and closes what else the caller has left open. Must be called before the runtime opens anything.
    ///
    /// # Errors
    /// One of them is closed: the runtime's next descriptor would get its number. Standard input, output or error is a directory.
    pub fn take(count: u32) -> Result<HandedOn> {
        if let Some(closed) = (0..count).map(|at| FIRST.saturating_add(at)).find(|number| !descriptor::is_open(*number))
        {
            let text = format!("--preserve-fds {count}: the descriptor {closed} is not open");
            let hint = "it counts from 3 on, and each must be open: sh -c 'cellblock run --preserve-fds 1 ... 3<FILE'";
            return Err(Failure::new(text).hint(hint).into());
        }
        let handed_on = HandedOn { count };
        process::close_from(handed_on.end())?;
        process::refuse_directories()?;
        handed_on.numbers().try_for_each(|number| descriptor::set_close_on_exec(number, true))?;
        Ok(handed_on)
    }

    /// In the child, when the runtime starts no more programs: from here on an exec leaves them open.
    ///
    /// # Errors
    /// A filter that is in force already refuses the call.
    pub fn leave_open(self) -> Result<()> {
        if self.count > 0 {
            purpose("what the caller hands on stays open");
        }
        Ok(self.numbers().try_for_each(|number| descriptor::set_close_on_exec(number, false))?)
    }

    /// The first number that is not handed on.
    pub fn end(self) -> u32 {
        FIRST + self.count
    }

    fn numbers(self) -> std::ops::Range<u32> {
        FIRST..self.end()
    }
}
// ANCHOR_END: handed_on

/// As a whole, as the caller may look for it at any moment.
pub fn write_pid_file(file: Option<&Path>, pid: i32) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    write_whole(file, pid.to_string().as_bytes(), 0o644).context("the pid file")
}

/// Connects to the caller's socket: before anything is made.
pub fn connect_pidfd_socket(path: &Path) -> Result<Fd> {
    socket::connect_path(path).with_context(|| format!("--pidfd-socket {}: nobody takes it there", path.display()))
}

/// Hands out what a signal can be sent by, and the end be waited for, without a number that another may have by then.
pub fn send_pidfd(socket: &Fd, child: &Child) -> Result<()> {
    Ok(socket::send_fd(socket, b"pidfd", child.watch().0.descriptor())?)
}
