//! Lesson 4: netlink, the language in which the kernel is asked about its network.
//!
//! A message is a head (length, kind, flags, number, port), then the fixed part of its kind, then attributes: each a
//! length, a kind and a value, and everything begins at a multiple of four bytes. A value may be made of attributes
//! again (man 7 netlink, man 7 rtnetlink).

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};

use crate::Failure;
use crate::explain::{announce, call};

const HEAD: usize = 16;
const ERROR: u16 = libc::NLMSG_ERROR as u16;
const DONE: u16 = libc::NLMSG_DONE as u16;

/// A request, being written.
#[derive(Debug, Clone)]
pub struct Message(Vec<u8>);

impl Message {
    /// An order: the kernel says whether it was carried out. `flags` are added to REQUEST and ACK.
    pub fn order(kind: u16, flags: i32, fixed: &[u8]) -> Message {
        Message::new(kind, flags | libc::NLM_F_ACK, fixed)
    }

    /// A part of a batch (see [`Netlink::ask_together`]): the kernel is silent about it when all is well.
    pub fn part(kind: u16, flags: i32, fixed: &[u8]) -> Message {
        Message::new(kind, flags, fixed)
    }

    /// A question, answered by a list.
    pub fn question(kind: u16, fixed: &[u8]) -> Message {
        Message::new(kind, libc::NLM_F_DUMP, fixed)
    }

    fn new(kind: u16, flags: i32, fixed: &[u8]) -> Message {
        let flags = (flags | libc::NLM_F_REQUEST) as u16;
        let (no_length_yet, no_number_and_port) = ([0; 4], [0; 8]);
        Message([&no_length_yet[..], &kind.to_ne_bytes(), &flags.to_ne_bytes(), &no_number_and_port, fixed].concat())
    }

    // ANCHOR: attribute
    /// Adds an attribute: its length counts its own head, but not the padding behind it.
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Message {
        let length = (4 + value.len()) as u16;
        self.0.extend([length.to_ne_bytes(), kind.to_ne_bytes()].concat());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }
    // ANCHOR_END: attribute

    /// Adds a text, which ends with a NUL.
    pub fn text(self, kind: u16, text: &str) -> Message {
        self.attribute(kind, &[text.as_bytes(), &[0]].concat())
    }

    /// Adds an attribute whose value is attributes again, behind a fixed part (mostly an empty one).
    pub fn nest(self, kind: u16, fixed: &[u8], fill: impl FnOnce(Message) -> Message) -> Message {
        let inner = fill(Message(fixed.to_vec()));
        self.attribute(kind, &inner.0)
    }

    fn bytes(mut self) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}

/// One of the things that a question was answered with: its fixed part and its attributes.
#[derive(Debug, Clone)]
pub struct Answer(Vec<u8>);

impl Answer {
    /// Bytes of the fixed part; `None` beyond its end.
    pub fn fixed<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    /// The value of an attribute, behind a fixed part of `skip` bytes.
    pub fn attribute(&self, skip: usize, kind: u16) -> Option<&[u8]> {
        find(self.0.get(skip..)?, kind)
    }
}

/// The value of the attribute of that kind among these; also among those inside of another attribute's value.
pub fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    every(bytes, kind).next()
}

/// The values of all attributes of that kind, in a list of several.
pub fn every(mut bytes: &[u8], kind: u16) -> impl Iterator<Item = &[u8]> {
    const NESTED_AND_ORDER: u16 = 0xC000;
    let attributes = std::iter::from_fn(move || {
        let &[a, b, c, d] = bytes.get(..4)? else { return None };
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([c, d]) & !NESTED_AND_ORDER, value))
    });
    attributes.filter(move |(there, _)| *there == kind).map(|(_, value)| value)
}

/// A socket to the kernel's network, in the network namespace in which it was opened.
#[derive(Debug)]
pub struct Netlink(OwnedFd);

impl Netlink {
    /// Opens one for links, addresses and routes.
    pub fn route() -> Result<Netlink, Failure> {
        Netlink::open(SockProtocol::NetlinkRoute, "ROUTE")
    }

    /// Opens one for the packet filter.
    pub fn netfilter() -> Result<Netlink, Failure> {
        Netlink::open(SockProtocol::NetlinkNetFilter, "NETFILTER")
    }

    /// Opens one that hears of every link that comes, changes or goes.
    pub fn link_news() -> Result<Netlink, Failure> {
        const LINKS: u32 = libc::RTMGRP_LINK as u32;
        let news = Netlink::route()?;
        let result = bind(news.0.as_raw_fd(), &NetlinkAddr::new(0, LINKS));
        call(format_args!("bind(<netlink>, RTMGRP_LINK)"), result).map(|()| news)
    }

    /// Waits for a message, and throws it away; false when none has come in that time (man 2 poll).
    pub fn wait(&self, limit: Duration) -> Result<bool, Failure> {
        let mut polled = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        let ready = nix::poll::poll(&mut polled, limit).map(|count| count > 0);
        let ready = ready.map_err(|errno| Failure::call(format_args!("poll(<netlink>)"), errno))?;
        if ready {
            let _ = recv(self.0.as_raw_fd(), &mut [0; 1024], MsgFlags::empty());
        }
        Ok(ready)
    }

    fn open(protocol: SockProtocol, name: &str) -> Result<Netlink, Failure> {
        let result = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol);
        result.map(Netlink).map_err(|errno| Failure::call(format_args!("socket(NETLINK, {name})"), errno))
    }

    /// Sends an order or a question, told as `text`, and returns the answers.
    pub fn ask(&self, text: fmt::Arguments<'_>, message: Message) -> Result<Vec<Answer>, Failure> {
        let answers = self.exchange(&message.bytes());
        let told = call(text, answers.as_ref().map(drop).map_err(|errno| *errno));
        told.map(|()| answers.unwrap_or_default())
    }

    /// Sends a batch: several orders that the kernel carries out together, all of them or none (nfnetlink). One of them, the last,
    /// must ask for its answer; one that is refused is answered in any case.
    pub fn ask_together(&self, text: fmt::Arguments<'_>, batch: Vec<Message>) -> Result<(), Failure> {
        let bytes: Vec<u8> = batch.into_iter().flat_map(Message::bytes).collect();
        call(text, self.exchange(&bytes).map(drop))
    }

    /// Sends an order whose outcome is no part of the story: told before it is sent.
    pub fn tell(&self, text: fmt::Arguments<'_>, message: Message) -> Result<(), Failure> {
        announce(text);
        self.exchange(&message.bytes()).map(drop).map_err(|errno| Failure::call(text, errno))
    }

    fn exchange(&self, message: &[u8]) -> Result<Vec<Answer>, Errno> {
        send(self.0.as_raw_fd(), message, MsgFlags::empty())?;
        let mut answers = Vec::new();
        let mut buffer = vec![0; 32 << 10]; // the kernel's own limit for one part of a list
        loop {
            let length = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            if collect(&buffer[..length], &mut answers)? {
                return Ok(answers);
            }
        }
    }
}

/// Takes messages apart; true when the last one was among them.
fn collect(mut bytes: &[u8], answers: &mut Vec<Answer>) -> Result<bool, Errno> {
    while let Some(head) = bytes.get(..HEAD) {
        let length = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let body = bytes.get(HEAD..length).ok_or(Errno::EBADMSG)?;
        match u16::from_ne_bytes([head[4], head[5]]) {
            DONE => return Ok(true),
            ERROR => {
                let &[a, b, c, d] = body.get(..4).ok_or(Errno::EBADMSG)? else { return Err(Errno::EBADMSG) };
                let errno = -i32::from_ne_bytes([a, b, c, d]);
                return if errno == 0 { Ok(true) } else { Err(Errno::from_raw(errno)) };
            }
            _ => answers.push(Answer(body.to_vec())),
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_but_count_their_own_length() {
        let bytes = Message::order(16, 0, &[]).text(1, "veth").bytes();
        assert_eq!(bytes.len(), HEAD + 12);
        assert_eq!(bytes[HEAD..HEAD + 2], 9u16.to_ne_bytes());
        assert_eq!(bytes[..4], 28u32.to_ne_bytes());
    }

    #[test]
    fn what_is_written_can_be_read() {
        let message = Message::order(16, 0, &[7; 4]).text(3, "eth0").nest(18, &[], |inner| inner.text(1, "bridge"));
        let answer = Answer(message.bytes()[HEAD..].to_vec());
        assert_eq!(answer.fixed(0), Some([7; 4]));
        assert_eq!(answer.attribute(4, 3), Some(&b"eth0\0"[..]));
        assert_eq!(find(answer.attribute(4, 18).unwrap(), 1), Some(&b"bridge\0"[..]));
        assert_eq!(answer.attribute(4, 99), None);
    }

    #[test]
    fn answers_are_told_apart() {
        let error = |errno: i32| Message::new(ERROR, 0, &errno.to_ne_bytes()).bytes();
        assert_eq!(collect(&error(0), &mut Vec::new()), Ok(true));
        assert_eq!(collect(&error(-libc::EEXIST), &mut Vec::new()), Err(Errno::EEXIST));
        let mut answers = Vec::new();
        let list = [Message::new(16, 0, &[1; 8]).bytes(), Message::new(DONE, 0, &[0; 4]).bytes()].concat();
        assert_eq!((collect(&list, &mut answers), answers.len()), (Ok(true), 1));
        assert_eq!(collect(b"cut", &mut Vec::new()), Ok(false));
    }
}
