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

/// What it reads for BPF_PROG_ATTACH and BPF_PROG_DETACH.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replaced: u32,
}

/// BPF_CGROUP_DEVICE: where programs are attached that decide about devices.
const DEVICE: u32 = 6;

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
    call(format_args!("bpf(PROG_ATTACH, {group}, {program})"), attach(program, group, 0, None))
}

fn attach(program: &Fd, group: &Fd, flags: u32, replaced: Option<&Fd>) -> Result<(), Errno> {
    const PROG_ATTACH: libc::c_int = 8;
    let (target, replaced) = (number(group), replaced.map_or(0, number));
    let request = Attach { target, program: number(program), kind: DEVICE, flags, replaced };
    // SAFETY: `request` outlives the call; the size is its own.
    let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const request, size_of::<Attach>()) };
    Errno::result(result).map(drop)
}

fn number(fd: &Fd) -> u32 {
    fd.fd.as_raw_fd() as u32
}

// Beside the lesson: a group that lives gets another program, and groups in it may have programs of their own.

/// What bpf(2) reads and writes for BPF_PROG_QUERY: all of it, for newer kernels write to the last field without asking.
#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    kind: u32,
    flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
    program_flags: u64,
    link_ids: u64,
    link_flags: u64,
    revision: u64,
}

/// Lets a program decide for a group instead of those that did. At no moment does none decide. All programs of the groups
/// above and of this one must say yes (BPF_F_ALLOW_MULTI).
pub fn exchange_in_group(program: &Fd, group: &Fd) -> Result<(), Failure> {
    const ALLOW_MULTI: u32 = 1 << 1;
    const REPLACE: u32 = 1 << 2;
    let before = attached(group)?;
    if let [old] = &before[..] {
        let text = format_args!("bpf(PROG_ATTACH, {group}, {program}, ALLOW_MULTI|REPLACE, {old})");
        return call(text, attach(program, group, ALLOW_MULTI | REPLACE, Some(old)));
    }
    let text = format_args!("bpf(PROG_ATTACH, {group}, {program}, ALLOW_MULTI)");
    call(text, attach(program, group, ALLOW_MULTI, None))?;
    before.iter().try_for_each(|old| detach(old, group))
}

fn detach(program: &Fd, group: &Fd) -> Result<(), Failure> {
    const PROG_DETACH: libc::c_int = 9;
    let request = Attach { target: number(group), program: number(program), kind: DEVICE, flags: 0, replaced: 0 };
    // SAFETY: `request` outlives the call; the size is its own.
    let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_DETACH, &raw const request, size_of::<Attach>()) };
    call(format_args!("bpf(PROG_DETACH, {group}, {program})"), Errno::result(result).map(drop))
}

/// The programs that a group itself has.
fn attached(group: &Fd) -> Result<Vec<Fd>, Failure> {
    const PROG_QUERY: libc::c_int = 16;
    let mut ids = [0_u32; 64]; // no group can have more
    let (ids_at, count) = (ids.as_mut_ptr() as u64, ids.len() as u32);
    let mut query = Query { target: number(group), kind: DEVICE, ids: ids_at, count, ..Query::default() };
    // SAFETY: `query` and `ids` outlive the call, and the count says how many the kernel may write.
    let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_QUERY, &raw mut query, size_of::<Query>()) };
    call(format_args!("bpf(PROG_QUERY, {group})"), Errno::result(result).map(drop))?;
    ids[..(query.count as usize).min(ids.len())].iter().map(|id| by_id(*id)).collect()
}

fn by_id(id: u32) -> Result<Fd, Failure> {
    const PROG_GET_FD_BY_ID: libc::c_int = 13;
    // SAFETY: the id outlives the call; the size is its own.
    let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_GET_FD_BY_ID, &raw const id, size_of::<u32>()) };
    // SAFETY: a program that is found is a new descriptor.
    call(format_args!("bpf(PROG_GET_FD_BY_ID)"), unsafe { new_fd(result, "old guard") })
}
