//! The inmate: a process that tells what it can see, and tries to get out.
//!
//! ```text
//! inmate report           what a process in here can see and do
//! inmate attack           the list of attacks
//! inmate attack NAME      try one: ESCAPED (exit status 1), HELD (0), or n/a (2)
//! inmate orphans          leave three children behind, and see which process must reap them
//! inmate echo PORT        answer each datagram on that port with itself
//! inmate calls            make some system calls, and see what the kernel answers
//! inmate socket32 FAMILY  make a socket of that family as 32-bit programs of x86 do
//! inmate ready            say so to the process that waits for it, as services do with systemd
//! inmate threads          start four threads, and see that they run
//! inmate listen PATH      be a socket there, and say which process connects
//! inmate keyring-trap NAME SECONDS  make a session keyring of that name, and wait for a key in it
//! inmate keyring-fill     put that key into the session keyring
//! inmate watch SECONDS PATH  get at what joins this container: does it hold PATH of the host, or more capabilities?
//! inmate advertise PREFIX be a router for all neighbours on eth0, with a subnet
//! inmate claim ADDRESS    tell all neighbours on eth0 that an IPv6 address is this cell's
//! inmate frame HEX...     send frames on eth0, as they are
//! inmate sentinel COMMAND on the host: put up what some attacks look for, run the command, take it down again
//! ```
//!
//! Attacks are harmless when they succeed: they prove reach, and destroy nothing.

use std::process::ExitCode;

mod attack;
mod calls;
mod neighbour;
mod orphans;
mod report;
mod sentinel;
mod traps;
mod watch;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["report"] => report::print(),
        ["attack"] => attack::list(),
        ["attack", name] => attack::run(name),
        ["advertise", prefix] => neighbour::advertise(prefix),
        ["claim", address] => neighbour::claim(address),
        ["frame", ref frames @ ..] if !frames.is_empty() => neighbour::frames(frames),
        ["orphans"] => orphans::leave(),
        ["echo", port] => echo(port),
        ["calls"] => calls::print(),
        ["socket32", family] => calls::socket32(family),
        ["ready"] => ready(),
        ["threads"] => threads(),
        ["listen", path] => traps::listen(path),
        ["keyring-trap", name, seconds] => traps::keyring(name, seconds),
        ["keyring-fill"] => traps::fill_keyring(None),
        ["keyring-fill", name] => traps::fill_keyring(Some(name)),
        ["watch", seconds, path] => watch::newcomers(seconds, path),
        ["sentinel", ref command @ ..] if !command.is_empty() => sentinel::run(command),
        [attack::SETUID_PROBE] => attack::setuid_probe(),
        _ => {
            eprintln!(
                "inmate: nothing to do\nhint: inmate report | attack [NAME] | orphans | echo PORT | calls | socket32 FAMILY | ready | threads | watch SECONDS PATH | listen PATH | keyring-trap NAME SECONDS | keyring-fill | advertise PREFIX | claim ADDRESS | frame HEX... | sentinel COMMAND"
            );
            ExitCode::from(125)
        }
    }
}

/// A service that is up (man 3 sd_notify).
fn ready() -> ExitCode {
    let manager = std::env::var_os("NOTIFY_SOCKET").unwrap_or_default();
    let said = std::os::unix::net::UnixDatagram::unbound().and_then(|socket| {
        socket.send_to(b"STATUS=thinking", &manager)?;
        socket.send_to(b"MAINPID=1\nREADY=1", &manager)
    });
    if let Err(error) = &said {
        eprintln!("inmate: no process waits at {manager:?}: {error}");
    }
    ExitCode::from(u8::from(said.is_err()))
}

/// Threads are processes that share memory: they need calls that a filter may have forgotten.
fn threads() -> ExitCode {
    let threads: Vec<_> = (1..=4_u32).map(|number| std::thread::spawn(move || number * number)).collect();
    let sum: u32 = threads.into_iter().map(|thread| thread.join().expect("it does not panic")).sum();
    println!("four threads have counted to {sum}");
    ExitCode::SUCCESS
}

/// A server for visitors that come by UDP.
fn echo(port: &str) -> ExitCode {
    let Some(socket) = port.parse().ok().and_then(|port: u16| std::net::UdpSocket::bind(("0.0.0.0", port)).ok()) else {
        eprintln!("inmate: cannot listen on port {port}\nhint: inmate echo 5353");
        return ExitCode::from(125);
    };
    let mut buffer = [0; 2048];
    while let Ok((length, asker)) = socket.recv_from(&mut buffer) {
        let _ = socket.send_to(&buffer[..length], asker);
    }
    ExitCode::FAILURE
}
