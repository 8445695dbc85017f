//! Through rights that a process has beyond its files: its terminal, its keys, setuid programs.

use std::io::IsTerminal;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use inmate::sys;
use nix::errno::Errno;
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};

use super::Verdict::{self, Escaped, Held, NotApplicable};
use super::reason;
use crate::sentinel;

/// Types into the terminal. What is typed stays there after we end, for the shell outside to run; we take it back.
pub fn tiocsti() -> Verdict {
    if !std::io::stdin().is_terminal() {
        return NotApplicable("standard input is no terminal".to_owned());
    }
    match without_echo(|| sys::type_into(std::io::stdin())) {
        Ok(()) => Escaped("typed into the terminal outside".to_owned()),
        Err(Errno::EIO) => {
            NotApplicable("this kernel allows it to no process (sysctl dev.tty.legacy_tiocsti)".to_owned())
        }
        Err(errno) => Held(format!("ioctl TIOCSTI => {errno:?}")),
    }
}

/// What the terminal is given meanwhile does not show on it.
fn without_echo<T>(work: impl FnOnce() -> T) -> T {
    let Ok(before) = tcgetattr(std::io::stdin()) else { return work() };
    let mut quiet = before.clone();
    quiet.local_flags.remove(LocalFlags::ECHO);
    let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, &quiet);
    let result = work();
    let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, &before);
    result
}

/// Looks for a key that was put into the session keyring outside.
pub fn keyring() -> Verdict {
    match sys::find_session_key(sentinel::KEY) {
        Ok(()) => Escaped("found the sentinel's key".to_owned()),
        Err(Errno::ENOSYS) => NotApplicable("this kernel has no keys".to_owned()),
        Err(errno) => Held(format!("keyctl SEARCH => {errno:?}")),
    }
}

/// The word with which the inmate, started as a setuid program, tells which user it has become.
pub const SETUID_PROBE: &str = "who-am-i";

/// Says by its exit status whether it runs as root.
pub fn setuid_probe() -> ExitCode {
    if nix::unistd::geteuid().is_root() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// Makes a copy of itself that runs with its owner's rights, and starts it as an ordinary user.
pub fn setuid() -> Verdict {
    const COPY: &str = "/tmp/inmate-setuid";
    const ORDINARY: u32 = 1000;
    let own = [Path::new("/bin/inmate").to_owned(), std::env::current_exe().unwrap_or_default()];
    let Some(own) = own.iter().find(|path| path.exists()) else { return NotApplicable("where am I?".to_owned()) };
    let made = std::fs::copy(own, COPY).and_then(|_| {
        std::fs::set_permissions(COPY, PermissionsExt::from_mode(0o4755))?;
        Command::new(COPY).arg(SETUID_PROBE).uid(ORDINARY).gid(ORDINARY).status()
    });
    let _ = std::fs::remove_file(COPY);
    match made {
        Ok(status) if status.success() => Escaped("an ordinary user has become root".to_owned()),
        Ok(_) => Held("the setuid program stayed an ordinary user".to_owned()),
        Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => {
            NotApplicable("there is only one user in here".to_owned())
        }
        Err(error) => Held(reason(&error)),
    }
}
