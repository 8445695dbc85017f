//! Failures that teach: one line that names the object, the call and the reason, and a second with the remedy.
//!
//! A refused call becomes a [`Failure`]; on its way up `anyhow` puts the object before it:
//!
//! ```text
//! pivot-root: cannot move the root to target/rootfs/busybox: pivot_root(".", ".") => EINVAL
//! hint: is / still shared? its mounts must be private first: findmnt -o TARGET,PROPAGATION /
//! ```

use std::fmt;

use nix::errno::Errno;

/// The launcher itself failed, bad options included. 126 and 127 are for a command that cannot be run.
pub const LAUNCHER_FAILED: u8 = 125;

// ANCHOR: failure
/// What went wrong, the exit code that says so, and what usually helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    text: String,
    errno: Option<Errno>,
    code: u8,
    hint: Option<String>,
}
// ANCHOR_END: failure

impl Failure {
    /// A failure that no system call reported, with exit code 125.
    pub fn new(text: impl Into<String>) -> Failure {
        Failure { text: text.into(), errno: None, code: LAUNCHER_FAILED, hint: None }
    }

    /// A system call that the kernel refused: `chroot("/nowhere") => ENOENT`.
    pub fn call(call: fmt::Arguments<'_>, errno: Errno) -> Failure {
        Failure { errno: Some(errno), ..Failure::new(format!("{call} => {errno:?}")) }
    }

    /// The same failure with the usual remedy, printed on a line of its own.
    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// The same failure with another exit code than 125.
    pub fn code(mut self, code: u8) -> Failure {
        self.code = code;
        self
    }

    /// The kernel's reason, if a call failed.
    pub fn errno(&self) -> Option<Errno> {
        self.errno
    }

    /// The kernel's reason of the failure in an error, under all its context.
    pub fn errno_in(error: &anyhow::Error) -> Option<Errno> {
        error.downcast_ref::<Failure>().and_then(Failure::errno)
    }

    /// The exit code for the launcher.
    pub fn exit_code(&self) -> u8 {
        self.code
    }

    /// Everything that is known of an error, with its whole context, in one failure.
    pub fn from_error(error: &anyhow::Error) -> Failure {
        let cause = error.downcast_ref::<Failure>();
        Failure {
            text: format!("{error:#}"),
            errno: cause.and_then(Failure::errno),
            code: cause.map_or(LAUNCHER_FAILED, Failure::exit_code),
            hint: cause.and_then(|failure| failure.hint.clone()),
        }
    }

    /// The failure as it crosses a pipe from child to parent: exit code, text, a NUL, hint.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.code];
        bytes.extend_from_slice(self.text.replace('\0', " ").as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(self.hint.as_deref().unwrap_or_default().as_bytes());
        bytes
    }

    /// The other end of [`Failure::to_bytes`]; `None` when nothing was sent.
    pub fn from_bytes(bytes: &[u8]) -> Option<Failure> {
        let (&code, rest) = bytes.split_first()?;
        let rest = String::from_utf8_lossy(rest);
        let (text, hint) = rest.split_once('\0').unwrap_or((&rest, ""));
        let hint = (!hint.is_empty()).then(|| hint.to_owned());
        Some(Failure { hint, ..Failure::new(text).code(code) })
    }

    /// The lines that a launcher prints before it ends.
    pub fn lines(&self, program: &str) -> String {
        let hint = self.hint.iter().map(|hint| format!("hint: {}\n", printable(hint)));
        std::iter::once(format!("{program}: {}\n", printable(&self.text))).chain(hint).collect()
    }
}

/// A text with its control characters escaped. Names that come from an image could otherwise speak to the terminal, or forge a
/// line of a log. Of a text that is longer than any message, as a name of a megabyte makes it, the middle is left out: it ends with
/// the reason.
pub fn printable(text: &str) -> String {
    const HEAD: usize = 1200;
    const TAIL: usize = 600;
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    let length = text.chars().count();
    if length <= HEAD + TAIL {
        return text.chars().map(escaped).collect();
    }
    let head: String = text.chars().take(HEAD).map(escaped).collect();
    head + "..." + &text.chars().skip(length - TAIL).map(escaped).collect::<String>()
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

/// Adds to a refused call what usually helps.
pub trait Remedy<T> {
    /// A hint, whatever the reason was.
    fn hint(self, hint: impl Into<String>) -> Result<T, Failure>;
    /// A hint for one reason only.
    fn hint_on(self, errno: Errno, hint: impl Into<String>) -> Result<T, Failure>;
}

impl<T> Remedy<T> for Result<T, Failure> {
    fn hint(self, hint: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|failure| failure.hint(hint))
    }

    fn hint_on(self, errno: Errno, hint: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|failure| if failure.errno == Some(errno) { failure.hint(hint) } else { failure })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn crosses_the_pipe_whole() {
        let failure = Failure::new("cannot run nosuch: not found").code(127).hint("ls /bin");
        assert_eq!(Failure::from_bytes(&failure.to_bytes()), Some(failure));
        assert_eq!(Failure::from_bytes(b""), None);
    }

    #[test]
    fn a_name_from_an_image_is_one_line() {
        let failure = Failure::new("cannot run a\x1b[31m\nlevel=info all is well").hint("look\r\nhint: rm -rf /");
        let lines = failure.lines("chroot");
        assert_eq!(lines.lines().count(), 2, "{lines}");
        assert!(!lines.contains('\x1b') && !lines.contains('\r'), "{lines:?}");
    }

    #[test]
    fn a_long_name_is_a_short_line() {
        let name = "x".repeat(1 << 20);
        let lines = Failure::call(format_args!("open({name:?})"), Errno::ENAMETOOLONG).lines("chroot");
        assert!(lines.len() < 2000, "{}", lines.len());
        assert!(lines.starts_with("chroot: open(\"xxx") && lines.ends_with("xxx\") => ENAMETOOLONG\n"), "{lines}");
        let all_control = Failure::new("\x1b".repeat(1 << 20)).lines("chroot");
        assert!(all_control.len() < 12_000, "{}", all_control.len());
    }

    #[test]
    fn context_keeps_code_and_hint() {
        let refused: Result<(), Failure> = Err(Failure::call(format_args!("chroot({:?})", "/x"), Errno::EPERM));
        let error = refused.hint_on(Errno::EPERM, "be root").context("cannot enter /x").unwrap_err();
        let lines = Failure::from_error(&error).lines("chroot");
        assert_eq!(lines, "chroot: cannot enter /x: chroot(\"/x\") => EPERM\nhint: be root\n");
    }
}
