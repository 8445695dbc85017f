//! Lesson 1: another root directory, and an exec that carries nothing over.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};

use crate::Failure;
use crate::explain::{announce, call};

/// Makes `path` the root directory of this process (man 2 chroot). The working directory stays where it was.
pub fn chroot(path: &Path) -> Result<(), Failure> {
    call(format_args!("chroot({path:?})"), nix::unistd::chroot(path))
}

/// Changes the working directory (man 2 chdir).
pub fn chdir(path: &Path) -> Result<(), Failure> {
    call(format_args!("chdir({path:?})"), nix::unistd::chdir(path))
}

/// The working directory's path below the root (man 2 getcwd). ENOENT if it lies elsewhere.
pub fn getcwd() -> Result<PathBuf, Failure> {
    call(format_args!("getcwd()"), nix::unistd::getcwd())
}

// ANCHOR: close_range
/// Closes every descriptor from `first` on (man 2 close_range, Linux 5.9). Call it before anything is opened.
pub fn close_from(first: u32) -> Result<(), Failure> {
    // SAFETY: takes three numbers and touches no memory. What it closes came from our caller: nothing here owns it.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    call(format_args!("close_range({first}, MAX)"), Errno::result(result).map(drop))
}
// ANCHOR_END: close_range

/// Closes every descriptor from `first` on but these (man 2 close_range). For a process that goes on to wait and to exec:
/// an owner of one of the others must never use it again.
pub fn close_all_but(kept: &[&super::Fd], first: u32) -> Result<(), Failure> {
    let mut numbers: Vec<u32> = kept.iter().map(|fd| fd.raw() as u32).collect();
    numbers.sort_unstable();
    let close = |from: u32, to: u32| {
        // SAFETY: takes three numbers and touches no memory; what it closes is not used any more.
        let result = unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) };
        call(format_args!("close_range(<all but what is needed>)"), Errno::result(result).map(drop))
    };
    let mut next = first;
    for number in numbers.into_iter().filter(|number| *number >= first) {
        if number > next {
            close(next, number - 1)?;
        }
        next = number + 1;
    }
    close(next, u32::MAX)
}

/// Gives every signal its default action, and blocks none (man 7 signal).
///
/// Both survive an exec, and Rust starts each program with SIGPIPE ignored: without this, `yes | head` in the
/// container would get an error instead of an end, and many a program would go on for ever.
pub fn reset_signals() -> Result<(), Failure> {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: the default action needs no handler, so no code of ours can be called. KILL, STOP and the two
        // that libc keeps for itself answer EINVAL, which is fine.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    call(format_args!("sigaction(1..{}, SIG_DFL)", libc::SIGRTMAX()), Ok(()))?;
    let none = SigSet::empty();
    call(format_args!("sigprocmask(SETMASK, [])"), sigprocmask(SigmaskHow::SIG_SETMASK, Some(&none), None))
}

/// Which rights new files do not have (man 2 umask).
pub fn umask(mask: u32) {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(mask));
    let _ = call(format_args!("umask({mask:03o})"), Ok(()));
}

/// Overwrites the words and variables that this program was started with: every process that may look at it can read them in
/// /proc/PID/cmdline and /proc/PID/environ (man 5 proc). Nothing may ask for them afterwards. Without /proc nothing is done.
pub fn wipe_arguments() -> Result<(), Failure> {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return Ok(()) };
    let fields: Vec<usize> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split(' ')
        .skip(1)
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    const ARGUMENTS_BEGIN: usize = 48 - 3; // the fields after the name begin with the third
    for range in fields.get(ARGUMENTS_BEGIN..ARGUMENTS_BEGIN + 4).unwrap_or_default().chunks(2) {
        let (begin, end) = (range[0], range[1]);
        if begin != 0 && end > begin {
            // SAFETY: the kernel says that the strings lie there, on this program's own stack. They are read no more, and
            // whatever read them would find empty strings.
            unsafe { std::ptr::write_bytes(std::ptr::with_exposed_provenance_mut::<u8>(begin), 0, end - begin) };
        }
    }
    call(format_args!("<overwrite the arguments and the environment>"), Ok(()))
}

/// Refuses a directory as standard input, output or error: it would be a way out of any root (man 2 fstat).
pub fn refuse_directories() -> Result<(), Failure> {
    for (number, name) in ["input", "output", "error"].iter().enumerate() {
        // SAFETY: all zero is a valid stat.
        let mut found: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: `found` outlives the call; a number that is not open answers EBADF.
        let result = unsafe { libc::fstat(number as i32, &raw mut found) };
        if result == 0 && found.st_mode & libc::S_IFMT == libc::S_IFDIR {
            return Err(Failure::new(format!(
                "standard {name} is a directory: paths of the host could be reached by it"
            ))
            .hint("redirect it to a file, or to /dev/null"));
        }
    }
    Ok(())
}

/// A random number, for a name that is not taken (man 2 getrandom).
pub fn random() -> Result<u32, Failure> {
    let mut bytes = [0; 4];
    // SAFETY: the kernel writes no more than the four bytes of `bytes`, which outlives the call.
    let result = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    Errno::result(result).map_err(|errno| Failure::call(format_args!("getrandom(4)"), errno))?;
    Ok(u32::from_ne_bytes(bytes))
}

/// Replaces this program by another (man 2 execve). Returns only if the kernel refuses.
pub fn execve(path: &CStr, arguments: &[CString], environment: &[CString]) -> Result<Infallible, Failure> {
    let text = format_args!("execve({path:?}, {arguments:?}, {} variables)", environment.len());
    announce(text);
    nix::unistd::execve(path, arguments, environment).map_err(|errno| Failure::call(text, errno))
}

/// Whether no program can be run from the file system that a file is on (man 3 statvfs, ST_NOEXEC).
pub fn is_on_noexec(path: &Path) -> bool {
    use nix::sys::statvfs::{FsFlags, statvfs};
    statvfs(path).is_ok_and(|found| found.flags().contains(FsFlags::ST_NOEXEC))
}
