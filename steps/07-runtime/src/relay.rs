//! Bytes between the caller's terminal and the container's. A command that does not read, or a caller's terminal that is
//! stopped, holds back its own direction only: neither the other one nor a signal ever waits for it.

use std::os::fd::AsFd;

use anyhow::Result;
use kernel::Fd;
use kernel::sys::signal::{SIGCHLD, SIGWINCH, Signals};

use crate::sys::poll::{self, Events, ready};
use crate::sys::terminal;

/// The most bytes that are under way in one direction: a pipe that can be written to takes it at once (`PIPE_BUF`, man 7 pipe).
const CHUNK: usize = 4096;

/// Between the caller's standard descriptors and the master of the container's terminal.
#[derive(Debug)]
pub struct Relay {
    master: Fd,
    ends: Ends,
    typed: Direction,
    shown: Direction,
}

/// The caller's standard input and output, opened before this process is shut: then /proc/self/fd cannot be read any more.
#[derive(Debug)]
pub struct Ends {
    input: Fd,
    output: Fd,
}

impl Ends {
    /// Opens both, so that neither can make this process wait.
    pub fn open() -> Result<Ends> {
        Ok(Ends { input: terminal::standard_input()?, output: terminal::standard_output()? })
    }
}

impl Relay {
    /// Between the caller's ends and a terminal.
    pub fn new(ends: Ends, master: Fd) -> Result<Relay> {
        terminal::never_wait(&master)?;
        Ok(Relay { master, ends, typed: Direction::default(), shown: Direction::default() })
    }

    /// Waits until a signal has come or a byte can move, and moves what can. False when the terminal has no other end any
    /// more, or its output no reader: the relay is over then, and the terminal hangs up.
    pub fn wait(&mut self, signals: &Signals) -> Result<bool> {
        let [_, master, input, output] = ready([
            (signals.as_fd(), Events::POLLIN),
            (self.master.as_fd(), self.shown.when_to_read() | self.typed.when_to_write()),
            (self.ends.input.as_fd(), self.typed.when_to_read()),
            (self.ends.output.as_fd(), self.shown.when_to_write()),
        ])?;
        if input && !self.typed.read(&self.ends.input) {
            self.typed.bytes.extend(self.end_of_input());
        }
        if master {
            self.typed.write(&self.master);
            self.shown.read(&self.master);
        }
        if output {
            self.shown.write(&self.ends.output);
        }
        Ok(!self.shown.is_over())
    }

    /// What the character Ctrl-D does: an end for a command that reads lines. Within a line it takes two, for the first one
    /// only hands the line over (man 3 termios, VEOF). A command that reads single keys knows no end.
    fn end_of_input(&self) -> Vec<u8> {
        let count = if matches!(self.typed.last, None | Some(b'\n' | b'\r')) { 1 } else { 2 };
        terminal::end_of_file(&self.master).map_or_else(Vec::new, |character| vec![character; count])
    }

    /// The size of the caller's terminal becomes the container's.
    pub fn resize(&self) {
        if let Some(size) = terminal::size_of_standard() {
            let _ = terminal::resize(&self.master, size);
        }
    }

    /// Passes on what the command has written last. It is more than a terminal holds if other processes still write: then
    /// this ends, too, as it does with any signal.
    pub fn drain(mut self, signals: &Signals) -> Result<()> {
        const MOST: usize = 1 << 20;
        for _ in 0..MOST / CHUNK {
            if !self.shown.read(&self.master) || self.shown.bytes.is_empty() {
                return Ok(());
            }
            while !self.shown.bytes.is_empty() {
                let [signal, output] =
                    ready([(signals.as_fd(), Events::POLLIN), (self.ends.output.as_fd(), Events::POLLOUT)])?;
                if output {
                    self.shown.write(&self.ends.output);
                }
                if signal && signals.try_next()?.is_some_and(|signal| ![SIGCHLD, SIGWINCH].contains(&signal.number)) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Bytes that have been read and not yet been written.
#[derive(Debug, Default)]
struct Direction {
    bytes: Vec<u8>,
    /// The last byte that was read.
    last: Option<u8>,
    /// Nothing more can be read.
    ended: bool,
}

impl Direction {
    /// All that was read has been written.
    fn is_over(&self) -> bool {
        self.ended && self.bytes.is_empty()
    }

    fn when_to_read(&self) -> Events {
        if self.ended || !self.bytes.is_empty() { Events::empty() } else { Events::POLLIN }
    }

    fn when_to_write(&self) -> Events {
        if self.bytes.is_empty() { Events::empty() } else { Events::POLLOUT }
    }

    /// Reads what is there, if all from before has been written; false at the end.
    fn read(&mut self, from: &Fd) -> bool {
        if self.when_to_read().is_empty() {
            return !self.ended;
        }
        let mut buffer = [0; CHUNK];
        match poll::read(from, &mut buffer) {
            Ok(None) => {}
            Ok(Some(count)) if count > 0 => {
                self.bytes = buffer[..count].to_vec();
                self.last = self.bytes.last().copied();
            }
            _ => self.ended = true, // a terminal without its other end says EIO
        }
        !self.ended
    }

    /// Writes as much as is taken. Where nothing will be taken any more, this direction has ended.
    fn write(&mut self, to: &Fd) {
        if self.bytes.is_empty() {
            return;
        }
        match poll::write(to, &self.bytes) {
            Ok(count) => drop(self.bytes.drain(..count.unwrap_or_default())),
            Err(_) => *self = Direction { ended: true, ..Direction::default() },
        }
    }
}
