//! Published ports: a connection to a port of the host is led to a port of the cell.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::str::FromStr;

use kernel::sys::socket::bind_port;
use kernel::{Errno, Failure};

/// `[ADDR:]HOST:CONTAINER[/udp]`, where HOST and CONTAINER are a port each, or a range of as many: `8000-8005:80-85`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// tcp, or else udp.
    pub tcp: bool,
    /// The host's address at which it answers; all of them if it names none.
    pub address: Option<IpAddr>,
    /// The port on the host; the first, of a range.
    pub host: u16,
    /// The port in the cell; the first, of a range.
    pub cell: u16,
    /// How many ports follow the first, on the host as in the cell.
    pub more: u16,
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

    /// Whether a packet could be meant for both.
    pub fn overlaps(&self, other: &Port) -> bool {
        let same_address = self.address.is_none() || other.address.is_none() || self.address == other.address;
        let common = self.host.max(other.host) <= self.last().min(other.last());
        common && self.tcp == other.tcp && same_address
    }

    /// The last port on the host.
    fn last(&self) -> u16 {
        self.host + self.more
    }

    /// Each port of the host's, with the cell's that it leads to.
    pub fn pairs(&self) -> impl Iterator<Item = (u16, u16)> {
        let (host, cell) = (self.host, self.cell);
        (0..=self.more).map(move |next| (host + next, cell + next))
    }

    /// The ports of the host's, as nftables and our options write them.
    pub fn hosts(&self) -> String {
        range(self.host, self.more)
    }

    /// Keeps the host's ports for as long as the result lives, so that no other program takes it meanwhile: packets to it
    /// go to the cell, and a server on the host would wait for them in vain.
    ///
    /// # Errors
    /// The port is in use, or the address is not one of this host's.
    pub fn reserve(&self) -> Result<Vec<OwnedFd>, Failure> {
        let all: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let addresses = self.address.as_ref().map_or(&all[..], std::slice::from_ref);
        let bound = self.pairs().flat_map(|(host, _)| {
            addresses.iter().map(move |address| bind_port(self.tcp, SocketAddr::new(*address, host)))
        });
        // A machine without IPv6 has no such socket, and no packet comes by it.
        bound.filter(|result| !matches!(result, Err(Errno::EAFNOSUPPORT))).collect::<Result<_, _>>().map_err(|errno| {
            let failure = Failure::new(format!("cannot publish {self}: bind => {errno:?}"));
            match errno {
                Errno::EADDRINUSE => failure.hint(format!("the port is in use: ss -anp '{}'", self.as_filter())),
                Errno::EMFILE => failure.hint("each port of a range takes two descriptors: ulimit -n $(ulimit -Hn)"),
                Errno::EADDRNOTAVAIL => failure.hint("no link of this host has that address: ip address"),
                _ => failure,
            }
        })
    }

    /// As `ss` takes it.
    fn as_filter(&self) -> String {
        match self.more {
            0 => format!("sport = {}", self.host),
            _ => format!("sport >= {} and sport <= {}", self.host, self.last()),
        }
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
        let address = address.filter(|address: &IpAddr| !address.is_unspecified());
        let ((host, more), (cell, as_many)) = (read_range(host)?, read_range(cell)?);
        if more != as_many {
            return Err(format!("{} ports of the host's lead to {} of the cell's", more + 1, as_many + 1));
        }
        Ok(Port { tcp, address, host, cell, more })
    }
}

/// Reads `8000` or `8000-8005`: the first, and how many follow.
fn read_range(text: &str) -> Result<(u16, u16), String> {
    let number = |text: &str| match text.parse() {
        Ok(0) | Err(_) => Err(format!("{text:?} is not a port; they are numbered 1 to 65535")),
        Ok(port) => Ok(port),
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (u16, u16) = (number(first)?, number(last)?);
    let more = last.checked_sub(first).ok_or_else(|| format!("{text:?} ends before it begins"))?;
    Ok((first, more))
}

fn range(first: u16, more: u16) -> String {
    if more == 0 { first.to_string() } else { format!("{first}-{}", first + more) }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
            Some(address) => write!(f, "{address}:")?,
            None => {}
        }
        write!(f, "{}:{}/{}", self.hosts(), range(self.cell, self.more), self.protocol())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for text in ["8080:80/tcp", "127.0.0.1:53:5353/udp", "[fd00::1]:8080:80/tcp", "127.0.0.1:8000-8005:80-85/udp"] {
            assert_eq!(text.parse::<Port>().unwrap().to_string(), text);
        }
        assert_eq!("8080:80".parse::<Port>(), "0.0.0.0:8080:80/tcp".parse());
        assert_eq!("8080-8080:80".parse::<Port>(), "8080:80/tcp".parse());
    }

    #[test]
    fn ranges_overlap_where_they_share_a_port() {
        let port = |text: &str| text.parse::<Port>().unwrap();
        for other in ["7990-8000:1-11", "8005:80", "8002-8003:80-81", "8000-65535:1-57536"] {
            assert!(port("8000-8005:80-85").overlaps(&port(other)) && port(other).overlaps(&port("8000-8005:80-85")));
        }
        for other in ["7999:80", "8006-8010:1-5", "8000:80/udp"] {
            assert!(!port("8000-8005:80-85").overlaps(&port(other)), "{other}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for wrong in ["", "80", "80:", ":80", "a:80", "80:65536", "0:80", "80:80/sctp", "1.2.3:80:80", "-1:80"]
            .into_iter()
            .chain(["8000-8005:80", "8000:80-85", "8005-8000:85-80", "8000-:80-", "0-1:1-2", "65535-65536:1-2"])
        {
            assert!(wrong.parse::<Port>().is_err(), "{wrong:?}");
        }
    }
}
