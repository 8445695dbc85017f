//! While a command runs in the foreground: its end awaited, signals passed on, and, with a terminal, what is typed and what
//! is shown.

use std::os::fd::AsFd;

use crate::sys::terminal::{self, Mode};
use anyhow::Result;
use kernel::sys::clone::{Exit, Process};
use kernel::sys::signal::{SIGCHLD, SIGWINCH, Signals};
use kernel::{Failure, Fd};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

const INPUT: i32 = 0;
const OUTPUT: i32 = 1;

/// Waits until the process has ended, and passes everything on meanwhile.
///
/// Unlike in step 2, Ctrl-C is passed on, too: the container's processes are in a session of their own, so the caller's
/// terminal sends them nothing.
pub fn until_end(process: &Process, signals: &Signals, master: Option<Fd>) -> Result<Exit> {
    let _raw = master.as_ref().and_then(|_| Mode::raw(INPUT));
    let mut relay = Relay { master, input: true };
    relay.resize();
    loop {
        if let Some(exit) = process.try_wait()? {
            relay.drain();
            return Ok(exit);
        }
        relay.wait(signals)?;
        while let Some(arrived) = signals.try_next()? {
            match arrived.number {
                SIGCHLD => {}
                SIGWINCH => relay.resize(),
                number => process.send_signal(number)?,
            }
        }
    }
}

/// Between our own terminal and the container's.
struct Relay {
    master: Option<Fd>,
    /// There may still be something to read.
    input: bool,
}

impl Relay {
    /// Waits until something happens, and passes on what has come.
    fn wait(&mut self, signals: &Signals) -> Result<()> {
        let stdin = std::io::stdin();
        let mut polled = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if let Some(master) = &self.master {
            polled.push(PollFd::new(master.as_fd(), PollFlags::POLLIN));
            if self.input {
                polled.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            }
        }
        match poll(&mut polled, PollTimeout::NONE) {
            Err(Errno::EINTR) => return Ok(()),
            other => other.map_err(|errno| Failure::call(format_args!("poll(<signals>, <terminal>)"), errno))?,
        };
        let ready: Vec<bool> = polled.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        if ready.get(1) == Some(&true) && !self.show() {
            self.master = None; // nobody has the other end any more
        }
        if ready.get(2) == Some(&true) {
            self.input = self.type_in();
        }
        Ok(())
    }

    /// From the container to us; false at the end.
    fn show(&self) -> bool {
        let Some(master) = &self.master else { return false };
        let mut buffer = [0; 4096];
        match nix::unistd::read(master, &mut buffer) {
            Ok(0) | Err(Errno::EIO) => false,
            Ok(count) => write_all(OUTPUT, &buffer[..count]),
            Err(_) => true,
        }
    }

    /// From us to the container; false at the end.
    fn type_in(&self) -> bool {
        const END_OF_INPUT: u8 = 4; // Ctrl-D: what a terminal makes of an end
        let Some(master) = &self.master else { return false };
        let mut buffer = [0; 4096];
        match nix::unistd::read(std::io::stdin(), &mut buffer) {
            Ok(0) => {
                let _ = nix::unistd::write(master, &[END_OF_INPUT]);
                false
            }
            Ok(count) => nix::unistd::write(master, &buffer[..count]).is_ok(),
            Err(errno) => errno == Errno::EINTR,
        }
    }

    fn resize(&self) {
        if let (Some(master), Some(size)) = (&self.master, terminal::size_of_standard(INPUT)) {
            let _ = terminal::resize(master, size);
        }
    }

    /// What the command has written last is still in the terminal.
    fn drain(&self) {
        while self.master.as_ref().is_some_and(|master| {
            let mut polled = [PollFd::new(master.as_fd(), PollFlags::POLLIN)];
            poll(&mut polled, PollTimeout::ZERO).is_ok_and(|count| count > 0) && self.show()
        }) {}
    }
}

fn write_all(fd: i32, mut bytes: &[u8]) -> bool {
    use std::io::Write;
    let mut out: Box<dyn Write> = if fd == OUTPUT { Box::new(std::io::stdout()) } else { Box::new(std::io::stderr()) };
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return false,
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
    out.flush().is_ok()
}
