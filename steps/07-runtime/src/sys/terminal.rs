//! Terminals. A pseudo-terminal has two ends: what the program writes at one end, the slave, is read from the other, the master.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, OpenHow, ResolveFlag};
use nix::sys::stat::{SFlag, fstat, major, minor};

use kernel::Failure;
use kernel::explain::call;
use kernel::sys::{Fd, new_fd};

/// Rows and columns of characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size {
    /// Rows.
    pub height: u16,
    /// Columns.
    pub width: u16,
}

impl Size {
    /// A terminal without rows or without columns is one whose size has not been set.
    pub fn is_unknown(self) -> bool {
        self.height == 0 || self.width == 0
    }
}

/// A new pseudo-terminal of the devpts that is mounted below `root` (man 7 pty): master and slave.
///
/// The slave is asked from the master (TIOCGPTPEER), not looked up by path: nobody can put another in its place.
pub fn open_pair(root: &Fd) -> Result<(Fd, Fd), Failure> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS;
    let master = nix::fcntl::openat2(root, "dev/pts/ptmx", OpenHow::new().flags(flags).resolve(resolve));
    let master = call(
        format_args!("openat2({root}, \"dev/pts/ptmx\", IN_ROOT|NO_SYMLINKS)"),
        master.map(|fd| Fd::new(fd, "terminal's master")),
    )?;
    let unlock: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int, which outlives the call.
    let unlocked = unsafe { libc::ioctl(master.raw(), libc::TIOCSPTLCK, &raw const unlock) };
    call(format_args!("ioctl({master}, TIOCSPTLCK, 0)"), Errno::result(unlocked).map(drop))?;
    // SAFETY: takes numbers only.
    let slave = unsafe { libc::ioctl(master.raw(), libc::TIOCGPTPEER, flags.bits()) };
    // SAFETY: TIOCGPTPEER gives a new descriptor.
    let slave = call(format_args!("ioctl({master}, TIOCGPTPEER)"), unsafe { new_fd(slave.into(), "terminal") })?;
    Ok((master, slave))
}

/// Sets a terminal's size (man 2 TIOCSWINSZ).
pub fn resize(terminal: &Fd, size: Size) -> Result<(), Failure> {
    let winsize = libc::winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads a winsize, which outlives the call.
    let result = unsafe { libc::ioctl(terminal.raw(), libc::TIOCSWINSZ, &raw const winsize) };
    call(format_args!("ioctl({terminal}, TIOCSWINSZ, {}x{})", size.width, size.height), Errno::result(result).map(drop))
}

/// The size of the caller's terminal (man 2 TIOCGWINSZ): of standard input, output or error, whichever is one.
pub fn size_of_standard() -> Option<Size> {
    (0..3).find_map(|fd| {
        // SAFETY: all zero is a valid winsize.
        let mut winsize: libc::winsize = unsafe { std::mem::zeroed() };
        // SAFETY: TIOCGWINSZ writes a winsize.
        let result = unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, &raw mut winsize) };
        (result == 0).then_some(Size { height: winsize.ws_row, width: winsize.ws_col })
    })
}

/// A read or write of this file never waits (man 2 fcntl, O_NONBLOCK).
pub fn never_wait(file: &Fd) -> Result<(), Failure> {
    let result = nix::fcntl::fcntl(file, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK));
    call(format_args!("fcntl({file}, SETFL, NONBLOCK)"), result.map(drop))
}

/// Standard input, for reads that do not wait.
pub fn standard_input() -> Result<Fd, Failure> {
    without_waiting(std::io::stdin().as_fd(), OFlag::O_RDONLY, "standard input")
}

/// Standard output, for writes that do not wait.
pub fn standard_output() -> Result<Fd, Failure> {
    without_waiting(std::io::stdout().as_fd(), OFlag::O_WRONLY, "standard output")
}

/// Other processes use the same open file, and O_NONBLOCK belongs to that: a terminal or pipe is opened again. What cannot be
/// opened again (a socket, or another user's terminal) is used as it is, and may wait.
fn without_waiting(fd: BorrowedFd, access: OFlag, label: &'static str) -> Result<Fd, Failure> {
    if is_terminal_or_pipe(fd) {
        let flags = access | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        if let Ok(opened) = nix::fcntl::open(path.as_str(), flags, nix::sys::stat::Mode::empty()) {
            return Ok(Fd::new(opened, label));
        }
    }
    let copy = fd.try_clone_to_owned().map_err(kernel::sys::errno);
    call(format_args!("fcntl({}, DUPFD_CLOEXEC)", fd.as_raw_fd()), copy.map(|fd| Fd::new(fd, label)))
}

/// The master of a terminal is not opened again: that would make another terminal.
fn is_terminal_or_pipe(fd: BorrowedFd) -> bool {
    let Ok(found) = fstat(fd) else { return false };
    match SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFIFO => true,
        SFlag::S_IFCHR => (major(found.st_rdev), minor(found.st_rdev)) != (5, 2) && nix::unistd::isatty(fd) == Ok(true),
        _ => false,
    }
}

/// A session of its own, without a terminal (man 2 setsid).
pub fn new_session() -> Result<(), Failure> {
    call(format_args!("setsid()"), nix::unistd::setsid().map(drop))
}

/// Makes a terminal the session's own: Ctrl-C typed in it becomes a signal (man 2 TIOCSCTTY).
pub fn control(terminal: &Fd) -> Result<(), Failure> {
    // SAFETY: takes numbers only.
    let result = unsafe { libc::ioctl(terminal.raw(), libc::TIOCSCTTY, 0) };
    call(format_args!("ioctl({terminal}, TIOCSCTTY)"), Errno::result(result).map(drop))
}

/// Makes a descriptor standard input, output and error (man 2 dup2).
pub fn become_standard(terminal: &Fd) -> Result<(), Failure> {
    let result = (0..3).try_for_each(|number| {
        // SAFETY: dup2 onto a standard descriptor: users of these expect that they may be replaced.
        Errno::result(unsafe { libc::dup2(terminal.raw(), number) }).map(drop)
    });
    call(format_args!("dup2({terminal}, 0..2)"), result)
}

/// A line feed stays one (man 3 termios, ONLCR): the caller's terminal moves to the first column, and a pipe or file gets the
/// command's own bytes.
pub fn keep_line_feeds(terminal: &Fd) -> Result<(), Failure> {
    let result = attributes(terminal.raw()).and_then(|mut attributes| {
        attributes.c_oflag &= !libc::ONLCR;
        set_attributes(terminal.raw(), &attributes)
    });
    call(format_args!("tcsetattr({terminal}, -ONLCR)"), result)
}

/// The character that ends the input of a command which reads lines (man 3 termios, VEOF); `None` where keys are read one by
/// one. The master tells this about the other end.
pub fn end_of_file(master: &Fd) -> Option<u8> {
    let attributes = attributes(master.raw()).ok()?;
    (attributes.c_lflag & libc::ICANON != 0).then_some(attributes.c_cc[libc::VEOF])
}

fn attributes(fd: i32) -> Result<libc::termios, Errno> {
    // SAFETY: all zero is a valid termios.
    let mut attributes: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: tcgetattr writes a termios.
    Errno::result(unsafe { libc::tcgetattr(fd, &raw mut attributes) }).map(|_| attributes)
}

fn set_attributes(fd: i32, attributes: &libc::termios) -> Result<(), Errno> {
    // SAFETY: tcsetattr reads a termios, which outlives the call.
    Errno::result(unsafe { libc::tcsetattr(fd, libc::TCSANOW, std::ptr::from_ref(attributes)) }).map(drop)
}

/// How standard input treats what is typed (man 3 termios): saved, so that it can be restored.
#[derive(Debug)]
pub struct Mode {
    before: libc::termios,
}

impl Mode {
    /// Passes everything on as it is typed: the other terminal, in the container, sees to the rest (man 3 cfmakeraw). Only
    /// what is shown is still made ready here (OPOST): a line feed moves to the first column.
    pub fn raw() -> Option<Mode> {
        let before = attributes(libc::STDIN_FILENO).ok()?;
        let mut raw = before;
        // SAFETY: cfmakeraw changes the structure only.
        unsafe { libc::cfmakeraw(&raw mut raw) };
        raw.c_oflag = before.c_oflag | libc::OPOST;
        set_attributes(libc::STDIN_FILENO, &raw).ok()?;
        Some(Mode { before })
    }
}

impl Drop for Mode {
    fn drop(&mut self) {
        let _ = set_attributes(libc::STDIN_FILENO, &self.before);
    }
}
