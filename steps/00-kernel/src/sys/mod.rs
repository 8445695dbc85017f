//! The system calls, one thin function each, a file per lesson. Read a file when its lesson needs it.
//!
//! | file | first used by |
//! |---|---|
//! | [`process`], [`inside`] | step 1: another root, and a clean exec; files of a root filesystem, read with suspicion |
//! | [`clone`], [`signal`] | step 2: a process in namespaces of its own, and what its parent must do for it |
//! | [`mount`] | step 3: file systems made detached, and moved onto a descriptor |
//! | [`netlink`] | step 4: links, addresses and routes |
//! | [`cgroup`], [`group_tree`], [`group_owner`], [`bpf`] | step 5: groups as directories, those inside them, and whose they are; a program that guards the devices |
//! | [`privilege`], [`seccomp`], [`socket`] | step 6: user, capabilities, limits; a filter for calls; descriptors handed over |
//! | [`seal`] | step 2: a sealed copy of the launcher's own program |
//! | [`lock`] | files that one process waits for another to release |
//!
//! Each function makes one call, hands its text to [`crate::explain`], and returns a [`crate::Failure`] that names it.
//! Most go through `nix`, which is safe; where it has no wrapper, the `unsafe` block stands here and says why it is sound.
#![allow(unsafe_code)]

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

pub mod bpf;
pub mod cgroup;
pub mod clone;
pub mod group_owner;
pub mod group_tree;
pub mod inside;
pub mod lock;
pub mod mount;
pub mod netlink;
pub mod privilege;
pub mod process;
pub mod seal;
pub mod seccomp;
pub mod signal;
pub mod socket;

/// An open descriptor, closed when dropped, with the name that the narration and the failures give it: `<root>`.
#[derive(Debug)]
pub struct Fd {
    fd: OwnedFd,
    label: &'static str,
}

impl Fd {
    /// Names a descriptor.
    pub fn new(fd: OwnedFd, label: &'static str) -> Fd {
        Fd { fd, label }
    }

    /// Another descriptor of the same open file, under the same name (man 2 fcntl, F_DUPFD_CLOEXEC).
    pub fn duplicate(&self) -> Result<Fd, crate::Failure> {
        let copy = self.fd.try_clone().map_err(errno);
        copy.map(|fd| Fd::new(fd, self.label))
            .map_err(|errno| crate::Failure::call(format_args!("fcntl({self}, DUPFD_CLOEXEC)"), errno))
    }

    /// Its number.
    pub fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsFd for Fd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl fmt::Display for Fd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.label)
    }
}

/// What a raw call returned, as the kernel's error or as a new descriptor.
///
/// # Safety
/// `result` is the return value of a call that gives a descriptor that nothing else owns.
pub unsafe fn new_fd(result: libc::c_long, label: &'static str) -> Result<Fd, Errno> {
    let fd = Errno::result(result)?;
    // SAFETY: the caller says that the descriptor is new, so nothing else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
    Ok(Fd::new(fd, label))
}

/// Flags as the manual writes them, without their common prefix: `NEWPID|NEWNS`; 0 when there are none.
pub fn names<'a>(names: impl Iterator<Item = &'a str>, prefix: &str) -> String {
    let list: Vec<&str> = names.map(|name| name.trim_start_matches(prefix)).collect();
    if list.is_empty() { "0".to_owned() } else { list.join("|") }
}

/// A value that is formatted only if the narration or a failure asks for it.
#[derive(Debug)]
pub struct Lazy<F: Fn() -> String>(pub F);

impl<F: Fn() -> String> fmt::Display for Lazy<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0())
    }
}

/// The kernel's number behind an error of the standard library.
pub fn errno(error: impl std::borrow::Borrow<std::io::Error>) -> Errno {
    Errno::from_raw(error.borrow().raw_os_error().unwrap_or(libc::EIO))
}
