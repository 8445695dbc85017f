//! Lesson 5, beside it: a note on a group that says whose it is (man 7 xattr). A path can be another group's by now, and a group
//! can have been taken over by another launcher: the note tells.
//!
//! Root's note is `trusted.`, which no process in a container can read or change; an ordinary user's is `user.`. The kernel has
//! had both on groups since 5.7, and a note that cannot be written is none: then the inode alone tells groups apart.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;

const NAMES: [&CStr; 2] = [c"trusted.cellblock", c"user.cellblock"];
/// No note is longer.
const MOST: usize = 64;

fn path(group: &Path) -> Option<CString> {
    CString::new(group.as_os_str().as_bytes()).ok()
}

/// Writes on a group whose it is, instead of what another launcher has written there. Whether that could be done.
pub fn note(group: &Path, owner: &str) -> bool {
    let Some(path) = path(group) else { return false };
    NAMES.iter().any(|name| {
        // SAFETY: both strings end in a null byte, and the value has the length that is given; nothing is kept.
        let result = unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), owner.as_ptr().cast(), owner.len(), 0) };
        result == 0
    })
}

/// What stands on a group; nothing if that is nobody's note, or the group is gone.
pub fn noted(group: &Path) -> Option<String> {
    let path = path(group)?;
    NAMES.iter().find_map(|name| {
        let mut value = [0_u8; MOST];
        // SAFETY: both strings end in a null byte; the kernel writes no more than the length that is given.
        let length = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
        let length = Errno::result(length).ok()?;
        Some(String::from_utf8_lossy(&value[..length as usize]).into_owned())
    })
}

/// Takes the note off: the group is nobody's.
pub fn clear(group: &Path) {
    let Some(path) = path(group) else { return };
    for name in NAMES {
        // SAFETY: both strings end in a null byte.
        let _ = unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) };
    }
}
