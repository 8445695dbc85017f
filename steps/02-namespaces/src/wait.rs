//! While the command runs: its end awaited, signals forwarded, the terminal left usable.

use anyhow::Result;
use kernel::purpose;
use kernel::sys::clone::{Exit, Process};
use kernel::sys::signal::{self, Arrived, SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, Signals};

// ANCHOR: until_end
/// Waits until the process has ended. What is sent to us meanwhile is meant for it.
///
/// Ctrl-C is not: the terminal sends it to its whole foreground process group, so the command has got it as well.
/// After Ctrl-Z the shell expects us to stop; PID 1 would not, so we stop it, ourselves, and go on together.
pub fn until_end(process: &Process, signals: &Signals) -> Result<Exit> {
    loop {
        purpose("the command has ended");
        if let Some(exit) = process.try_wait()? {
            return Ok(exit);
        }
        purpose("a signal for the command");
        match signals.next()? {
            Arrived { number: SIGCHLD, .. } => {}
            Arrived { number: SIGTSTP | SIGTTIN | SIGTTOU, by_kernel: true } => {
                process.send_signal(SIGSTOP)?;
                signal::stop_self()?;
                process.send_signal(SIGCONT)?;
            }
            Arrived { by_kernel: true, .. } => {}
            Arrived { number, .. } => process.send_signal(number)?,
        }
    }
}
// ANCHOR_END: until_end
