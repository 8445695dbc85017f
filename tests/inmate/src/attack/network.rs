//! Through the network: what listens on the host's loopback, by port and by name.

use std::net::{SocketAddr, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::Verdict::{self, Escaped, Held};
use super::reason;
use crate::sentinel;

/// Connects to the sentinel's port.
pub fn host_port() -> Verdict {
    let address = SocketAddr::from(([127, 0, 0, 1], sentinel::PORT));
    match TcpStream::connect_timeout(&address, Duration::from_secs(2)) {
        Ok(_) => Escaped("connected to the sentinel on 127.0.0.1".to_owned()),
        Err(error) => Held(reason(&error)),
    }
}

/// Connects to the sentinel's abstract socket, which has no file whose permissions could forbid it.
pub fn abstract_socket() -> Verdict {
    let address = std::os::unix::net::SocketAddr::from_abstract_name(sentinel::SOCKET).expect("a short name");
    match UnixStream::connect_addr(&address) {
        Ok(_) => Escaped(format!("connected to @{}", sentinel::SOCKET)),
        Err(error) => Held(reason(&error)),
    }
}
