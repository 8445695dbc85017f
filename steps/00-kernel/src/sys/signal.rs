//! Lesson 2: signals read like messages, not handled in the middle of something else.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::Failure;
use crate::explain::call;

pub use libc::{SIGCHLD, SIGCONT, SIGKILL, SIGSTOP, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU, SIGWINCH};

/// A signal that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived {
    /// Its number, as in man 7 signal.
    pub number: i32,
    /// The kernel sent it, not a process: by Ctrl-C, say. Then the whole foreground process group got it.
    pub by_kernel: bool,
}

/// All signals of this process, blocked from now on and read one by one (man 2 signalfd).
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks every signal and opens the descriptor from which they are read.
    pub fn block() -> Result<Signals, Failure> {
        // A parent that ignores SIGCHLD (it survives exec) would never be told that its child has ended.
        // SAFETY: the default action needs no handler, so no code of ours can be called.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
        let all = SigSet::all();
        call(format_args!("sigprocmask(SETMASK, [all])"), sigprocmask(SigmaskHow::SIG_SETMASK, Some(&all), None))?;
        let signals = SignalFd::with_flags(&all, SfdFlags::SFD_CLOEXEC);
        signals.map(Signals).map_err(|errno| Failure::call(format_args!("signalfd([all])"), errno))
    }

    /// The next signal, if one is waiting (step 7).
    pub fn try_next(&self) -> Result<Option<Arrived>, Failure> {
        loop {
            let mut polled = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            match nix::poll::poll(&mut polled, PollTimeout::ZERO) {
                Ok(0) | Err(Errno::EINTR) => return Ok(None),
                Ok(_) => {}
                Err(errno) => return Err(Failure::call(format_args!("poll(<signals>)"), errno)),
            }
            if let Some(arrived) = self.read()? {
                return Ok(Some(arrived));
            }
        }
    }

    /// Waits for the next signal.
    pub fn next(&self) -> Result<Arrived, Failure> {
        loop {
            if let Some(arrived) = self.read()? {
                return Ok(arrived);
            }
        }
    }

    /// Reads one signal. SIGPIPE from this process itself is no message: it is the other half of EPIPE, for a write whose reader
    /// has gone. Forwarded, it would end the command.
    fn read(&self) -> Result<Option<Arrived>, Failure> {
        match self.0.read_signal() {
            Ok(Some(info)) if info.ssi_signo == libc::SIGPIPE as u32 && info.ssi_pid == std::process::id() => Ok(None),
            Ok(Some(info)) => {
                let by_kernel = info.ssi_code == libc::SI_KERNEL;
                Ok(Some(Arrived { number: info.ssi_signo as i32, by_kernel }))
            }
            Ok(None) | Err(Errno::EINTR) => Ok(None),
            Err(errno) => Err(Failure::call(format_args!("read(<signals>)"), errno)),
        }
    }
}

/// A signal that waits for this process, blocked, and that asks it to end (man 2 sigpending). It stays where it is.
pub fn asked_to_end() -> Option<i32> {
    // SAFETY: all zero is a valid set, and the kernel writes no more than one.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` outlives the call.
    Errno::result(unsafe { libc::sigpending(&raw mut set) }).ok()?;
    // SAFETY: the set was filled in, and is only looked at.
    let is_pending = |number: &i32| unsafe { libc::sigismember(&raw const set, *number) } == 1;
    [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT].into_iter().find(is_pending)
}

/// Sends a signal to a process that is not our child (man 2 kill).
pub fn kill(pid: i32, number: i32) -> Result<(), Failure> {
    // SAFETY: takes numbers, touches no memory.
    let result = Errno::result(unsafe { libc::kill(pid, number) });
    call(format_args!("kill({pid}, {})", name(number)), result.map(drop))
}

impl std::os::fd::AsFd for Signals {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Stops this process until it is sent SIGCONT.
pub fn stop_self() -> Result<(), Failure> {
    call(format_args!("raise(SIGSTOP)"), nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP))
}

/// A signal's name, `SIGTERM`, or its number where it has none.
pub fn name(number: i32) -> String {
    nix::sys::signal::Signal::try_from(number).map_or_else(|_| number.to_string(), |signal| signal.as_str().to_owned())
}
