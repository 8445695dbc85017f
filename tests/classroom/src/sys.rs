//! A process that answers for another's calls, as a test plays it (man 2 seccomp_unotify).
#![allow(unsafe_code)]

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

/// What the kernel says of a call, in bytes, and what it takes as the answer (linux/seccomp.h).
const CALL: usize = 80;
const ANSWER: usize = 24;
const RECEIVE: libc::c_ulong = 0xc050_2100;
const SEND: libc::c_ulong = 0xc018_2101;

/// The message that comes with a listener, and the listener.
pub fn receive_listener(socket: &UnixListener) -> (String, OwnedFd) {
    let (connection, _) = socket.accept().expect("it is ours");
    let (mut text, mut space) = (vec![0; 65536], cmsg_space!([i32; 1]));
    let mut bytes = [IoSliceMut::new(&mut text)];
    let message = recvmsg::<()>(connection.as_raw_fd(), &mut bytes, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC);
    let message = message.expect("something is sent");
    let mut rights = message.cmsgs().expect("there was room").flat_map(|control| match control {
        ControlMessageOwned::ScmRights(fds) => fds,
        _ => Vec::new(),
    });
    // SAFETY: the kernel has just made this descriptor for us; nothing else owns it.
    let listener = unsafe { OwnedFd::from_raw_fd(rights.next().expect("a descriptor comes with it")) };
    let length = message.bytes;
    drop(rights);
    text.truncate(length);
    (String::from_utf8(text).expect("it is JSON"), listener)
}

/// Waits for a call, and answers that it succeeded without making it: the number of the process that called.
pub fn pretend(listener: &OwnedFd) -> u32 {
    let (mut call, mut answer) = ([0_u8; CALL], [0_u8; ANSWER]);
    let ask = |request, bytes: *mut u8| {
        // SAFETY: both requests read and write no more than the bytes of their structures, which outlive the call.
        Errno::result(unsafe { libc::ioctl(listener.as_raw_fd(), request as _, bytes) })
    };
    ask(RECEIVE, call.as_mut_ptr()).expect("a call comes");
    answer[..8].copy_from_slice(&call[..8]);
    ask(SEND, answer.as_mut_ptr()).expect("it waits for the answer");
    u32::from_ne_bytes(call[8..12].try_into().expect("four bytes"))
}
