//! Step 2: a copy of our own program in memory that cannot be changed, and going on as that copy.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};

use super::{Fd, errno, new_fd};
use crate::Failure;
use crate::explain::{announce, call};

/// The file that this process runs.
pub fn own_program() -> Result<Fd, Failure> {
    let result = File::open("/proc/self/exe").map_err(errno);
    call(format_args!("open(\"/proc/self/exe\")"), result.map(|file| Fd::new(file.into(), "own program")))
}

/// Whether a file cannot be changed any more, not even by root (man 2 fcntl, F_GET_SEALS).
pub fn is_sealed(file: &Fd) -> bool {
    let all = SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    fcntl(file, FcntlArg::F_GET_SEALS).is_ok_and(|seals| SealFlag::from_bits_truncate(seals).contains(all))
}

/// A copy of a file in memory, sealed (man 2 memfd_create, man 2 sendfile, man 2 F_ADD_SEALS).
pub fn sealed_copy(file: &Fd, name: &CStr) -> Result<Fd, Failure> {
    const MFD_EXEC: libc::c_uint = 0x10;
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    let make = |flags: libc::c_uint| {
        // SAFETY: the name ends with a NUL and outlives the call.
        let result = unsafe { libc::syscall(libc::SYS_memfd_create, name.as_ptr(), flags) };
        // SAFETY: memfd_create gives a new descriptor.
        unsafe { new_fd(result, "sealed copy") }
    };
    // Kernels before 6.3 do not know MFD_EXEC; later ones may forbid to execute what was made without it.
    let copy = match make(flags | MFD_EXEC) {
        Err(Errno::EINVAL) => make(flags),
        made => made,
    };
    let copy = call(format_args!("memfd_create({name:?}, CLOEXEC|ALLOW_SEALING|EXEC)"), copy)?;
    let length = nix::sys::stat::fstat(file).map_err(|e| Failure::call(format_args!("fstat({file})"), e))?.st_size;
    let mut left = length as usize;
    let mut result = Ok(());
    while left > 0 {
        match nix::sys::sendfile::sendfile(&copy, file, None, left) {
            Ok(0) => break,
            Ok(count) => left -= count,
            Err(Errno::EINTR) => {}
            Err(refused) => {
                result = Err(refused);
                break;
            }
        }
    }
    call(format_args!("sendfile({copy}, {file}, {length})"), result)?;
    let all = SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    // EBUSY: the kernel holds one of the pages for a moment, on its way to a list of its own, say. Nothing tells when it
    // lets go, so a bounded number of further tries.
    const TRIES: usize = 50;
    let seal = || fcntl(&copy, FcntlArg::F_ADD_SEALS(all)).map(drop);
    let mut sealed = seal();
    for _ in 0..TRIES {
        if sealed != Err(Errno::EBUSY) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
        sealed = seal();
    }
    call(format_args!("fcntl({copy}, ADD_SEALS, SEAL|SHRINK|GROW|WRITE)"), sealed)?;
    Ok(copy)
}

/// Goes on as another program that is held by a descriptor (man 2 execveat). Returns only if the kernel refuses.
pub fn exec_descriptor(program: &Fd, arguments: &[CString], environment: &[CString]) -> Failure {
    let text = format_args!("execveat({program}, ...)");
    announce(text);
    let pointers = |strings: &[CString]| {
        strings.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect::<Vec<*const libc::c_char>>()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both lists end with a null pointer, and their strings with a NUL; all outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.fd.as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    Failure::call(text, Errno::result(result).err().unwrap_or(Errno::EIO))
}
