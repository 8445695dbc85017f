//! Netlink, as far as a question and its answer need it: lesson 4 does it properly.
//!
//! A message is a header (length, kind, flags, number, port), then a body in which everything begins at a multiple of
//! four bytes (man 7 netlink).

use std::os::fd::AsRawFd;

use kernel::explain::call;
use kernel::{Errno, Failure};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

const HEADER: usize = 16;
const ACKNOWLEDGE: u16 = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;

/// Makes a network link of a kind, with a name of the kernel's choice (man 7 rtnetlink).
///
/// # Shell: `ip link add type KIND`
pub fn add_link(kind: &str) -> Result<(), Failure> {
    let create = ACKNOWLEDGE | (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
    let any_link = [0; size_of::<libc::c_int>() * 4]; // struct ifinfomsg: no family, kind, index or flags asked for
    let info = attribute(libc::IFLA_LINKINFO, &attribute(libc::IFLA_INFO_KIND, format!("{kind}\0").as_bytes()));
    let message = message(libc::RTM_NEWLINK, create, &[&any_link[..], &info].concat());
    call(format_args!("netlink(ROUTE, NEWLINK {kind:?})"), ask(SockProtocol::NetlinkRoute, &message))
}

/// Asks nftables for its rule set's generation: nothing changes, but somebody must be there to answer.
pub fn ask_nftables() -> Result<(), Failure> {
    let kind = (libc::NFNL_SUBSYS_NFTABLES << 8 | libc::NFT_MSG_GETGEN) as u16;
    let any_family = [0; 4]; // struct nfgenmsg
    let message = message(kind, ACKNOWLEDGE, &any_family);
    call(format_args!("netlink(NETFILTER, NFT_MSG_GETGEN)"), ask(SockProtocol::NetlinkNetFilter, &message))
}

fn ask(protocol: SockProtocol, message: &[u8]) -> Result<(), Errno> {
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    send(socket.as_raw_fd(), message, MsgFlags::empty())?;
    let mut buffer = [0; 1024];
    let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
    answer(&buffer[..length])
}

fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = (HEADER + body.len()) as u32;
    let number_and_port = [0; 8];
    [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &flags.to_ne_bytes(), &number_and_port, body].concat()
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = 4 + value.len();
    let mut bytes = [&(length as u16).to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

/// An error message holds a negative errno, or 0: done. Any other message is what was asked for.
fn answer(message: &[u8]) -> Result<(), Errno> {
    const ERROR: u16 = libc::NLMSG_ERROR as u16;
    let kind = message.get(4..6).map(|bytes| u16::from_ne_bytes([bytes[0], bytes[1]]));
    match (kind, message.get(HEADER..HEADER + 4)) {
        (Some(ERROR), Some(&[a, b, c, d])) => match i32::from_ne_bytes([a, b, c, d]) {
            0 => Ok(()),
            errno => Err(Errno::from_raw(-errno)),
        },
        (Some(kind), _) if kind != ERROR => Ok(()),
        _ => Err(Errno::EBADMSG),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_but_count_their_own_length() {
        let bytes = attribute(1, b"veth\0");
        assert_eq!(bytes.len(), 12);
        assert_eq!(bytes[..2], 9u16.to_ne_bytes());
    }

    #[test]
    fn answers_are_told_apart() {
        let error = |errno: i32| message(libc::NLMSG_ERROR as u16, 0, &errno.to_ne_bytes());
        assert_eq!(answer(&error(0)), Ok(()));
        assert_eq!(answer(&error(-libc::EOPNOTSUPP)), Err(Errno::EOPNOTSUPP));
        assert_eq!(answer(&message(0x0a0f, 0, &[0; 4])), Ok(()));
        assert_eq!(answer(b"short"), Err(Errno::EBADMSG));
    }
}
