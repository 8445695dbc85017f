//! When and where a process runs: scheduler, priority of reading and writing, processors, memory, personality.

use nix::errno::Errno;

use kernel::Failure;
use kernel::explain::call;

/// What sched_setattr(2) takes.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scheduling {
    /// The structure's own size, in bytes.
    pub size: u32,
    /// SCHED_OTHER 0, FIFO 1, RR 2, BATCH 3, IDLE 5, DEADLINE 6.
    pub policy: u32,
    /// SCHED_FLAG_*.
    pub flags: u64,
    /// -20 to 19, for OTHER and BATCH.
    pub nice: i32,
    /// 1 to 99, for FIFO and RR.
    pub priority: u32,
    /// Nanoseconds, for DEADLINE.
    pub runtime: u64,
    /// See above.
    pub deadline: u64,
    /// See above.
    pub period: u64,
}

/// How this thread is scheduled (man 2 sched_setattr).
pub fn set_scheduling(scheduling: Scheduling) -> Result<(), Failure> {
    let attributes = Scheduling { size: size_of::<Scheduling>() as u32, ..scheduling };
    // SAFETY: the structure says its own size, and outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    call(
        format_args!("sched_setattr(policy={}, nice={})", scheduling.policy, scheduling.nice),
        Errno::result(result).map(drop),
    )
}

/// Whose reading and writing comes first (man 2 ioprio_set): class 1 real time, 2 best effort, 3 idle; level 0 to 7.
pub fn set_io_priority(class: i32, level: i32) -> Result<(), Failure> {
    const THIS_PROCESS: i32 = 1;
    // SAFETY: takes numbers only.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, THIS_PROCESS, 0, class << 13 | level) };
    call(format_args!("ioprio_set(class={class}, level={level})"), Errno::result(result).map(drop))
}

/// On which processors this thread may run (man 2 sched_setaffinity).
pub fn set_processors(processors: &[usize]) -> Result<(), Failure> {
    let mut set = nix::sched::CpuSet::new();
    let result = processors.iter().try_for_each(|number| set.set(*number));
    let result = result.and_then(|()| nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set));
    call(format_args!("sched_setaffinity({processors:?})"), result)
}

/// Lets this thread run on all processors that its group may use, whichever its maker was bound to (man 2 sched_setaffinity).
/// It is tried, and no more: without it the thread runs on fewer.
pub fn reset_processors() {
    const BYTES: usize = 8192 / 8; // no kernel is built for more; it takes what it has of them
    let all = [0xff_u8; BYTES];
    // SAFETY: the mask has that many bytes, and outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, BYTES, all.as_ptr()) };
    let _ = call(format_args!("sched_setaffinity(ALL)"), Errno::result(result).map(drop));
}

/// From which memory nodes this process's memory comes (man 2 set_mempolicy): MPOL_DEFAULT 0, PREFERRED 1, BIND 2, ...,
/// with MPOL_F_STATIC_NODES and the like among the mode's bits.
pub fn set_memory_policy(mode: u32, nodes: &[usize]) -> Result<(), Failure> {
    const BITS: usize = libc::c_ulong::BITS as usize;
    let mut mask = vec![0 as libc::c_ulong; nodes.iter().max().map_or(0, |most| most / BITS + 1)];
    nodes.iter().for_each(|node| mask[node / BITS] |= 1 << (node % BITS));
    let bits = mask.len() * BITS + 1; // the kernel counts one more than it reads
    let first = if mask.is_empty() { std::ptr::null() } else { mask.as_ptr() };
    // SAFETY: the mask has that many bits, and outlives the call; a null pointer is none.
    let result = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, first, bits) };
    call(format_args!("set_mempolicy({mode:#x}, {nodes:?})"), Errno::result(result).map(drop))
}

/// How the kernel behaves towards this process (man 2 personality): PER_LINUX 0, PER_LINUX32 8.
pub fn set_personality(persona: u64) -> Result<(), Failure> {
    // SAFETY: takes a number only.
    let result = unsafe { libc::personality(persona as libc::c_ulong) };
    call(format_args!("personality({persona:#x})"), Errno::result(result).map(drop))
}
