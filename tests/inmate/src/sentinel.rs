//! What stands outside and must not be reached from inside. Everything has a fixed name, so that an attack knows it.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use inmate::sys;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

/// A TCP port on 127.0.0.1.
pub const PORT: u16 = 23022;
/// An abstract socket: it has a name, but no file.
pub const SOCKET: &str = "cellblock-sentinel";
/// A key in the session keyring.
pub const KEY: &std::ffi::CStr = c"cellblock-sentinel";
/// A segment of System V shared memory.
pub const SHARED_MEMORY: i32 = 0x000C_E110;
/// A variable in the environment.
pub const VARIABLE: &str = "CELLBLOCK_SENTINEL";

/// Puts everything up, runs the command, takes everything down again, and ends as the command ended.
pub fn run(command: &[&str]) -> ExitCode {
    match try_run(command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("inmate: sentinel: {error:#}");
            ExitCode::from(125)
        }
    }
}

fn try_run(command: &[&str]) -> Result<u8> {
    let _port = TcpListener::bind(("127.0.0.1", PORT)).context("cannot listen on 127.0.0.1")?;
    let _socket = UnixListener::bind_addr(&SocketAddr::from_abstract_name(SOCKET)?).context("cannot listen")?;
    let segment = sys::make_shared_memory(SHARED_MEMORY).context("cannot make shared memory")?;
    let _keyring = sys::add_session_key(KEY); // some kernels have no keys: then there are none to find
    let _leaked = nix::fcntl::open("/", OFlag::O_DIRECTORY, Mode::empty())?; // open across exec
    let status = Command::new(command[0]).args(&command[1..]).env(VARIABLE, "1").status();
    sys::remove_shared_memory(segment)?;
    let status = status.with_context(|| format!("cannot run {}", command[0]))?;
    Ok(status.code().unwrap_or(255) as u8)
}
