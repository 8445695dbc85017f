//! The report: a pipe through which the child says what went wrong, whole, instead of just being gone.
//!
//! Its entry closes on exec. So when the parent reads the end and nothing before it, the command runs.

use std::sync::Mutex;

use anyhow::Result;
use kernel::sys::{clone, process};
use kernel::{Failure, Fd, explain, purpose};

/// A report that begins with this is one of success, so far. No failure does: its exit code is never 0.
const SIGN: u8 = 0;

/// This process's entry to the report: a process has one parent, so there is one.
static ENTRY: Mutex<Option<Fd>> = Mutex::new(None);

/// Takes the entry; from now on a panic goes into the report, and ends this process at once.
pub fn open(entry: Fd) {
    *ENTRY.lock().expect("one thread") = Some(entry);
    std::panic::set_hook(Box::new(|panic| {
        send_and_exit(&Failure::new(format!("this is a mistake of the launcher's: {panic}")));
    }));
}

/// Sends a failure to the parent, and ends this process with the failure's exit code.
pub fn send_and_exit(failure: &Failure) -> ! {
    if let Ok(Some(entry)) = ENTRY.lock().as_deref() {
        let _ = clone::write_all(entry, &failure.to_bytes()); // if no process reads it, none needs it
    }
    clone::exit_now(failure.exit_code())
}

/// Says that the command is about to begin: to a reader that is not the parent, and so cannot ask the kernel afterwards whether
/// this process was killed before (step 7's `start`).
pub fn sign() {
    if let Ok(Some(entry)) = ENTRY.lock().as_deref() {
        let _ = clone::write_all(entry, &[SIGN]); // a reader that has gone needs no sign
    }
}

/// What a report means that [`sign`] belongs into.
///
/// # Errors
/// The failure that was reported; there is no sign, because the writer was killed before.
pub fn read_signed(report: &[u8]) -> Result<(), Failure> {
    match report.strip_prefix(&[SIGN]).unwrap_or(report) {
        [] if report.is_empty() => {
            Err(Failure::new("the container's first process was killed before its command began"))
        }
        failure => Failure::from_bytes(failure).map_or(Ok(()), Err),
    }
}

/// Closes this process's entry. The parent reads on while another process still has one.
pub fn close() {
    *ENTRY.lock().expect("one thread") = None;
}

// ANCHOR: close_all_but
/// Closes every descriptor from `first` on but these and the entry, then looks whether this process stands below its root.
///
/// Close-on-exec is too late. The kernel resolves the program, a symbolic link, the interpreter after a script's `#!` and
/// a program's loader *before* it closes anything, and `#!/proc/self/fd/3/../../../bin/sh` climbs out by a directory of
/// the host. So this comes before the first path of the container is resolved, and before a filter could refuse the call.
///
/// # Errors
/// ENOENT: the working directory is not below the root (man 2 getcwd).
pub fn close_all_but(kept: &[&Fd], first: u32) -> Result<()> {
    purpose("what is open is a way out, and the exec would close it too late: close it before a path is looked up");
    let entry = ENTRY.lock().expect("one thread");
    let kept: Vec<&Fd> = kept.iter().copied().chain(entry.iter()).collect();
    process::close_all_but(&kept, first)?;
    Ok(process::getcwd().map(drop)?)
}
// ANCHOR_END: close_all_but

/// Closes the entry, and tells of it: for a child that waits before its exec (step 7). The parent hears of no failure from
/// here on, and may end.
pub fn finish() {
    explain::announce(format_args!("close(<report>)")); // what is told afterwards, the parent may not live to see
    close();
}

/// Whether the parent has gone: it alone reads the report.
pub fn reader_has_gone() -> Result<bool> {
    match ENTRY.lock().expect("one thread").as_ref() {
        Some(entry) => Ok(clone::reader_has_gone(entry)?),
        None => Ok(true),
    }
}
