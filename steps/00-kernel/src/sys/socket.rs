//! Lessons 6 and 7: descriptors handed to another process, as messages on a socket (man 7 unix, SCM_RIGHTS), and sockets
//! that have a name among the files.

use std::io::IoSlice;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, recvmsg, sendmsg,
    socketpair,
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

/// A socket at a path, at which others can knock (man 7 unix, man 2 listen).
///
/// The path may be longer than the 108 bytes that the kernel takes: it is given below a descriptor of its directory.
pub fn listen(directory: &Fd, name: &str) -> Result<Fd, Failure> {
    let path = format!("/proc/self/fd/{}/{name}", directory.raw());
    let result = new_stream().and_then(|socket| {
        nix::sys::socket::bind(socket.as_raw_fd(), &UnixAddr::new(path.as_str())?)?;
        nix::sys::socket::listen(&socket, nix::sys::socket::Backlog::new(1)?)?;
        Ok(Fd::new(socket, "start"))
    });
    call(format_args!("listen({directory}/{name:?})"), result)
}

/// Waits until somebody knocks (man 2 accept4).
pub fn accept(socket: &Fd) -> Result<Fd, Failure> {
    let result = loop {
        match nix::sys::socket::accept4(socket.raw(), SockFlag::SOCK_CLOEXEC) {
            Err(Errno::EINTR) => {}
            other => break other,
        }
    };
    // SAFETY: accept4 gives a new descriptor.
    let result = result.map(|raw| Fd::new(unsafe { OwnedFd::from_raw_fd(raw) }, "caller"));
    call(format_args!("accept({socket})"), result)
}

/// Knocks at a socket in a directory (man 2 connect).
pub fn connect(directory: &Fd, name: &str) -> Result<Fd, Failure> {
    let path = format!("/proc/self/fd/{}/{name}", directory.raw());
    let result = new_stream().and_then(|socket| {
        nix::sys::socket::connect(socket.as_raw_fd(), &UnixAddr::new(path.as_str())?)?;
        Ok(Fd::new(socket, "start"))
    });
    call(format_args!("connect({directory}/{name:?})"), result)
}

/// Sends a datagram to a named socket: what a service says to its manager (man 3 sd_notify).
pub fn send_datagram(path: &std::path::Path, bytes: &[u8]) -> Result<(), Failure> {
    let socket = std::os::unix::net::UnixDatagram::unbound();
    let result = socket.and_then(|socket| socket.send_to(bytes, path)).map(drop).map_err(super::errno);
    call(format_args!("sendto({path:?}, {} bytes)", bytes.len()), result)
}

fn new_stream() -> Result<OwnedFd, Errno> {
    nix::sys::socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
}
