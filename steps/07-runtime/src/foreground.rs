//! While a command runs in the foreground: its end awaited, signals passed on, and, with a terminal, what is typed and what
//! is shown.

use std::os::fd::AsFd;

use anyhow::Result;
use kernel::sys::clone::{Exit, Process};
use kernel::sys::signal::{SIGCHLD, SIGWINCH, Signals};

use crate::relay::Relay;
use crate::sys::poll::{Events, ready};
use crate::sys::terminal::Mode;

/// Waits until the process has ended, and passes everything on meanwhile.
///
/// Unlike in step 2, Ctrl-C is passed on, too: the container's processes are in a session of their own, so the caller's
/// terminal sends them nothing. All signals are blocked since before the process was made, so no change of the caller's
/// window is missed: the terminal was made with the size from before.
pub fn until_end(process: &Process, signals: &Signals, mut relay: Option<Relay>) -> Result<Exit> {
    let _raw = relay.as_ref().and_then(|_| Mode::raw());
    loop {
        if let Some(exit) = process.try_wait()? {
            relay.map_or(Ok(()), |relay| relay.drain(signals))?;
            return Ok(exit);
        }
        match &mut relay {
            None => drop(ready([(signals.as_fd(), Events::POLLIN)])?),
            Some(open) => {
                if !open.wait(signals)? {
                    relay = None;
                }
            }
        }
        while let Some(arrived) = signals.try_next()? {
            match arrived.number {
                SIGCHLD => {}
                SIGWINCH => relay.iter().for_each(Relay::resize),
                number => process.send_signal(number)?,
            }
        }
    }
}
