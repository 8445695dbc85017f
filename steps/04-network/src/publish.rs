//! Published ports: who knocks at a port of the host is led to a port of the cell.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::str::FromStr;

use kernel::{Errno, Failure};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt};

/// `[ADDR:]HOST:CONTAINER[/udp]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// tcp, or else udp.
    pub tcp: bool,
    /// The host's address at which it answers; all of them if there is none.
    pub address: Option<IpAddr>,
    /// The port on the host.
    pub host: u16,
    /// The port in the cell.
    pub cell: u16,
}

impl Port {
    /// The protocol, as nftables calls it.
    pub fn protocol(&self) -> &'static str {
        if self.tcp { "tcp" } else { "udp" }
    }

    /// Whether it answers at the host's loopback only.
    pub fn is_loopback(&self) -> bool {
        self.address.is_some_and(|address| address.is_loopback())
    }

    /// Whether it answers at an IPv4 address of the host's loopback too.
    pub fn on_loopback_v4(&self) -> bool {
        self.address.is_none_or(|address| address.is_ipv4() && address.is_loopback())
    }

    /// Whether packets could be meant for either.
    pub fn overlaps(&self, other: &Port) -> bool {
        let same_address = self.address.is_none() || other.address.is_none() || self.address == other.address;
        self.host == other.host && self.tcp == other.tcp && same_address
    }

    /// Keeps the host's port for as long as the result lives, so that no other program takes it meanwhile: packets to it
    /// go to the cell, and a server on the host would wait for them in vain.
    ///
    /// # Errors
    /// The port is in use, or the address is none of this host's.
    pub fn reserve(&self) -> Result<Vec<OwnedFd>, Failure> {
        let all: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let addresses = self.address.as_ref().map_or(&all[..], std::slice::from_ref);
        let bound = addresses.iter().map(|address| self.bind(SocketAddr::new(*address, self.host)));
        // A machine without IPv6 has no such socket: then nobody can knock there.
        bound.filter(|result| !matches!(result, Err(Errno::EAFNOSUPPORT))).collect::<Result<_, _>>().map_err(|errno| {
            let failure = Failure::new(format!("cannot publish {self}: bind => {errno:?}"));
            match errno {
                Errno::EADDRINUSE => failure.hint(format!("the port is in use: ss -anp 'sport = {}'", self.host)),
                Errno::EADDRNOTAVAIL => failure.hint("no link of this host has that address: ip address"),
                _ => failure,
            }
        })
    }

    /// Bound, but not listening: it is taken, and nobody answers here.
    fn bind(&self, address: SocketAddr) -> Result<OwnedFd, Errno> {
        let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let kind = if self.tcp { SockType::Stream } else { SockType::Datagram };
        let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
        if address.is_ipv6() {
            setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
        }
        bind(socket.as_raw_fd(), &SockaddrStorage::from(address)).map(|()| socket)
    }
}

impl FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Port, String> {
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let tcp = match protocol {
            "tcp" => true,
            "udp" => false,
            other => return Err(format!("{other} is neither tcp nor udp")),
        };
        let (rest, cell) = ports.rsplit_once(':').ok_or("it names one port; write HOST:CONTAINER")?;
        let (address, host) = rest.rsplit_once(':').map_or((None, rest), |(address, host)| (Some(address), host));
        let address = address.map(|text| text.trim_start_matches('[').trim_end_matches(']'));
        let address =
            address.map(|text| text.parse().map_err(|_| format!("{text:?} is not an address"))).transpose()?;
        let number = |text: &str| match text.parse() {
            Ok(0) | Err(_) => Err(format!("{text:?} is not a port; they are numbered 1 to 65535")),
            Ok(port) => Ok(port),
        };
        let address = address.filter(|address: &IpAddr| !address.is_unspecified());
        Ok(Port { tcp, address, host: number(host)?, cell: number(cell)? })
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
            Some(address) => write!(f, "{address}:")?,
            None => {}
        }
        write!(f, "{}:{}/{}", self.host, self.cell, self.protocol())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for text in ["8080:80/tcp", "127.0.0.1:53:5353/udp", "[fd00::1]:8080:80/tcp"] {
            assert_eq!(text.parse::<Port>().unwrap().to_string(), text);
        }
        assert_eq!("8080:80".parse::<Port>(), "0.0.0.0:8080:80/tcp".parse());
    }

    #[test]
    fn nonsense_is_refused() {
        for wrong in ["", "80", "80:", ":80", "a:80", "80:65536", "0:80", "80:80/sctp", "1.2.3:80:80", "-1:80"] {
            assert!(wrong.parse::<Port>().is_err(), "{wrong:?}");
        }
    }
}
