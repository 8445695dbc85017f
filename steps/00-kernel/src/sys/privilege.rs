//! Lesson 6: a process's identity and rights: user and groups, capabilities, limits, the session keyring.

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::unistd::{Gid, Uid};

use super::{Fd, Lazy};
use crate::Failure;
use crate::explain::{call, purpose};

/// Three sets of capabilities of a thread, a bit for each (man 7 capabilities).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sets {
    /// What the kernel looks at.
    pub effective: u64,
    /// What may be made effective.
    pub permitted: u64,
    /// What an exec may hand on, to a program whose file asks for it.
    pub inheritable: u64,
}

/// Sets all three of this thread (man 2 capset).
pub fn set_capabilities(sets: Sets) -> Result<(), Failure> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0]; // 0: this thread
    let half = |shift: u32| [sets.effective, sets.permitted, sets.inheritable].map(|set| (set >> shift) as u32);
    let halves = [half(0), half(32)];
    // SAFETY: version 3 reads a header of two words and three words for each half; all outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), halves.as_ptr()) };
    let Sets { effective, permitted, inheritable } = sets;
    let text = format_args!("capset(effective={effective:#x}, permitted={permitted:#x}, inheritable={inheritable:#x})");
    call(text, Errno::result(result).map(drop))
}

/// The sets of this thread (man 2 capget).
pub fn capabilities() -> Result<Sets, Failure> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let mut halves = [[0_u32; 3]; 2];
    // SAFETY: version 3 reads a header of two words, and writes three words for each half.
    let result = unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), halves.as_mut_ptr()) };
    Errno::result(result).map_err(|errno| Failure::call(format_args!("capget()"), errno))?;
    let [effective, permitted, inheritable] =
        [0, 1, 2].map(|set| u64::from(halves[0][set]) | u64::from(halves[1][set]) << 32);
    Ok(Sets { effective, permitted, inheritable })
}

/// Which capabilities any later program can have at all: the bounding set (man 2 PR_CAPBSET_READ).
pub fn bounding_set() -> Result<u64, Failure> {
    let mut set = 0;
    for number in 0..64 {
        // SAFETY: takes numbers only.
        match Errno::result(unsafe { libc::prctl(libc::PR_CAPBSET_READ, number, 0, 0, 0) }) {
            Ok(held) => set |= (held as u64) << number,
            Err(Errno::EINVAL) => break, // this kernel knows no more
            Err(errno) => return Err(Failure::call(format_args!("prctl(CAPBSET_READ, {number})"), errno)),
        }
    }
    Ok(set)
}

/// Takes all capabilities but these out of the bounding set, for ever (man 2 PR_CAPBSET_DROP). Needs CAP_SETPCAP.
pub fn keep_in_bounding_set(kept: u64) -> Result<(), Failure> {
    // The first 41 are older than the oldest kernel on which this can run; of later ones it may not know all.
    const OLD: u32 = 41;
    let drop = |number: u32| {
        // SAFETY: takes numbers only.
        match Errno::result(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) }) {
            Err(Errno::EINVAL) if number >= OLD => Ok(()),
            result => result.map(drop),
        }
    };
    let result = (0..64).filter(|number| kept >> number & 1 == 0).try_for_each(drop);
    call(format_args!("prctl(CAPBSET_DROP, all but {kept:#x})"), result)
}

/// Hands capabilities on to every program, also when the user is not root (man 2 PR_CAP_AMBIENT). Each must be permitted
/// and inheritable already.
pub fn raise_ambient(raised: u64) -> Result<(), Failure> {
    let raise = |number: u32| {
        // SAFETY: takes numbers only.
        let result = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, number, 0, 0) };
        Errno::result(result).map(drop)
    };
    // SAFETY: takes numbers only.
    let cleared = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    let result = Errno::result(cleared).map(drop);
    let result = result.and_then(|()| (0..64).filter(|number| raised >> number & 1 == 1).try_for_each(raise));
    call(format_args!("prctl(CAP_AMBIENT, {raised:#x})"), result)
}

/// Keeps the permitted capabilities when the user changes from root to another (man 2 PR_SET_KEEPCAPS), until the exec.
pub fn keep_capabilities() -> Result<(), Failure> {
    // SAFETY: takes numbers only.
    let result = Errno::result(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) });
    call(format_args!("prctl(SET_KEEPCAPS, 1)"), result.map(drop))
}

/// No program gets rights of its file's owner or capabilities of its file from now on (man 2 PR_SET_NO_NEW_PRIVS).
pub fn no_new_privileges() -> Result<(), Failure> {
    call(format_args!("prctl(SET_NO_NEW_PRIVS, 1)"), nix::sys::prctl::set_no_new_privs())
}

/// No other process can look into this process's memory or descriptors, or trace it, until it is another program
/// (man 2 PR_SET_DUMPABLE).
pub fn not_dumpable() -> Result<(), Failure> {
    call(format_args!("prctl(SET_DUMPABLE, 0)"), nix::sys::prctl::set_dumpable(false))
}

/// Which other groups this process belongs to (man 2 setgroups).
pub fn set_groups(groups: &[u32]) -> Result<(), Failure> {
    let ids: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    call(format_args!("setgroups({groups:?})"), nix::unistd::setgroups(&ids))
}

/// The group, in all three roles (man 2 setresgid).
pub fn set_group(gid: u32) -> Result<(), Failure> {
    let id = Gid::from_raw(gid);
    call(format_args!("setresgid({gid}, {gid}, {gid})"), nix::unistd::setresgid(id, id, id))
}

/// The user, in all three roles (man 2 setresuid). Set the groups first: they cannot be changed once root is given up.
pub fn set_user(uid: u32) -> Result<(), Failure> {
    let id = Uid::from_raw(uid);
    call(format_args!("setresuid({uid}, {uid}, {uid})"), nix::unistd::setresuid(id, id, id))
}

/// Gives what stands behind the standard descriptors to a user, so that /dev/stdout can be opened again by its name: pipes,
/// files that are written to, and a terminal if it is the command's own. Devices, sockets and what is only read stay as they
/// are: others share them. A refusal is no failure, as by a read-only file system (man 2 fchown).
pub fn give_standard(uid: u32, own_terminal: bool) {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use nix::sys::stat::{SFlag, fstat};
    for fd in [std::io::stdin().as_fd(), std::io::stdout().as_fd(), std::io::stderr().as_fd()] {
        let Ok(found) = fstat(fd) else { continue };
        let mode = fcntl(fd, FcntlArg::F_GETFL).map_or(OFlag::O_RDONLY, OFlag::from_bits_truncate);
        let is_theirs = match SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFIFO => true,
            SFlag::S_IFREG => mode & OFlag::O_ACCMODE != OFlag::O_RDONLY,
            SFlag::S_IFCHR => own_terminal,
            _ => false,
        };
        if is_theirs && found.st_uid != uid {
            purpose("its standard descriptors, so that it may open /dev/stdout by name");
            let result = nix::unistd::fchown(fd, Some(Uid::from_raw(uid)), None);
            let _ = call(format_args!("fchown({}, {uid}, -1)", fd.as_raw_fd()), result);
        }
    }
}

/// The effective user (man 2 geteuid).
pub fn user() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// The effective group (man 2 getegid).
pub fn group() -> u32 {
    nix::unistd::getegid().as_raw()
}

/// A session keyring of its own, empty and without a name (man 2 keyctl, KEYCTL_JOIN_SESSION_KEYRING). By a name, a keyring
/// that another user has made, and that every user may search, would be joined.
pub fn join_session_keyring() -> Result<(), Failure> {
    const JOIN_SESSION_KEYRING: i32 = 1;
    // SAFETY: a null name makes an anonymous keyring.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) };
    call(format_args!("keyctl(JOIN_SESSION_KEYRING, NULL)"), Errno::result(result).map(drop))
}

/// A limit of a single process: the soft one, at which it is stopped, and the hard one, up to which it may raise that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Which: `RLIMIT_NOFILE`, say.
    pub resource: u32,
    /// In the resource's own unit; `u64::MAX` is no limit.
    pub soft: u64,
    /// As above.
    pub hard: u64,
}

impl Limit {
    /// As it is for a process; 0 is this one (man 2 prlimit).
    pub fn of(pid: i32, resource: u32) -> Result<Limit, Failure> {
        let mut found = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: no new limit is given, and `found` is large enough for the old one.
        let result = unsafe { libc::prlimit64(pid, resource as _, std::ptr::null(), &raw mut found) };
        Errno::result(result).map_err(|errno| Failure::call(format_args!("prlimit({pid}, {resource})"), errno))?;
        Ok(Limit { resource, soft: found.rlim_cur, hard: found.rlim_max })
    }

    /// Sets it for a process; 0 is this one (man 2 prlimit). Raising the hard one needs CAP_SYS_RESOURCE on the host.
    pub fn set(self, pid: i32, name: &str) -> Result<(), Failure> {
        let limit = libc::rlimit64 { rlim_cur: self.soft, rlim_max: self.hard };
        // SAFETY: `limit` outlives the call, and the old one is not asked for.
        let result = unsafe { libc::prlimit64(pid, self.resource as _, &raw const limit, std::ptr::null_mut()) };
        let show = |value: u64| if value == u64::MAX { "unlimited".to_owned() } else { value.to_string() };
        let who = if pid == 0 { "0" } else { "<child>" };
        let values = Lazy(|| format!("{}:{}", show(self.soft), show(self.hard)));
        call(format_args!("prlimit({who}, {name}, {values})"), Errno::result(result).map(drop))
    }
}

/// Writes a file of a child's in /proc, in one call: `uid_map`, say (man 5 proc).
pub fn write_of_child(pid: i32, file: &str, text: &str) -> Result<(), Failure> {
    let path = format!("/proc/{pid}/{file}");
    let result = std::fs::OpenOptions::new().write(true).open(path).and_then(|mut file| file.write(text.as_bytes()));
    call(format_args!("write(\"/proc/<child>/{file}\", {text:?})"), result.map_err(super::errno)).map(drop)
}

/// The user namespace of a process, as a descriptor (man 7 user_namespaces).
pub fn user_namespace_of(pid: i32) -> Result<Fd, Failure> {
    let result = std::fs::File::open(format!("/proc/{pid}/ns/user")).map_err(super::errno);
    call(format_args!("open(\"/proc/<child>/ns/user\")"), result.map(|file| Fd::new(file.into(), "user namespace")))
}
