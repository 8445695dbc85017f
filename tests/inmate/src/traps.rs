//! Traps that are set before a launcher comes by: a keyring that it could join, a socket that it could call.

use std::ffi::CString;
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use inmate::sys;
use nix::errno::Errno;

/// The key by which it is seen that a keyring is shared.
const KEY: &std::ffi::CStr = c"cellblock-caught";

fn name_of(text: &str) -> CString {
    CString::new(text).expect("an argument has no NUL")
}

/// Makes the session keyring of that name, open to all, and waits for a key in it: `caught`, or `nothing`.
pub fn keyring(name: &str, seconds: &str) -> ExitCode {
    let made = sys::join_session_keyring(Some(&name_of(name))).and_then(|()| sys::open_session_keyring());
    match made {
        Ok(()) => println!("set"),
        Err(Errno::ENOSYS) => println!("no keys"),
        Err(errno) => println!("cannot make it: {errno:?}"),
    }
    let end = Instant::now() + Duration::from_secs(seconds.parse().unwrap_or(1));
    while made.is_ok() && Instant::now() < end {
        if sys::find_session_key(KEY).is_ok() {
            println!("caught");
            return ExitCode::SUCCESS;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("nothing");
    ExitCode::FAILURE
}

/// Puts a key into the session keyring: the one that there is, or the one of that name.
pub fn fill_keyring(name: Option<&str>) -> ExitCode {
    let joined = name.map_or(Ok(()), |name| sys::join_session_keyring(Some(&name_of(name))));
    let filled = joined.and_then(|()| sys::fill_session_keyring(KEY));
    println!("{filled:?}");
    std::thread::sleep(Duration::from_millis(200)); // a keyring goes with the last process that has it
    ExitCode::from(u8::from(filled.is_err()))
}

/// Listens at a path, and says when a process connects.
pub fn listen(path: &str) -> ExitCode {
    let listener = match UnixListener::bind(path) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("inmate: cannot listen at {path}: {error}");
            return ExitCode::from(125);
        }
    };
    println!("listening");
    while listener.accept().is_ok() {
        println!("ESCAPED: a process of the host has connected to a socket in here");
    }
    ExitCode::FAILURE
}
