//! What the user asks for, and what is refused before anything is made.

use std::net::IpAddr;

use anyhow::Result;
use kernel::Failure;

use crate::link::Mac;
use crate::publish::Port;
use crate::subnet::Subnet;

/// The cell's network.
#[derive(clap::Args, Debug)]
pub struct NetworkOptions {
    /// none: its own loopback only; host: the host's network; bridge: a network card plugged into a bridge
    /// [default: bridge; none for an ordinary user]
    #[arg(long, value_enum)]
    net: Option<Mode>,

    /// The bridge's name; it is made where it is missing, and removed with the last cell
    #[arg(long, value_name = "NAME", default_value = "cellblock0")]
    bridge: String,

    /// The bridge's addresses; once for IPv4, once for IPv6 [default: 10.76.0.0/16, and an IPv6 one made from it]
    #[arg(long, value_name = "CIDR")]
    subnet: Vec<String>,

    /// The cell's address [default: the first that is free]
    #[arg(long, value_name = "ADDR")]
    ip: Option<String>,

    /// Lead a port of the host to one of the cell, or a range to as many: 8000-8005:80-85; may be given again
    #[arg(long, short, value_name = "[ADDR:]HOST:CONTAINER[/udp]")]
    publish: Vec<String>,

    /// A name server for the cell; may be given again [default: the host's]
    #[arg(long, value_name = "ADDR")]
    dns: Vec<String>,

    /// A name for /etc/hosts; may be given again
    #[arg(long, value_name = "NAME:ADDR")]
    add_host: Vec<String>,

    /// The address of the cell's network card [default: made from its IP address]
    #[arg(long, value_name = "MAC")]
    mac: Option<String>,
}

/// Which network the cell has.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Its own loopback only.
    None,
    /// The host's.
    Host,
    /// Its own, plugged into a bridge on the host.
    Bridge,
}

/// What was asked for, checked.
#[derive(Debug)]
pub struct Plan {
    /// Which network.
    pub mode: Mode,
    pub(crate) bridge: String,
    pub(crate) v4: Option<Subnet>,
    pub(crate) v6: Option<Subnet>,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) ports: Vec<Port>,
    pub(crate) dns: Vec<IpAddr>,
    pub(crate) hosts: Vec<(String, IpAddr)>,
    pub(crate) mac: Option<Mac>,
}

impl NetworkOptions {
    /// Whether something was typed that only a bridge can give.
    pub fn asks_for_bridge(&self) -> bool {
        let needs_bridge = self.ip.is_some() || !self.publish.is_empty() || self.mac.is_some();
        self.net == Some(Mode::Bridge) || (self.net.is_none() && needs_bridge)
    }

    /// Refuses what cannot work, before anything is made.
    ///
    /// # Errors
    /// An invalid name, subnet, address or port; an option that the chosen network has no use for.
    pub fn check(&self) -> Result<Plan> {
        let default = if kernel::sys::privilege::user() == 0 { Mode::Bridge } else { Mode::None };
        let mode = self.net.unwrap_or(default);
        let needs_bridge =
            [("--ip", self.ip.is_some()), ("--publish", !self.publish.is_empty()), ("--mac", self.mac.is_some())];
        if let Some((option, _)) = needs_bridge.iter().find(|(_, given)| *given && mode != Mode::Bridge) {
            return Err(Failure::new(format!("{option} needs a network card of the cell's own"))
                .hint("--net bridge")
                .into());
        }
        check_bridge_name(&self.bridge)?;
        let (mut v4, mut v6) = (None, None);
        for text in &self.subnet {
            let subnet: Subnet = parsed("--subnet", text, "10.76.0.0/16")?;
            *(if subnet.is_v4() { &mut v4 } else { &mut v6 }) = Some(subnet);
        }
        Ok(Plan {
            mode,
            bridge: self.bridge.clone(),
            v4,
            v6,
            ip: self.ip.as_deref().map(|text| parsed("--ip", text, "10.76.0.9")).transpose()?,
            ports: self.publish.iter().map(|text| parsed("--publish", text, "8080:80")).collect::<Result<_, _>>()?,
            dns: self.dns.iter().map(|text| parsed("--dns", text, "10.76.0.1")).collect::<Result<_, _>>()?,
            hosts: self.add_host.iter().map(|text| host(text)).collect::<Result<_, _>>()?,
            mac: self.mac.as_deref().map(mac).transpose()?,
        })
    }
}

/// Reads a value, or says which option it was for, and what one looks like.
fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(option: &str, text: &str, example: &str) -> Result<T, Failure> {
    text.parse().map_err(|why| {
        Failure::new(format!("{option} {text:?}: {why}")).hint(format!("for example {option} {example}"))
    })
}

/// The kernel's limit is 15 bytes; the rest is what nftables takes as part of a table's name.
fn check_bridge_name(name: &str) -> Result<(), Failure> {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if plain && (1..=15).contains(&name.len()) && !name.as_bytes()[0].is_ascii_digit() {
        return Ok(());
    }
    Err(Failure::new(format!("--bridge {name:?} is not a name for a bridge"))
        .hint("1 to 15 letters, digits and underscores, beginning with a letter"))
}

fn host(text: &str) -> Result<(String, IpAddr), Failure> {
    let split = text.split_once(':').filter(|(name, _)| {
        !name.is_empty() && !name.contains(|letter: char| letter.is_whitespace() || letter.is_control())
    });
    let read = split.and_then(|(name, address)| Some((name.to_owned(), address.parse().ok()?)));
    read.ok_or_else(|| {
        Failure::new(format!("--add-host {text:?} is not a name and an address"))
            .hint("for example --add-host db:10.76.0.9")
    })
}

/// Reads the address of a network card.
pub fn mac(text: &str) -> Result<Mac, Failure> {
    let refuse = |why: &str| Failure::new(format!("--mac {text:?}: {why}")).hint("for example --mac 02:00:00:00:00:01");
    let bytes: Vec<u8> = text.split(':').map_while(|part| u8::from_str_radix(part, 16).ok()).collect();
    let mac: Mac = bytes.try_into().map_err(|_| refuse("it is not six bytes in hexadecimal"))?;
    match mac {
        [0, 0, 0, 0, 0, 0] => Err(refuse("it is empty")),
        [first, ..] if first & 1 == 1 => Err(refuse("it stands for a group, as its first byte is odd")),
        mac => Ok(mac),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_for_bridges() {
        for right in ["cellblock0", "a", "br_1"] {
            assert!(check_bridge_name(right).is_ok(), "{right}");
        }
        for wrong in ["", "0br", "br 0", "br-0", "../x", "sixteen_letters_", "br\n"] {
            assert!(check_bridge_name(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn addresses_of_cards_and_hosts() {
        assert_eq!(mac("02:00:00:00:00:0a"), Ok([2, 0, 0, 0, 0, 10]));
        for wrong in [
            "",
            "02:00:00:00:00",
            "02:00:00:00:00:00:00",
            "zz:00:00:00:00:00",
            "01:00:00:00:00:00",
            "00:00:00:00:00:00",
        ] {
            assert!(mac(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(host("db:fd00::9"), Ok(("db".to_owned(), "fd00::9".parse().unwrap())));
        for wrong in ["", "db", ":10.0.0.1", "db:", "a b:10.0.0.1", "a\0:10.0.0.1", "a\x1b:10.0.0.1", "db:host"] {
            assert!(host(wrong).is_err(), "{wrong:?}");
        }
    }
}
