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

/// Where the terminal's other end goes.
#[derive(Debug)]
pub enum Outlet {
    /// A socket of the caller's.
    Socket(Fd),
    /// This process, which relays in the foreground.
    Foreground(Fd),
}

impl Outlet {
    /// Connects to the caller's console socket: before anything is made.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn connect(path: &Path) -> Result<Outlet> {
        let connected = socket::connect_path(path);
        let connected = connected.with_context(|| format!("cannot connect to the console socket {}", path.display()));
        Ok(Outlet::Socket(connected?))
    }

    fn give(&self, master: &Fd) -> Result<()> {
        match self {
            Outlet::Socket(socket) | Outlet::Foreground(socket) => Ok(socket::send_fd(socket, b"terminal", master)?),
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
pub fn open(root: &Fd, outlet: &Outlet, size: Size, console: Option<&Fd>) -> Result<Fd> {
    purpose("a terminal of the container's own; its master goes out");
    let (master, slave) = terminal::open_pair(root)
        .map_err(|failure| failure.hint("the configuration must mount a devpts on /dev/pts"))
        .context("cannot make a terminal")?;
    let size = Some(size).filter(|size| !size.is_unknown()).or_else(terminal::size_of_standard);
    size.map_or(Ok(()), |size| terminal::resize(&slave, size))?;
    if let Outlet::Foreground(_) = outlet {
        terminal::keep_line_feeds(&slave)?;
    }
    if let Some(target) = console {
        mount::move_mount(&mount::open_tree(&slave, Depth::One, "console")?, target)
            .context("cannot mount the terminal on /dev/console")?;
    }
    outlet.give(&master)?;
    Ok(slave)
}

/// Makes a terminal that of this session, and its standard input, output and error.
pub fn take(slave: &Fd) -> Result<()> {
    terminal::control(slave)?;
    Ok(terminal::become_standard(slave)?)
}
// ANCHOR_END: take

/// Begins a session, at a terminal if there is one.
pub fn begin_session(terminal: Option<&Fd>) -> Result<()> {
    terminal::new_session()?;
    terminal.map_or(Ok(()), take)
}

/// The caller's place at a terminal that is made later.
#[derive(Debug)]
pub struct Seat {
    channel: Fd,
    ends: Ends,
}

impl Seat {
    /// The terminal has been made: its master comes, and bytes can pass.
    pub fn take(self) -> Result<Relay> {
        Relay::new(self.ends, socket::receive_fd(&self.channel, "terminal's master")?)
    }
}

/// Where the terminal goes, and the seat at it if it is this process's.
pub fn seat(task: &Task, outlet: Option<Outlet>) -> Result<(Option<Seat>, Option<Outlet>)> {
    if task.terminal.is_none() || outlet.is_some() {
        return Ok((None, outlet));
    }
    let (channel, theirs) = socket::pair("terminal channel", "terminal channel")?;
    Ok((Some(Seat { channel, ends: Ends::open()? }), Some(Outlet::Foreground(theirs))))
}

/// Refuses a terminal without anybody to sit at it, and the reverse.
pub fn check(wanted: bool, socket: Option<&Path>, detached: bool) -> Result<(), Failure> {
    match (wanted, socket, detached) {
        (true, None, true) => Err(Failure::new("process.terminal: nobody would sit at this terminal")
            .hint("--console-socket names where its other end goes")),
        (false, Some(_), _) => {
            Err(Failure::new("--console-socket: the process has no terminal").hint("process.terminal must be true"))
        }
        _ => Ok(()),
    }
}
