//! Some system calls, each harmless or refused, and what the kernel answers: it shows what a filter lets through.

use std::process::ExitCode;

use inmate::sys::raw_call;
use nix::libc;

/// Prints a line for each.
pub fn print() -> ExitCode {
    const NEW_USER: i64 = libc::CLONE_NEWUSER as i64;
    const VSOCK: i64 = 40;
    // (what, number, first argument): the others are 0.
    let calls = [
        ("getpid()", libc::SYS_getpid, 0),
        ("unshare(NEWUSER)", libc::SYS_unshare, NEW_USER),
        ("clone3(NULL, 0)", libc::SYS_clone3, 0),
        ("mount(NULL, NULL)", libc::SYS_mount, 0),
        ("keyctl(GET_KEYRING_ID)", libc::SYS_keyctl, 0),
        ("bpf(0, NULL)", libc::SYS_bpf, 0),
        ("socket(AF_VSOCK)", libc::SYS_socket, VSOCK),
        ("ptrace(TRACEME)", libc::SYS_ptrace, 0),
        ("reboot(0)", libc::SYS_reboot, 0),
        ("call number 9999", 9999, 0),
    ];
    for (what, number, argument) in calls {
        let answer = match raw_call(number, argument) {
            Ok(_) => "done".to_owned(),
            Err(errno) => format!("{errno:?}"),
        };
        println!("{what:<24}{answer}");
    }
    ExitCode::SUCCESS
}

/// Prints the answer to a socket that is asked for by socketcall.
pub fn socket32(family: &str) -> ExitCode {
    let Ok(family) = family.parse() else { return ExitCode::from(125) };
    match inmate::sys::socket_by_socketcall(family) {
        Ok(()) => println!("done"),
        Err(errno) => println!("{errno:?}"),
    }
    ExitCode::SUCCESS
}
