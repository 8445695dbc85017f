//! Frames and packets, written byte by byte: what a cell can send and no honest program does. `inmate frame` sends them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address of a network card.
pub type Mac = [u8; 6];

/// The card that every neighbour listens to.
pub const ALL: Mac = [0xff; 6];
/// IPv4, in a frame.
pub const IP: u16 = 0x0800;
/// IPv6, in a frame.
pub const IP6: u16 = 0x86dd;
/// ARP, in a frame.
pub const ARP: u16 = 0x0806;
/// ICMP, in a packet of IPv4.
pub const ICMP: u8 = 1;
/// UDP, in a packet.
pub const UDP: u8 = 17;
/// ICMPv6, in a packet of IPv6.
pub const ICMP6: u8 = 58;
/// The head of a fragment, in a packet of IPv6.
pub const FRAGMENT: u8 = 44;

/// A frame, from card to card.
pub fn ethernet(to: Mac, from: Mac, kind: u16, packet: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), packet].concat()
}

/// As `inmate frame` takes it.
pub fn hex(frame: &[u8]) -> String {
    frame.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A gratuitous answer: `address` is at `card`, whatever was known before (RFC 826).
pub fn arp(card: Mac, address: Ipv4Addr) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, 2]; // Ethernet, IPv4, their lengths, an answer
    [&head[..], &card, &address.octets(), &card, &address.octets()].concat()
}

/// A packet of IPv4; `options` are a multiple of four bytes, `fragment` the two bytes of flags and offset (RFC 791).
pub fn ip4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, options: &[u8], fragment: u16, payload: &[u8]) -> Vec<u8> {
    let head_length = 20 + options.len();
    let length = (head_length + payload.len()) as u16;
    let mut head = vec![0x40 | (head_length / 4) as u8, 0];
    head.extend([length.to_be_bytes(), [0x12, 0x34], fragment.to_be_bytes(), [64, protocol], [0, 0]].concat());
    head.extend([from.octets(), to.octets()].concat());
    head.extend(options);
    let sum = checksum(&head);
    head[10..12].copy_from_slice(&sum);
    [head, payload.to_vec()].concat()
}

/// A packet of IPv6, as from a direct neighbour (RFC 8200).
pub fn ip6(from: Ipv6Addr, to: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u16).to_be_bytes();
    [&[0x60, 0, 0, 0][..], &length, &[next, 255], &from.octets(), &to.octets(), payload].concat()
}

/// A datagram (RFC 768).
pub fn udp(from: IpAddr, to: IpAddr, port: u16, text: &[u8]) -> Vec<u8> {
    let length = (8 + text.len()) as u16;
    let ports = [port.to_be_bytes(), port.to_be_bytes()].concat();
    summed([&ports[..], &length.to_be_bytes(), &[0, 0], text].concat(), 6, &pseudo(from, to, UDP, length))
}

/// A message of ICMP (RFC 792): its kind and code, four bytes that depend on these, and the rest.
pub fn icmp(kind: u8, code: u8, word: [u8; 4], rest: &[u8]) -> Vec<u8> {
    summed([&[kind, code, 0, 0][..], &word, rest].concat(), 2, &[])
}

/// A message of ICMPv6 (RFC 4443).
pub fn icmp6(from: Ipv6Addr, to: Ipv6Addr, kind: u8, word: [u8; 4], rest: &[u8]) -> Vec<u8> {
    let message = [&[kind, 0, 0, 0][..], &word, rest].concat();
    let length = message.len() as u16;
    summed(message, 2, &pseudo(from.into(), to.into(), ICMP6, length))
}

/// A neighbour advertisement: `address` is at `card`, whatever was known before (RFC 4861).
pub fn neighbour(card: Mac, address: Ipv6Addr) -> Vec<u8> {
    [&address.octets()[..], &[2, 1], &card].concat()
}

/// What is summed before a message: who sends it to whom.
fn pseudo(from: IpAddr, to: IpAddr, protocol: u8, length: u16) -> Vec<u8> {
    let addresses = [from, to].map(|address| match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    });
    [&addresses.concat()[..], &[0, protocol], &length.to_be_bytes()].concat()
}

/// Puts the sum of a message, and of what stands before it, at its place.
fn summed(mut message: Vec<u8>, at: usize, before: &[u8]) -> Vec<u8> {
    let sum = checksum(&[before, &message].concat());
    message[at..at + 2].copy_from_slice(&sum);
    message
}

/// The Internet's sum of pairs of bytes (RFC 1071).
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let pairs = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = pairs.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}
