//! Lesson 6: descriptors handed to another process, as messages on a socket (man 7 unix, SCM_RIGHTS).

use std::io::IoSlice;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair,
};

use super::Fd;
use crate::Failure;
use crate::explain::call;

/// Two ends of a socket that keeps messages apart (man 2 socketpair, SOCK_SEQPACKET).
pub fn pair(one: &'static str, other: &'static str) -> Result<(Fd, Fd), Failure> {
    let ends = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC);
    call(format_args!("socketpair(UNIX, SEQPACKET)"), ends.map(|(a, b)| (Fd::new(a, one), Fd::new(b, other))))
}

/// Hands a descriptor over, with some bytes, of which there must be one at least (man 2 sendmsg).
pub fn send_fd(socket: &Fd, bytes: &[u8], fd: &Fd) -> Result<(), Failure> {
    let raw = [fd.raw()];
    let result = sendmsg::<()>(
        socket.raw(),
        &[IoSlice::new(bytes)],
        &[ControlMessage::ScmRights(&raw)],
        MsgFlags::MSG_NOSIGNAL,
        None,
    );
    call(format_args!("sendmsg({socket}, {fd})"), result.map(drop))
}

/// Takes a descriptor that was handed over (man 2 recvmsg). ENOTCONN if the other end has closed instead.
pub fn receive_fd(socket: &Fd, label: &'static str) -> Result<Fd, Failure> {
    let mut byte = [0];
    let mut space = cmsg_space!([std::os::fd::RawFd; 1]);
    let mut bytes = [std::io::IoSliceMut::new(&mut byte)];
    let received = recvmsg::<()>(socket.raw(), &mut bytes, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC);
    let fd = received.and_then(|message| {
        let rights = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        });
        rights.ok_or(Errno::ENOTCONN)
    });
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    let fd = fd.map(|raw| Fd::new(unsafe { OwnedFd::from_raw_fd(raw.as_raw_fd()) }, label));
    call(format_args!("recvmsg({socket})"), fd)
}
