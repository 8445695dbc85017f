//! Calls that the filter leaves to another process (SECCOMP_RET_USER_NOTIF): it is handed a descriptor, with a word on whose
//! calls come out of it (config-linux.md, "The Container Process State").
//!
//! The parent holds the connection to that process, made where the path is the host's, and knows the number of the child on the
//! host. The child, in the container, tells its parent which descriptor the listener is, and goes on when it was passed on.

use std::os::fd::AsFd;

use anyhow::{Context, Result};
use kernel::sys::clone::Process;
use kernel::sys::{clone, signal, socket};
use kernel::{Failure, Fd, purpose};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::plan::Task;
use crate::spec::{self, ContainerProcessState, State};
use crate::sys::descriptor;

/// What the parent answers: the listener was taken and passed on; or it cannot be taken, and must be sent.
const PASSED_ON: &[u8] = b"k";
const SEND_IT: &[u8] = b"send";

/// The way of a listener from the child to the process that answers for its calls.
#[derive(Debug)]
pub struct Relay {
    outside: Fd,
    inside: Fd,
    connection: Fd,
    metadata: Option<String>,
}

impl Relay {
    /// Connects to the listening socket, in the host's mounts. None if the filter leaves no call to another process.
    ///
    /// # Errors
    /// Nothing listens there.
    pub fn connect(task: &Task) -> Result<Option<Relay>> {
        let Some(path) = task.listener() else { return Ok(None) };
        let connection = socket::connect_path(path)
            .with_context(|| format!("linux.seccomp.listenerPath: cannot connect to {}", path.display()))?;
        let (outside, inside) = socket::pair("listener channel", "listener channel")?;
        Ok(Some(Relay { outside, inside, connection, metadata: task.listener_metadata.clone() }))
    }

    /// The child's end.
    pub fn inside(&self) -> &Fd {
        &self.inside
    }

    /// The child's part: the listener goes to the parent. The filter is in force, so it is done by `write` and `read`, unless the
    /// parent may not take descriptors from the child.
    ///
    /// # Errors
    /// The parent could not pass it on, and says why itself.
    pub fn hand_over(relay: Option<&Relay>, listener: Option<Fd>) -> Result<()> {
        let (relay, listener) = match (relay, listener) {
            (None, None) => return Ok(()),
            (Some(relay), Some(listener)) => (relay, listener),
            _ => return Err(Failure::new("linux.seccomp: a listener without a socket to send it to").into()),
        };
        purpose("who answers for calls must have the listener before there is one");
        clone::write_all(&relay.inside, listener.raw().to_string().as_bytes())?;
        let mut answer = clone::read_some(&relay.inside)?;
        if answer == SEND_IT.len() {
            socket::send_fd(&relay.inside, b"listener", &listener)?;
            answer = clone::read_some(&relay.inside)?;
        }
        if answer == PASSED_ON.len() {
            return Ok(());
        }
        Err(Failure::new("linux.seccomp: the listener was not passed on").into())
    }

    /// The parent's part: takes the listener, and sends it on. A child that has failed has none, and says why in its report.
    ///
    /// # Errors
    /// The process that answers for the calls has closed the connection.
    pub fn pass_on(self, child: &Process, state: State) -> Result<()> {
        drop(self.inside); // held here too, its closing in the child would never be seen
        let Some(listener) = take(&self.outside, child)? else { return Ok(()) };
        let told = ContainerProcessState {
            oci_version: spec::NEWEST.to_owned(),
            fds: vec!["seccompFd".to_owned()],
            pid: child.pid(),
            metadata: self.metadata,
            state,
        };
        socket::send_fd(&self.connection, &serde_json::to_vec(&told)?, &listener)
            .context("linux.seccomp.listenerPath: the listener cannot be handed over")?;
        Ok(clone::write_all(&self.outside, PASSED_ON)?)
    }
}

/// The child's listener: taken from it by its number, or, where that is not allowed, received.
fn take(channel: &Fd, child: &Process) -> Result<Option<Fd>> {
    if !has_come(channel)? {
        return Ok(None);
    }
    let mut told = [0; 16];
    let length =
        nix::unistd::read(channel, &mut told).map_err(|errno| Failure::call(format_args!("read({channel})"), errno))?;
    let number = std::str::from_utf8(&told[..length]).ok().and_then(|number| number.parse().ok());
    let Some(number) = number else { return Ok(None) };
    if let Ok(taken) = descriptor::take_from(child, number, "listener") {
        return Ok(Some(taken));
    }
    clone::write_all(channel, SEND_IT)?;
    Ok(socket::receive_fd(channel, "listener").ok())
}

/// Waits until the child has said something, or has closed its end; not when the launch is asked to end.
fn has_come(channel: &Fd) -> Result<bool> {
    const PAUSE: u16 = 100; // milliseconds
    while signal::asked_to_end().is_none() {
        let mut polled = [PollFd::new(channel.as_fd(), PollFlags::POLLIN)];
        match poll(&mut polled, PollTimeout::from(PAUSE)) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            result => {
                result.map_err(|errno| Failure::call(format_args!("poll({channel})"), errno))?;
                return Ok(true);
            }
        }
    }
    Ok(false)
}
