//! Lesson 2: a process in namespaces of its own, two pipes to it, and its end.

use std::fmt;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout};
pub use nix::sched::CloneFlags;

use super::{Fd, Lazy, errno, names, signal};
use crate::Failure;
use crate::explain::{Outcome, announce, call};

/// A child process, held by a descriptor: a pid can be used again by another process, a pidfd cannot.
#[derive(Debug)]
pub struct Process {
    pid: libc::pid_t,
    pidfd: Fd,
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000; // libc's is too narrow for it

/// Which of the two processes we are after [`clone3`].
#[derive(Debug)]
pub enum Clone {
    /// The caller, with its new child.
    Parent(Process),
    /// The new process.
    Child,
}

/// Makes a new process, in new namespaces as `flags` say (man 2 clone, "clone3").
///
/// Refused with EINVAL when this process has more than one thread: the child would have a copy of memory in which
/// the other threads' locks are held for ever.
pub fn clone3(flags: CloneFlags, label: &'static str) -> Result<Clone, Failure> {
    clone3_into(flags, None, label)
}

/// A child in new namespaces, born into a cgroup of v2 (CLONE_INTO_CGROUP): it never was in another, so nothing has to be moved.
pub fn clone3_into(flags: CloneFlags, cgroup: Option<&Fd>, label: &'static str) -> Result<Clone, Failure> {
    // A thread cannot be unshared: the kernel refuses it to a process of several, and does nothing for a single one.
    // SAFETY: takes a number, touches no memory.
    let single = Errno::result(unsafe { libc::unshare(libc::CLONE_THREAD) });
    single.map_err(|errno| {
        Failure::call(format_args!("unshare(THREAD)"), errno).hint("a launcher must have one thread when it clones")
    })?;
    let mut pidfd: libc::c_int = -1;
    // SAFETY: all zero is a valid clone_args: no flags, no stack, no pointers.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = flags.bits() as u64 | libc::CLONE_PIDFD as u64;
    arguments.pidfd = &raw mut pidfd as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    // ANCHOR: into_cgroup
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup.raw() as u64;
    }
    // ANCHOR_END: into_cgroup
    let text = Lazy(|| names(flags.iter_names().map(|(name, _)| name), "CLONE_"));
    let into = Lazy(|| cgroup.map_or_else(String::new, |cgroup| format!(", cgroup={cgroup}")));
    let text = format_args!("clone3({text}, pidfd=<{label}>{into})");
    announce(text);
    // SAFETY: `arguments` and `pidfd` outlive the call; without CLONE_VM the child has a copy of this stack and
    // memory, as after fork, and it is the only thread there.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>()) };
    if result == 0 {
        return Ok(Clone::Child);
    }
    let pid = Errno::result(result).map_err(|errno| Failure::call(text, errno))?;
    // SAFETY: the kernel stored a new descriptor in `pidfd`.
    let pidfd = unsafe { super::new_fd(pidfd.into(), label) }.expect("a descriptor, for the call succeeded");
    Ok(Clone::Parent(Process { pid: pid as libc::pid_t, pidfd }))
}

/// Makes a new process like this one, in the same namespaces (man 2 fork; man 2 pidfd_open).
///
/// Not by clone3: a seccomp filter cannot look at its arguments, which lie behind a pointer, so step 6's refuses it.
pub fn fork(label: &'static str) -> Result<Clone, Failure> {
    let text = format_args!("fork(), pidfd_open(<{label}>)");
    announce(text);
    // SAFETY: every caller has one thread, so what the child goes on with is whole.
    let pid = match unsafe { nix::unistd::fork() }.map_err(|errno| Failure::call(text, errno))? {
        nix::unistd::ForkResult::Child => return Ok(Clone::Child),
        nix::unistd::ForkResult::Parent { child } => child.as_raw(),
    };
    // The child is not reaped yet, so the pid is its own.
    let pidfd = open_pidfd(pid, label).map_err(|errno| Failure::call(text, errno))?;
    Ok(Clone::Parent(Process { pid, pidfd }))
}

fn open_pidfd(pid: i32, label: &'static str) -> Result<Fd, Errno> {
    // SAFETY: takes numbers only.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    // SAFETY: pidfd_open gives a new descriptor.
    unsafe { super::new_fd(result, label) }
}

/// Makes a process like this one that is our parent's child, and not ours (man 2 clone, CLONE_PARENT): its pid as we see
/// it, or none in the new process. Its end is told to the parent as ours would be.
///
/// The old call, not clone3, for the same reason as in [`fork`].
pub fn fork_sibling(namespaces: CloneFlags) -> Result<Option<i32>, Failure> {
    let flags = namespaces | CloneFlags::CLONE_PARENT;
    let text = Lazy(|| names(flags.iter_names().map(|(name, _)| name), "CLONE_"));
    announce(format_args!("clone({text})"));
    let number = libc::c_long::from(flags.bits() | libc::SIGCHLD);
    // SAFETY: without CLONE_VM the new process has a copy of this stack and memory; this process has one thread.
    let result = unsafe { libc::syscall(libc::SYS_clone, number, 0, 0, 0, 0) };
    let pid = Errno::result(result).map_err(|errno| Failure::call(format_args!("clone({text})"), errno))?;
    Ok((pid != 0).then_some(pid as i32))
}

impl Process {
    /// A process that is there already, by its pid (man 2 pidfd_open). Waiting for it takes a child.
    ///
    /// # Errors
    /// ESRCH: there is no such process.
    pub fn open(pid: i32, label: &'static str) -> Result<Process, Failure> {
        let pidfd = call(format_args!("pidfd_open(<pid>)"), open_pidfd(pid, label))?;
        Ok(Process { pid, pidfd })
    }

    /// The pid, as this process sees it.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The descriptor that holds it (man 2 pidfd_open).
    pub fn descriptor(&self) -> &Fd {
        &self.pidfd
    }

    /// Sends a signal (man 2 pidfd_send_signal). A process that has ended already is no error.
    pub fn send_signal(&self, number: i32) -> Result<(), Failure> {
        match self.signal(number) {
            Err(failure) if failure.errno() == Some(Errno::ESRCH) => Ok(()),
            sent => sent,
        }
    }

    /// Sends a signal to a process that must be there (man 2 pidfd_send_signal).
    ///
    /// # Errors
    /// ESRCH: it has ended, and was waited for.
    pub fn signal(&self, number: i32) -> Result<(), Failure> {
        let none = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: a null siginfo is allowed and means "as kill(2) would fill it in".
        let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.pidfd.raw(), number, none, 0) };
        let text = format_args!("pidfd_send_signal({}, {})", self.pidfd, signal::name(number));
        call(text, Errno::result(result).map(drop))
    }

    /// Waits until the process has ended, which need not be a child (man 2 pidfd_open); `false` if the time was up first.
    pub fn wait_for_end(&self, milliseconds: u16) -> Result<bool, Failure> {
        let mut polled = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        let result = nix::poll::poll(&mut polled, milliseconds).map(|count| count as usize);
        Ok(call(format_args!("poll({}, {milliseconds} ms)", self.pidfd), result)? > 0)
    }

    /// Waits until the process has ended (man 2 waitid).
    pub fn wait(&self) -> Result<Exit, Failure> {
        let exit = wait_for(libc::P_PIDFD, self.pidfd.raw() as libc::id_t, libc::WEXITED);
        call(format_args!("waitid({})", self.pidfd), exit.map(|ended| ended.expect("it waited").1))
    }

    /// Whether the process was killed before it became another program: how, if so. Then what its exec would have closed is
    /// closed all the same (man 5 proc, /proc/PID/stat, flags; man 2 waitid, WNOWAIT).
    pub fn killed_before_exec(&self) -> Result<Option<Exit>, Failure> {
        if !ends_without_exec(self.pid) {
            return Ok(None);
        }
        let exit = wait_for(libc::P_PIDFD, self.pidfd.raw() as libc::id_t, libc::WEXITED | libc::WNOWAIT);
        let exit = exit.map_err(|errno| Failure::call(format_args!("waitid({})", self.pidfd), errno))?;
        Ok(exit.map(|ended| ended.1).filter(|exit| matches!(exit, Exit::Signal(_))))
    }

    /// How the process has ended; `None` if it has not.
    pub fn try_wait(&self) -> Result<Option<Exit>, Failure> {
        match wait_for(libc::P_PIDFD, self.pidfd.raw() as libc::id_t, libc::WEXITED | libc::WNOHANG) {
            Ok(None) => Ok(None),
            ended => {
                let exit = ended.map(|ended| ended.expect("None is taken above").1);
                call(format_args!("waitid({})", self.pidfd), exit).map(Some)
            }
        }
    }
}

/// What the kernel tells of a process in one line, from behind its name, which may have anything in it: the first word is its
/// state (man 5 proc, /proc/PID/stat). `None` if there is no such process.
pub fn stat(pid: i32) -> Option<String> {
    let mut line = [0; 2048];
    // One call: the kernel makes the whole line anew for each.
    let count = std::fs::File::open(format!("/proc/{pid}/stat")).and_then(|mut file| file.read(&mut line)).ok()?;
    let line = String::from_utf8_lossy(&line[..count]);
    line.rsplit(')').next().map(str::to_owned)
}

/// When a process began; `None` if it has ended, or is a zombie (man 5 proc, /proc/PID/stat).
pub fn begin_of(pid: i32) -> Option<u64> {
    let line = stat(pid)?;
    let fields: Vec<&str> = line.split_whitespace().collect();
    let is_dead = matches!(*fields.first()?, "Z" | "X");
    if is_dead { None } else { fields.get(19)?.parse().ok() }
}

/// Whether a process ends or has ended, is not waited for yet, and never became another program (man 5 proc, /proc/PID/stat,
/// flags).
pub fn ends_without_exec(pid: i32) -> bool {
    const EXITING: u64 = 0x4;
    const HAS_NOT_EXECED: u64 = 0x40;
    let flags = stat(pid).and_then(|fields| fields.split_whitespace().nth(6)?.parse::<u64>().ok());
    flags.is_some_and(|flags| flags & EXITING != 0 && flags & HAS_NOT_EXECED != 0)
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It left with this code.
    Code(u8),
    /// This signal ended it.
    Signal(i32),
}

impl Exit {
    /// The exit code as a shell gives it: the command's own, or 128 and the signal's number.
    pub fn code(self) -> u8 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(number) => 128 + number as u8,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exited {code}"),
            Exit::Signal(number) => write!(f, "killed by {}", signal::name(*number)),
        }
    }
}

impl Outcome for Exit {
    fn show(&self) -> String {
        self.to_string()
    }
}

/// Reaps one child of this process that has ended, whichever it is: its pid, and how it ended. `None` if none has.
pub fn reap_any() -> Result<Option<(i32, Exit)>, Failure> {
    match wait_for(libc::P_ALL, 0, libc::WEXITED | libc::WNOHANG) {
        Err(Errno::ECHILD) => Ok(None),
        other => other.map_err(|errno| Failure::call(format_args!("waitid(ALL)"), errno)),
    }
}

fn wait_for(kind: libc::idtype_t, id: libc::id_t, options: i32) -> Result<Option<(i32, Exit)>, Errno> {
    // SAFETY: all zero is a valid siginfo; a pid of 0 in it afterwards means that nothing has ended.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: `info` outlives the call, and the kernel writes no more than a siginfo there.
        let result = unsafe { libc::waitid(kind, id, &raw mut info, options) };
        match Errno::result(result) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        // SAFETY: waitid succeeded, so the fields of a SIGCHLD are the ones that are set (or all zero).
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        let exit = if info.si_code == libc::CLD_EXITED { Exit::Code(status as u8) } else { Exit::Signal(status) };
        return Ok((pid != 0).then_some((pid, exit)));
    }
}

/// A pipe, closed on exec at both ends (man 2 pipe): what is written into the second comes out of the first.
pub fn pipe(read: &'static str, write: &'static str) -> Result<(Fd, Fd), Failure> {
    let ends = nix::unistd::pipe2(OFlag::O_CLOEXEC);
    call(format_args!("pipe2(CLOEXEC)"), ends.map(|(r, w)| (Fd::new(r, read), Fd::new(w, write))))
}

/// Waits until something is written at the other end, or its last writer has closed it (man 2 read): how many bytes
/// came, none in the second case.
pub fn read_some(fd: &Fd) -> Result<usize, Failure> {
    let mut bytes = [0; 16];
    call(format_args!("read({fd})"), nix::unistd::read(fd, &mut bytes))
}

/// Reads until the last writer has closed the other end (man 2 read).
pub fn read_to_end(fd: &Fd) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let result = as_file(fd).and_then(|mut file| file.read_to_end(&mut bytes).map_err(errno));
    call(format_args!("read({fd})"), result).map(|_| bytes)
}

/// As [`read_to_end`], but looks several times a second whether to give up (man 2 poll): `None` then.
pub fn read_to_end_unless(fd: &Fd, gives_up: impl Fn() -> bool) -> Result<Option<Vec<u8>>, Failure> {
    const PAUSE: u16 = 100; // milliseconds
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    let result = loop {
        let mut polled = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        match nix::poll::poll(&mut polled, PAUSE) {
            Ok(0) if gives_up() => return Ok(None),
            Ok(0) | Err(Errno::EINTR) => continue,
            Err(errno) => break Err(errno),
            Ok(_) => {}
        }
        match nix::unistd::read(fd, &mut buffer) {
            Ok(0) => break Ok(bytes.len()),
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(Errno::EINTR) => {}
            Err(errno) => break Err(errno),
        }
    };
    call(format_args!("read({fd})"), result).map(|_| Some(bytes))
}

/// Writes it all (man 2 write).
pub fn write_all(fd: &Fd, bytes: &[u8]) -> Result<(), Failure> {
    let mut left = bytes;
    let result = loop {
        match nix::unistd::write(fd, left) {
            Ok(count) if count == left.len() => break Ok(()),
            Ok(count) => left = &left[count..],
            Err(Errno::EINTR) => {}
            Err(errno) => break Err(errno),
        }
    };
    call(format_args!("write({fd}, {} bytes)", bytes.len()), result)
}

/// Writes it all (man 2 write), announced before it is made: it lets another process go on.
pub fn write_announced(fd: &Fd, bytes: &[u8]) -> Result<(), Failure> {
    let text = format_args!("write({fd}, {:?})", String::from_utf8_lossy(bytes));
    announce(text);
    let result = nix::unistd::write(fd, bytes).map(drop);
    result.map_err(|errno| Failure::call(text, errno))
}

fn as_file(fd: &Fd) -> Result<std::fs::File, Errno> {
    let copy: OwnedFd = fd.as_fd().try_clone_to_owned().map_err(errno)?;
    Ok(copy.into())
}

/// Whether the last reader of this pipe has gone (man 2 poll, POLLERR).
pub fn reader_has_gone(pipe: &Fd) -> Result<bool, Failure> {
    let mut polled = [PollFd::new(pipe.as_fd(), PollFlags::empty())];
    let result = nix::poll::poll(&mut polled, PollTimeout::ZERO);
    call(format_args!("poll({pipe}, 0)"), result.map(|count| count as usize)).map(|count| count > 0)
}

/// Asks the kernel for SIGKILL when the parent ends (man 2 PR_SET_PDEATHSIG). Changing credentials forgets it.
pub fn die_with_parent() -> Result<(), Failure> {
    let result = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
    call(format_args!("prctl(SET_PDEATHSIG, SIGKILL)"), result)
}

/// Enters a new time namespace with the next child, not with this process (man 7 time_namespaces).
pub fn unshare_time() -> Result<(), Failure> {
    // SAFETY: takes a number, touches no memory.
    let result = unsafe { libc::unshare(libc::CLONE_NEWTIME) };
    call(format_args!("unshare(NEWTIME)"), Errno::result(result).map(drop))
}

/// Enters a new cgroup namespace: the group in which this process is becomes its root (man 7 cgroup_namespaces).
pub fn unshare_cgroup() -> Result<(), Failure> {
    call(format_args!("unshare(NEWCGROUP)"), nix::sched::unshare(CloneFlags::CLONE_NEWCGROUP))
}

/// Writes a text to a file of the kernel's (in /proc, /sys), in one call: such files take it whole or not at all.
pub fn write_file(path: &str, text: &str) -> Result<(), Failure> {
    let result = std::fs::OpenOptions::new().write(true).open(path).and_then(|mut file| file.write(text.as_bytes()));
    call(format_args!("write({path:?}, {text:?})"), result.map_err(errno)).map(drop)
}

/// Names this machine anew, for every process in its uts namespace (man 2 sethostname).
pub fn sethostname(name: &str) -> Result<(), Failure> {
    call(format_args!("sethostname({name:?})"), nix::unistd::sethostname(name))
}

/// This machine's name (man 2 gethostname).
pub fn gethostname() -> Result<String, Failure> {
    let name = nix::unistd::gethostname().map_err(|errno| Failure::call(format_args!("gethostname()"), errno))?;
    Ok(name.to_string_lossy().into_owned())
}

/// Leaves at once, without running anything that the parent's copy of this memory has prepared (man 2 _exit).
pub fn exit_now(code: u8) -> ! {
    // SAFETY: ends the process; nothing runs after it.
    unsafe { libc::_exit(code.into()) }
}

/// The process group that a terminal's Ctrl-C and Ctrl-Z go to (man 3 tcgetpgrp).
#[derive(Debug)]
pub struct Foreground {
    terminal: Fd,
    group: nix::unistd::Pid,
}

impl Foreground {
    /// Remembers which process group has the terminal, if one of the standard descriptors is a terminal and we have it.
    pub fn ours() -> Option<Foreground> {
        let standard = [std::io::stdin().as_fd().try_clone_to_owned(), std::io::stderr().as_fd().try_clone_to_owned()];
        standard.into_iter().flatten().find_map(|fd| {
            let group = nix::unistd::tcgetpgrp(&fd).ok()?;
            (group == nix::unistd::getpgrp()).then(|| Foreground { terminal: Fd::new(fd, "terminal"), group })
        })
    }

    /// Takes the terminal back: a shell that ended in the container may have kept it. SIGTTOU must be blocked.
    pub fn take_back(&self) -> Result<(), Failure> {
        if nix::unistd::tcgetpgrp(&self.terminal) == Ok(self.group) {
            return Ok(());
        }
        let result = nix::unistd::tcsetpgrp(&self.terminal, self.group);
        call(format_args!("tcsetpgrp({}, <our group>)", self.terminal), result)
    }
}
