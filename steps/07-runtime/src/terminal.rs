//! A terminal for the container: made in its own devpts, so that it has a name in there. Its master goes to the caller's
//! console socket, or, in the foreground, to this program, which relays (`relay.rs`).

use std::path::Path;

use crate::sys::terminal::{self, Size};
use anyhow::{Context, Result};
use kernel::sys::mount::{self, Depth};
use kernel::sys::socket;
use kernel::{Failure, Fd, purpose};

use crate::plan::Task;
use crate::relay::{Ends, Relay};

/// The socket through which the terminal's master leaves the container.
#[derive(Debug)]
pub enum MasterSocket {
    /// The caller's console socket: another program serves the terminal.
    Console(Fd),
    /// A socket of this runtime's own, which relays between the terminal and the caller's.
    Relay(Fd),
}

impl MasterSocket {
    /// Connects to the caller's console socket: before anything is made.
    ///
    /// # Errors
    /// No process listens there.
    pub fn connect(path: &Path) -> Result<MasterSocket> {
        let connected = socket::connect_path(path);
        let connected = connected.with_context(|| format!("cannot connect to the console socket {}", path.display()));
        Ok(MasterSocket::Console(connected?))
    }

    fn give(&self, master: &Fd) -> Result<()> {
        match self {
            MasterSocket::Console(socket) | MasterSocket::Relay(socket) => {
                Ok(socket::send_fd(socket, b"terminal", master)?)
            }
        }
    }
}

// ANCHOR: take
/// Makes a terminal in the container that is rooted at `root`, hands its master out, and returns the other end. For the
/// container's first process it is /dev/console, too: `console` is that place. A size that is not given is that of the
/// caller's terminal: the command must never see another one, so it is set before the command runs.
///
/// # Errors
/// There is no devpts in /dev/pts.
pub fn open(root: &Fd, master_socket: &MasterSocket, size: Size, console: Option<&Fd>) -> Result<Fd> {
    purpose("a terminal of the container's own; its master goes out");
    let (master, slave) = terminal::open_pair(root)
        .map_err(|failure| failure.hint("the configuration must mount a devpts on /dev/pts"))
        .context("cannot make a terminal")?;
    let size = Some(size).filter(|size| !size.is_unknown()).or_else(terminal::size_of_standard);
    size.map_or(Ok(()), |size| terminal::resize(&slave, size))?;
    if let MasterSocket::Relay(_) = master_socket {
        terminal::keep_line_feeds(&slave)?;
    }
    if let Some(target) = console {
        mount::move_mount(&mount::open_tree(&slave, Depth::One, "console")?, target)
            .context("cannot mount the terminal on /dev/console")?;
    }
    master_socket.give(&master)?;
    Ok(slave)
}

/// Makes a terminal the controlling one of this session, and its standard input, output and error.
pub fn attach(slave: &Fd) -> Result<()> {
    terminal::control(slave)?;
    Ok(terminal::become_standard(slave)?)
}
// ANCHOR_END: take

/// Begins a session, at a terminal if there is one.
pub fn begin_session(terminal: Option<&Fd>) -> Result<()> {
    terminal::new_session()?;
    terminal.map_or(Ok(()), attach)
}

/// The caller's side of a terminal that the child makes later.
#[derive(Debug)]
pub struct PendingRelay {
    socket: Fd,
    ends: Ends,
}

impl PendingRelay {
    /// The terminal has been made: receives its master, and begins to relay.
    pub fn start(self) -> Result<Relay> {
        Relay::new(self.ends, socket::receive_fd(&self.socket, "terminal's master")?)
    }
}

/// Prepares for a terminal, if the task has one: without a console socket of the caller's, this process will relay.
pub fn prepare(
    task: &Task,
    master_socket: Option<MasterSocket>,
) -> Result<(Option<PendingRelay>, Option<MasterSocket>)> {
    if task.terminal.is_none() || master_socket.is_some() {
        return Ok((None, master_socket));
    }
    let (socket, theirs) = socket::pair("terminal channel", "terminal channel")?;
    Ok((Some(PendingRelay { socket, ends: Ends::open()? }), Some(MasterSocket::Relay(theirs))))
}

/// Refuses a terminal whose master no process would take, and a console socket without a terminal.
pub fn check(wanted: bool, socket: Option<&Path>, detached: bool) -> Result<(), Failure> {
    match (wanted, socket, detached) {
        (true, None, true) => Err(Failure::new("process.terminal: no process would use this terminal")
            .hint("--console-socket names the socket that gets its master")),
        (false, Some(_), _) => {
            Err(Failure::new("--console-socket: the process has no terminal").hint("process.terminal must be true"))
        }
        _ => Ok(()),
    }
}
