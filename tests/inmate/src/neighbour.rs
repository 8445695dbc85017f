//! What a neighbour on the same cable may send: messages of IPv6 that pretend to come from a router, or from another cell.

use std::io::IoSlice;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, bind, sendmsg, socket,
};

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// A neighbour's message that was passed on by a router has fewer, and is thrown away (RFC 4861).
const HOPS: i32 = 255;

/// Advertises this cell as a router for everything, and `prefix` as a subnet to take an address from (RFC 4861, 4.2).
pub fn advertise(prefix: &str) -> ExitCode {
    let Ok(prefix) = prefix.parse::<Ipv6Addr>() else { return usage() };
    let head = [134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0]; // for 1800 seconds
    let subnet = [3, 4, 64, 0xc0, 0, 0, 0x07, 0x08, 0, 0, 0x07, 0x08, 0, 0, 0, 0];
    send(&[&head[..], &subnet, &prefix.octets()].concat())
}

/// Says that `address` is to be found at this cell's network card (RFC 4861, 4.4).
pub fn claim(address: &str) -> ExitCode {
    let mac = std::fs::read_to_string("/sys/class/net/eth0/address").unwrap_or_default();
    let mac: Vec<u8> = mac.trim().split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    let (Ok(address), 6) = (address.parse::<Ipv6Addr>(), mac.len()) else { return usage() };
    let head = [136, 0, 0, 0, 0x20, 0, 0, 0]; // it overrides what was known
    send(&[&head[..], &address.octets(), &[2, 1], &mac].concat())
}

/// Sends frames as they are, in their order.
pub fn frames(frames: &[&str]) -> ExitCode {
    let bytes = |text: &str| -> Option<Vec<u8>> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
    };
    let sent = frames.iter().try_for_each(|text| {
        let frame = bytes(text).ok_or(nix::Error::EINVAL)?;
        inmate::sys::send_frame(if_nametoindex("eth0")?, &frame)
    });
    match sent {
        Ok(()) => println!("sent"),
        Err(errno) => eprintln!("inmate: cannot send the frame: {errno}"),
    }
    ExitCode::from(u8::from(sent.is_err()))
}

/// Sends it to all neighbours, three times. The card's own address may need a second or two before it can be used.
fn send(message: &[u8]) -> ExitCode {
    let mut sent = 0;
    for _ in 0..40 {
        match try_to_send(message) {
            Ok(()) => sent += 1,
            Err(errno) => eprintln!("inmate: not yet: {errno}"),
        }
        if sent == 3 {
            println!("sent");
            return ExitCode::SUCCESS;
        }
        sleep(Duration::from_millis(100));
    }
    ExitCode::FAILURE
}

/// From the address that the kernel made for the card: a router that speaks from another is not believed.
fn try_to_send(message: &[u8]) -> nix::Result<()> {
    let socket: OwnedFd = socket(AddressFamily::Inet6, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::IcmpV6)?;
    let eth0 = if_nametoindex("eth0")?;
    let from = link_local().ok_or(nix::Error::EADDRNOTAVAIL)?;
    bind(socket.as_raw_fd(), &SockaddrIn6::from(SocketAddrV6::new(from, 0, 0, eth0)))?;
    let to = SockaddrIn6::from(SocketAddrV6::new(ALL_NODES, 0, 0, eth0));
    let hops = [ControlMessage::Ipv6HopLimit(&HOPS)];
    sendmsg(socket.as_raw_fd(), &[IoSlice::new(message)], &hops, MsgFlags::empty(), Some(&to)).map(drop)
}

fn link_local() -> Option<Ipv6Addr> {
    let addresses = std::fs::read_to_string("/proc/net/if_inet6").ok()?;
    let line = addresses.lines().find(|line| line.starts_with("fe80") && line.ends_with(" eth0"))?;
    Some(u128::from_str_radix(line.split(' ').next()?, 16).ok()?.into())
}

fn usage() -> ExitCode {
    eprintln!("inmate: that is not an IPv6 address\nhint: inmate advertise fd99:: | inmate claim fd76::2");
    ExitCode::from(125)
}
