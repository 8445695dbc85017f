//! Lessons 6 and 7: descriptors handed to another process, as messages on a socket (man 7 unix, SCM_RIGHTS), and sockets
//! that have a name among the files.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Instant;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrStorage, UnixAddr, bind,
    recv, recvmsg, send, sendmsg, setsockopt, socket, socketpair, sockopt,
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

/// Hands several descriptors over in one message, and never waits for the other end (man 2 sendmsg).
pub fn send_fds(socket: &Fd, bytes: &[u8], fds: &[Fd]) -> Result<(), Failure> {
    let raw: Vec<RawFd> = fds.iter().map(Fd::raw).collect();
    let (bytes, rights) = ([IoSlice::new(bytes)], [ControlMessage::ScmRights(&raw)]);
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    let result = sendmsg::<()>(socket.raw(), &bytes, &rights, flags, None);
    call(format_args!("sendmsg({socket}, {} descriptors)", fds.len()), result.map(drop))
}

/// Takes the descriptors of one message, at most `most` (man 2 recvmsg). EMFILE if there was no room for all of them, and
/// ENOTCONN if the other end has closed instead.
pub fn receive_fds(socket: &Fd, label: &'static str, most: usize) -> Result<Vec<Fd>, Failure> {
    let mut byte = [0];
    // SAFETY: this calculates with its argument only.
    let mut space = vec![0; unsafe { libc::CMSG_SPACE((most * size_of::<RawFd>()) as libc::c_uint) } as usize];
    let mut bytes = [std::io::IoSliceMut::new(&mut byte)];
    let received = recvmsg::<()>(socket.raw(), &mut bytes, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC);
    let fds = received.and_then(|message| {
        let mut fds = Vec::new();
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = control {
                // SAFETY: the kernel has just made these descriptors for us; nothing else owns them.
                fds.extend(raw.into_iter().map(|raw| Fd::new(unsafe { OwnedFd::from_raw_fd(raw) }, label)));
            }
        }
        match message.flags.contains(MsgFlags::MSG_CTRUNC) {
            true => Err(Errno::EMFILE),
            false if fds.is_empty() => Err(Errno::ENOTCONN),
            false => Ok(fds),
        }
    });
    let count = fds.as_ref().map(Vec::len).map_err(|errno| *errno);
    call(format_args!("recvmsg({socket})"), count).map(|_| fds.unwrap_or_default())
}

/// Takes a descriptor that was handed over (man 2 recvmsg). ENOTCONN if the other end has closed instead.
pub fn receive_fd(socket: &Fd, label: &'static str) -> Result<Fd, Failure> {
    let mut byte = [0];
    let mut space = cmsg_space!([RawFd; 1]);
    let mut bytes = [std::io::IoSliceMut::new(&mut byte)];
    let received = recvmsg::<()>(socket.raw(), &mut bytes, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC);
    let fd = received.and_then(|message| {
        let rights = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        });
        rights.ok_or(Errno::ENOTCONN)
    });
    // SAFETY: the kernel has just made this descriptor for us; nothing else owns it.
    let fd = fd.map(|raw| Fd::new(unsafe { OwnedFd::from_raw_fd(raw.as_raw_fd()) }, label));
    call(format_args!("recvmsg({socket})"), fd)
}

/// Knocks at a socket in a directory (man 2 connect).
///
/// The path may be longer than the 108 bytes that the kernel takes: it is given below a descriptor of its directory.
pub fn connect(directory: &Fd, name: &str) -> Result<Fd, Failure> {
    connect_below(directory, name, SockType::Stream)
}

/// As [`connect`], to a socket that takes datagrams.
pub fn connect_for_datagrams(directory: &Fd, name: &str) -> Result<Fd, Failure> {
    connect_below(directory, name, SockType::Datagram)
}

fn connect_below(directory: &Fd, name: &str, kind: SockType) -> Result<Fd, Failure> {
    let path = format!("/proc/self/fd/{}/{name}", directory.raw());
    let result = new_socket(kind).and_then(|socket| {
        nix::sys::socket::connect(socket.as_raw_fd(), &UnixAddr::new(path.as_str())?)?;
        Ok(Fd::new(socket, "start"))
    });
    call(format_args!("connect({directory}/{name:?})"), result)
}

/// The address at which a service takes connections (man 7 unix).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A file.
    Path(String),
    /// A name that no file system knows, and that every process in the network namespace can reach.
    Abstract(String),
}

/// A socket that holds an address and port and does not listen (man 2 bind): no other program can take the port, and no
/// connection is answered here.
///
/// `--explain` does not tell of it: a published range has thousands of ports.
pub fn bind_port(tcp: bool, address: std::net::SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let kind = if tcp { SockType::Stream } else { SockType::Datagram };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address)).map(|()| socket)
}

/// Connects to a service (man 2 connect).
pub fn connect_to(address: &Address, label: &'static str) -> Result<Fd, Failure> {
    let (name, text) = match address {
        Address::Path(path) => (UnixAddr::new(path.as_str()), format!("{path:?}")),
        Address::Abstract(name) => (UnixAddr::new_abstract(name.as_bytes()), format!("\"@{name}\"")),
    };
    let result = name.and_then(|name| {
        let socket = new_socket(SockType::Stream)?;
        nix::sys::socket::connect(socket.as_raw_fd(), &name)?;
        Ok(Fd::new(socket, label))
    });
    call(format_args!("connect({text})"), result)
}

/// Says something to a service, all of it (man 2 send). EPIPE if that has closed its end.
pub fn say(socket: &Fd, bytes: &[u8]) -> Result<(), Failure> {
    let mut left = bytes;
    let result = loop {
        match send(socket.raw(), left, MsgFlags::MSG_NOSIGNAL) {
            Ok(count) if count == left.len() => break Ok(()),
            Ok(count) => left = &left[count..],
            Err(Errno::EINTR) => {}
            Err(errno) => break Err(errno),
        }
    };
    call(format_args!("send({socket}, {} bytes)", bytes.len()), result)
}

/// Waits for what a service says, and adds it to `heard`: how many bytes came, none when the service has closed its end
/// (man 2 poll, man 2 recv).
///
/// # Errors
/// ETIMEDOUT at the deadline.
pub fn hear(socket: &Fd, deadline: Instant, heard: &mut Vec<u8>) -> Result<usize, Failure> {
    let mut bytes = [0; 4096];
    let result = loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left.as_millis()).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], left) {
            Ok(0) => break Err(Errno::ETIMEDOUT),
            Err(Errno::EINTR) => continue,
            Err(errno) => break Err(errno),
            Ok(_) => {}
        }
        match recv(socket.raw(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            other => break other,
        }
    };
    if let Ok(count) = result {
        heard.extend_from_slice(&bytes[..count]);
    }
    call(format_args!("recv({socket})"), result)
}

/// The same for a whole path, as a caller gives it. It may be longer than a socket's address, so we go by its directory.
pub fn connect_path(path: &Path) -> Result<Fd, Failure> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().and_then(std::ffi::OsStr::to_str).unwrap_or_default();
    connect(&super::mount::open_path(directory, "directory")?, name)
}

/// A socket in a directory that takes datagrams from every process that its permissions let in, whatever the umask is (man 2
/// bind).
pub fn bind_for_datagrams(directory: &Fd, name: &str, mode: u32, label: &'static str) -> Result<Fd, Failure> {
    let path = format!("/proc/self/fd/{}/{name}", directory.raw());
    let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
    let result = UnixDatagram::bind(&path).and_then(|socket| std::fs::set_permissions(&path, mode).map(|()| socket));
    let result = result.map(|socket| Fd::new(socket.into(), label)).map_err(super::errno);
    call(format_args!("bind({directory}/{name:?})"), result)
}

/// Waits for a datagram (man 2 poll, man 2 recv). None if one of the others has something to say first.
pub fn receive_unless(socket: &Fd, others: &[BorrowedFd]) -> Result<Option<Vec<u8>>, Failure> {
    let all = std::iter::once(socket.as_fd()).chain(others.iter().copied());
    let mut polled: Vec<PollFd> = all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    let result = loop {
        match poll(&mut polled, PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            other => break other,
        }
    };
    call(format_args!("poll({socket}, ...)"), result.map(|count| count as usize))?;
    if !polled[0].any().unwrap_or(false) {
        return Ok(None);
    }
    let mut buffer = vec![0; 4096];
    let result = nix::sys::socket::recv(socket.raw(), &mut buffer, MsgFlags::MSG_DONTWAIT);
    let length = result.map_err(|errno| Failure::call(format_args!("recv({socket})"), errno))?;
    buffer.truncate(length);
    Ok(Some(buffer))
}

/// Sends a datagram to a named socket (man 7 unix); `@` begins an abstract name.
pub fn send_datagram(name: &str, bytes: &[u8]) -> Result<(), Failure> {
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    };
    let result = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(bytes, &address));
    call(format_args!("sendto({name:?}, {:?})", String::from_utf8_lossy(bytes)), result.map_err(super::errno)).map(drop)
}

fn new_socket(kind: SockType) -> Result<OwnedFd, Errno> {
    nix::sys::socket::socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None)
}
