//! A connection to D-Bus (dbus.freedesktop.org, D-Bus Specification): as much of it as it takes to ask systemd for a group. The
//! messages are in `message.rs`.
//!
//! It is no crate's work: `rustbus`, the lightest without a library in C and without threads, takes 97 KB of a static
//! program for one call, and ours seals a copy of itself at each start, whether it asks systemd or not; it brings a `nix` of
//! its own, and talks to the kernel past `--explain`. All that there is in this folder and around it takes 53.

use std::time::{Duration, Instant};

use kernel::sys::socket::{self, Address};
use kernel::{Errno, Failure, Fd};

use super::message::{Body, Message, Method, encode_call};

/// How long a whole conversation may take; the same as runc's.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to a bus, or to a service itself.
#[derive(Debug)]
pub struct Bus {
    socket: Fd,
    serial: u32,
    heard: Vec<u8>,
    deadline: Instant,
}

impl Bus {
    /// Connects to the first of these addresses that answers, and authenticates. Which user we are the kernel tells the other
    /// side; so the name that one gives is left empty, for in a user namespace we would not know it ourselves.
    ///
    /// # Errors
    /// No address answers; the other side refuses us.
    pub fn connect(addresses: &[Address]) -> Result<Bus, Failure> {
        let mut refused = Failure::new("no address of systemd's is known");
        for address in addresses {
            match socket::connect_to(address, "bus") {
                Ok(socket) => {
                    let deadline = Instant::now() + PATIENCE;
                    let mut bus = Bus { socket, serial: 0, heard: Vec::new(), deadline };
                    bus.introduce()?;
                    return Ok(bus);
                }
                Err(failure) => refused = failure,
            }
        }
        Err(refused)
    }

    fn introduce(&mut self) -> Result<(), Failure> {
        socket::say(&self.socket, b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        for expected in ["DATA", "OK "] {
            let line = self.line()?;
            if !line.starts_with(expected) {
                return Err(Failure::new(format!("we are not let in: {}", line.trim_end())));
            }
        }
        Ok(())
    }

    fn line(&mut self) -> Result<String, Failure> {
        loop {
            if let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.heard.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            self.hear()?;
        }
    }

    /// Asks, and does not wait for the answer: the serial number of the question.
    pub fn ask(&mut self, method: &Method, body: &Body) -> Result<u32, Failure> {
        self.serial += 1;
        socket::say(&self.socket, &encode_call(self.serial, method, body))?;
        Ok(self.serial)
    }

    /// Waits for the next message.
    pub fn next(&mut self) -> Result<Message, Failure> {
        loop {
            if let Some(message) = Message::first_of(&mut self.heard)? {
                return Ok(message);
            }
            self.hear()?;
        }
    }

    fn hear(&mut self) -> Result<(), Failure> {
        match socket::hear(&self.socket, self.deadline, &mut self.heard) {
            Ok(0) => Err(Failure::new("the connection was closed")),
            Ok(_) => Ok(()),
            Err(failure) if failure.errno() == Some(Errno::ETIMEDOUT) => {
                Err(Failure::new(format!("no answer within {} seconds", PATIENCE.as_secs())))
            }
            Err(failure) => Err(failure),
        }
    }
}

/// The sockets that a bus's address names: `unix:path=/run/dbus/system_bus_socket;unix:abstract=/tmp/dbus-x,guid=1` (D-Bus
/// Specification, Server Addresses). Other kinds are left out.
pub fn parse_addresses(addresses: &str) -> Vec<Address> {
    let unix = addresses.split(';').filter_map(|address| address.strip_prefix("unix:"));
    let all = unix.flat_map(|address| address.split(',')).filter_map(|part| part.split_once('='));
    all.filter_map(|(key, value)| match key {
        "path" => Some(Address::Path(unescape(value))),
        "abstract" => Some(Address::Abstract(unescape(value))),
        _ => None,
    })
    .collect()
}

/// `%20` is a space.
fn unescape(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => bytes.extend([&[byte], &part.as_bytes()[2..]].concat()),
            None => bytes.extend([b"%", part.as_bytes()].concat()),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_a_bus() {
        let path = |path: &str| Address::Path(path.to_owned());
        assert_eq!(parse_addresses("unix:path=/run/a%20b/%zz"), [path("/run/a b/%zz")]);
        let several = parse_addresses("tcp:host=x;unix:abstract=/tmp/x,guid=1;unix:path=/y");
        assert_eq!(several, [Address::Abstract("/tmp/x".to_owned()), path("/y")]);
        assert_eq!(parse_addresses(""), []);
    }
}
