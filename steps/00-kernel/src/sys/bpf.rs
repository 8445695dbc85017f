//! Lesson 5: a small program, handed to the kernel, which it asks whenever a process in a group opens a device
//! (man 2 bpf; Documentation/bpf, "cgroup device").

use std::os::fd::AsRawFd;

use nix::errno::Errno;

use super::{Fd, new_fd};
use crate::Failure;
use crate::explain::call;

/// One instruction of the kernel's small machine, as it lies in memory.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub code: u8,
    /// Register that is written (low half) and register that is read (high half).
    pub registers: u8,
    /// How far to jump, or where to read.
    pub offset: i16,
    /// A number.
    pub immediate: i32,
}

/// What bpf(2) reads for BPF_PROG_LOAD: the first fields; the kernel takes the rest as zero.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// What it reads for BPF_PROG_ATTACH.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// Loads a program that decides about devices. The kernel reads it through first, and refuses one that might not end.
pub fn load_device_program(program: &[Instruction]) -> Result<Fd, Failure> {
    const PROG_LOAD: libc::c_int = 5;
    const CGROUP_DEVICE: u32 = 15;
    let license = c"Apache-2.0";
    let load = Load {
        kind: CGROUP_DEVICE,
        count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        ..Load::default()
    };
    // SAFETY: `load`, the instructions and the license outlive the call; the sizes are theirs.
    let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const load, size_of::<Load>()) };
    // SAFETY: a loaded program is a new descriptor.
    call(format_args!("bpf(PROG_LOAD, CGROUP_DEVICE, {} instructions)", program.len()), unsafe {
        new_fd(result, "guard")
    })
}

/// Lets a program decide for a group, and all groups in it.
pub fn attach_to_group(program: &Fd, group: &Fd) -> Result<(), Failure> {
    const PROG_ATTACH: libc::c_int = 8;
    const DEVICE: u32 = 6;
    let raw = |fd: &Fd| fd.fd.as_raw_fd() as u32;
    let attach = Attach { target: raw(group), program: raw(program), kind: DEVICE, flags: 0 };
    // SAFETY: `attach` outlives the call; the size is its own.
    let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const attach, size_of::<Attach>()) };
    call(format_args!("bpf(PROG_ATTACH, {group}, {program})"), Errno::result(result).map(drop))
}
