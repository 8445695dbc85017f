//! terminals. A pseudo-terminal has two ends: who holds the master sees what the program on the other writes.

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag};

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

/// The size of the terminal that a standard descriptor is (man 2 TIOCGWINSZ); `None` if it is none.
pub fn size_of_standard(fd: i32) -> Option<Size> {
    // SAFETY: all zero is a valid winsize.
    let mut winsize: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: TIOCGWINSZ writes a winsize.
    let result = unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, &raw mut winsize) };
    (result == 0).then_some(Size { height: winsize.ws_row, width: winsize.ws_col })
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
        // SAFETY: dup2 onto a standard descriptor: whoever uses these expects that they may be replaced.
        Errno::result(unsafe { libc::dup2(terminal.raw(), number) }).map(drop)
    });
    call(format_args!("dup2({terminal}, 0..2)"), result)
}

/// How a terminal treats what is typed (man 3 termios): saved, so that it can be restored.
#[derive(Debug)]
pub struct Mode {
    fd: i32,
    before: libc::termios,
}

impl Mode {
    /// Passes everything on as it is typed: the other terminal, in the container, sees to the rest (man 3 cfmakeraw).
    pub fn raw(fd: i32) -> Option<Mode> {
        // SAFETY: all zero is a valid termios.
        let mut before: libc::termios = unsafe { std::mem::zeroed() };
        // SAFETY: tcgetattr writes a termios.
        if unsafe { libc::tcgetattr(fd, &raw mut before) } != 0 {
            return None;
        }
        let mut raw = before;
        // SAFETY: cfmakeraw changes the structure only.
        unsafe { libc::cfmakeraw(&raw mut raw) };
        // SAFETY: tcsetattr reads a termios, which outlives the call.
        unsafe { libc::tcsetattr(fd, libc::TCSANOW, &raw const raw) };
        Some(Mode { fd, before })
    }
}

impl Drop for Mode {
    fn drop(&mut self) {
        // SAFETY: tcsetattr reads a termios, which outlives the call.
        unsafe { libc::tcsetattr(self.fd, libc::TCSANOW, &raw const self.before) };
    }
}
