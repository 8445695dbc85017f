//! The inmate's tools: calls that only a process that wants to get out makes. No launcher uses them.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, RawFd};

use kernel::Fd;
use kernel::sys::new_fd;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType};

type Result<T> = std::result::Result<T, Errno>;

/// Whether a descriptor of that number is open (man 2 fcntl).
pub fn is_open(fd: RawFd) -> bool {
    // SAFETY: F_GETFD reads a flag of the descriptor table; a number that is not open answers EBADF.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

/// What the kernel calls a file, other than by path: a type and some bytes (man 2 open_by_handle_at).
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Handle {
    length: u32,
    kind: i32,
    bytes: [u8; 128],
}

impl Handle {
    /// The handle of the directory `place`.
    pub fn of(place: impl AsFd) -> Result<Handle> {
        let mut handle = Handle { length: 128, kind: 0, bytes: [0; 128] };
        let mut mount_id = 0;
        let pointer = (&raw mut handle).cast::<libc::file_handle>();
        // SAFETY: `Handle` is laid out as a file_handle with 128 bytes behind it, and `length` says so.
        let result = unsafe {
            libc::name_to_handle_at(
                place.as_fd().as_raw_fd(),
                c"".as_ptr(),
                pointer,
                &raw mut mount_id,
                libc::AT_EMPTY_PATH,
            )
        };
        Errno::result(result).map(|_| handle)
    }

    /// The handle of another inode of the same file system, if handles there are an inode and a generation number
    /// (ext4, xfs).
    pub fn guess(self, inode: u32) -> Option<Handle> {
        const INODE_AND_GENERATION: i32 = 1;
        (self.kind == INODE_AND_GENERATION && self.length == 8).then(|| {
            let mut guess = self;
            guess.bytes[..8].copy_from_slice(&u64::from(inode).to_le_bytes());
            guess
        })
    }

    /// Opens what the handle stands for, on the file system of `mount`. Needs CAP_DAC_READ_SEARCH.
    pub fn open(mut self, mount: impl AsFd) -> Result<Fd> {
        let pointer = (&raw mut self).cast::<libc::file_handle>();
        // SAFETY: as in `of`; the kernel reads `length` bytes behind the head.
        let result = unsafe {
            {
                let flags = libc::O_DIRECTORY | libc::O_CLOEXEC;
                libc::open_by_handle_at(mount.as_fd().as_raw_fd(), pointer, flags)
            }
        };
        // SAFETY: open_by_handle_at gives a new descriptor.
        unsafe { new_fd(result.into(), "stolen") }
    }
}

/// Types a character into a terminal, as if it came from the keyboard (man 2 TIOCSTI), and throws away what was typed.
pub fn type_into(terminal: impl AsFd) -> Result<()> {
    let fd = terminal.as_fd().as_raw_fd();
    // SAFETY: TIOCSTI reads one byte, which outlives the call.
    Errno::result(unsafe { libc::ioctl(fd, libc::TIOCSTI, c"#".as_ptr()) })?;
    // SAFETY: takes numbers only.
    Errno::result(unsafe { libc::tcflush(fd, libc::TCIFLUSH) }).map(drop)
}

const SESSION_KEYRING: i32 = -3;

/// Starts a session keyring of its own, and puts a key of that name into it (man 2 keyctl, add_key).
pub fn add_session_key(name: &std::ffi::CStr) -> Result<()> {
    join_session_keyring(None)?;
    fill_session_keyring(name)
}

/// Joins the session keyring of that name, which is made if it is missing; without a name, a new one.
pub fn join_session_keyring(name: Option<&std::ffi::CStr>) -> Result<()> {
    const JOIN_SESSION_KEYRING: i32 = 1;
    let name = name.map_or(std::ptr::null(), std::ffi::CStr::as_ptr);
    // SAFETY: a name ends with a NUL and outlives the call; a null name makes an anonymous keyring.
    Errno::result(unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, name) }).map(drop)
}

/// Lets every user do everything with the session keyring (man 2 keyctl, KEYCTL_SETPERM).
pub fn open_session_keyring() -> Result<()> {
    const SETPERM: i32 = 5;
    const ALL: u32 = 0x3f3f_3f3f;
    // SAFETY: takes numbers only.
    Errno::result(unsafe { libc::syscall(libc::SYS_keyctl, SETPERM, SESSION_KEYRING, ALL) }).map(drop)
}

/// Puts a key of that name into the session keyring.
pub fn fill_session_keyring(name: &std::ffi::CStr) -> Result<()> {
    let (kind, secret) = (c"user", c"secret");
    // SAFETY: all strings end with a NUL and outlive the call; the length is the secret's.
    let result = unsafe {
        let length = secret.count_bytes();
        libc::syscall(libc::SYS_add_key, kind.as_ptr(), name.as_ptr(), secret.as_ptr(), length, SESSION_KEYRING)
    };
    Errno::result(result).map(drop)
}

/// Looks for a key of that name in the session keyring (man 2 keyctl).
pub fn find_session_key(name: &std::ffi::CStr) -> Result<()> {
    const SEARCH: i32 = 10;
    // SAFETY: both strings end with a NUL and outlive the call.
    let result =
        unsafe { libc::syscall(libc::SYS_keyctl, SEARCH, SESSION_KEYRING, c"user".as_ptr(), name.as_ptr(), 0) };
    Errno::result(result).map(drop)
}

/// Makes any call, with one argument, and zero or a null pointer for the others: none that is used here writes through it.
pub fn raw_call(number: libc::c_long, argument: i64) -> Result<i64> {
    // SAFETY: the inmate's calls read and write no memory of ours when their pointers are null.
    Errno::result(unsafe { libc::syscall(number, argument, 0, 0, 0, 0) })
}

/// How many keys the session keyring holds (man 2 keyctl, KEYCTL_READ).
pub fn session_keys() -> Result<usize> {
    const READ: i32 = 11;
    let none = std::ptr::null_mut::<u8>();
    // SAFETY: without a buffer the kernel only says how many bytes there are: four for each key.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, READ, SESSION_KEYRING, none, 0) };
    Errno::result(result).map(|bytes| bytes as usize / size_of::<i32>())
}

/// Makes a segment of System V shared memory with that key, one page large (man 2 shmget): its id.
pub fn make_shared_memory(key: i32) -> Result<i32> {
    // SAFETY: takes numbers only.
    Errno::result(unsafe { libc::shmget(key, 4096, libc::IPC_CREAT | 0o600) })
}

/// Looks for a segment with that key.
pub fn find_shared_memory(key: i32) -> Result<i32> {
    // SAFETY: takes numbers only.
    Errno::result(unsafe { libc::shmget(key, 0, 0) })
}

/// Removes a segment.
pub fn remove_shared_memory(id: i32) -> Result<()> {
    // SAFETY: IPC_RMID reads no buffer.
    Errno::result(unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) }).map(drop)
}

/// Sends a frame by a link, with whatever it says of its sender (man 7 packet).
pub fn send_frame(link: u32, frame: &[u8]) -> Result<()> {
    let socket = nix::sys::socket::socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: all zero is a valid sockaddr_ll.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    (to.sll_family, to.sll_ifindex) = (libc::AF_PACKET as u16, link as i32);
    let (address, length) = ((&raw const to).cast(), size_of_val(&to) as u32);
    // SAFETY: the kernel reads `frame` and `to`, each with its length.
    let sent = unsafe { libc::sendto(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0, address, length) };
    Errno::result(sent).map(drop)
}

/// Brings the loopback interface up (man 7 netdevice): in a new network namespace it is down.
pub fn loopback_up() -> Result<()> {
    // SAFETY: all zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").map_err(|_| Errno::ENETDOWN)?;
    // SAFETY: `request` names an interface and its flags, and outlives the call.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as libc::Ioctl, &raw const request) })
        .map(drop)
}

/// Makes a socket of a family, and closes it, as a 32-bit program of x86 does: what it asks for lies in memory, below 4 GiB
/// (man 2 socketcall). No filter can look there.
#[cfg(target_arch = "x86_64")]
pub fn socket_by_socketcall(family: u32) -> Result<()> {
    const SOCKETCALL: i32 = 102;
    const CLOSE: i32 = 6;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
    // SAFETY: a new mapping, which is nobody else's.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if page == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    let arguments = page.cast::<u32>();
    // SAFETY: the page holds the three arguments, at an address that 32 bits can tell.
    unsafe { arguments.copy_from_nonoverlapping([family, libc::SOCK_STREAM as u32, 0].as_ptr(), 3) };
    let by_32_bits = |number: i32, first: i32, second: u32| {
        let answer: i32;
        // SAFETY: the kernel changes the register of the answer alone (entry_INT80_compat clears r8 to r11); rbx, which the
        // compiler keeps to itself, is put back. The calls touch no memory but the page.
        unsafe {
            std::arch::asm!(
                "xchg {first:r}, rbx", "int 0x80", "xchg {first:r}, rbx",
                first = inout(reg) i64::from(first) => _, inout("eax") number => answer, in("ecx") second, in("edx") 0,
                out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            );
        }
        if answer < 0 { Err(Errno::from_raw(-answer)) } else { Ok(answer) }
    };
    let socket = by_32_bits(SOCKETCALL, 1, page.addr() as u32)?;
    by_32_bits(CLOSE, socket, 0).map(drop)
}

/// There is no such call on this machine.
#[cfg(not(target_arch = "x86_64"))]
pub fn socket_by_socketcall(_: u32) -> Result<()> {
    Err(Errno::ENOSYS)
}
