//! The system calls of an architecture: which number has which name.
//!
//! A program can call a kernel in several ways, and each has numbers of its own. On x86-64 `read` is 0, for a 32-bit
//! program it is 3, and 0 there is something else. The kernel tells the filter which way was taken.

use super::profile::Architecture;

/// One way to call the kernel.
pub struct Abi {
    /// Its name in a profile.
    pub name: Architecture,
    /// What the kernel calls it (AUDIT_ARCH_* in linux/audit.h). x32 has x86-64's.
    pub audit: u32,
    /// Its numbers: each block begins at one, and goes on without a gap.
    pub blocks: &'static [(u32, Names)],
    /// Whether an argument has 64 bits.
    pub wide: bool,
}

impl Abi {
    /// The number of a call: a name is looked for from the first to the last. The compiler goes the other way.
    pub fn number(&self, name: &str) -> Option<u32> {
        let numbers = self.blocks.iter().flat_map(|(first, names)| (*first..).zip(names.iter()));
        numbers.filter(|(_, each)| *each == name.as_bytes()).last().map(|(number, _)| number)
    }
}

/// The ways into a kernel for x86-64. The first is the machine's own.
pub static X86_64: [Abi; 3] = [
    Abi { name: Architecture::X86_64, audit: 0xc000_003e, blocks: &[(0, X86_64_NAMES)], wide: true },
    Abi {
        name: Architecture::X32, // 64-bit registers, pointers of 32 bits: bit 30 of the number tells it
        audit: 0xc000_003e,
        blocks: &[(X32_BIT, X86_64_NAMES), (X32_BIT + 512, X32_NAMES)],
        wide: true,
    },
    Abi { name: Architecture::X86, audit: 0x4000_0003, blocks: &[(0, X86_NAMES)], wide: false },
];

/// The ways into a kernel for 64-bit Arm.
pub static AARCH64: [Abi; 2] = [
    Abi { name: Architecture::Aarch64, audit: 0xc000_00b7, blocks: &[(0, AARCH64_NAMES)], wide: true },
    Abi {
        name: Architecture::Arm,
        audit: 0x4000_0028,
        blocks: &[(0, ARM_NAMES), (0xf_0001, ARM_PRIVATE_NAMES)],
        wide: false,
    },
];

/// The ways into the kernel of this machine.
pub fn of_this_machine() -> &'static [Abi] {
    if cfg!(target_arch = "aarch64") { &AARCH64 } else { &X86_64 }
}

const X32_BIT: u32 = 1 << 30;

// ANCHOR: behind
/// Behind two calls of 32-bit x86 there are many: their first argument says which. Who forbids `socket` there and
/// forgets `socketcall` has forbidden nothing. Gives what is behind a call, each with its number.
pub fn behind(name: &[u8]) -> &'static [(&'static str, u32)] {
    match name {
        b"socketcall" => &BEHIND_SOCKETCALL,
        b"ipc" => &BEHIND_IPC,
        _ => &[],
    }
}
// ANCHOR_END: behind

/// linux/net.h.
const BEHIND_SOCKETCALL: [(&str, u32); 20] = [
    ("socket", 1),
    ("bind", 2),
    ("connect", 3),
    ("listen", 4),
    ("accept", 5),
    ("getsockname", 6),
    ("getpeername", 7),
    ("socketpair", 8),
    ("send", 9),
    ("recv", 10),
    ("sendto", 11),
    ("recvfrom", 12),
    ("shutdown", 13),
    ("setsockopt", 14),
    ("getsockopt", 15),
    ("sendmsg", 16),
    ("recvmsg", 17),
    ("accept4", 18),
    ("recvmmsg", 19),
    ("sendmmsg", 20),
];

/// linux/ipc.h.
const BEHIND_IPC: [(&str, u32); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

/// The names of a block of numbers, packed: for each its length in one byte, then the name; length 0 for a number
/// that is no call. A list of string slices would be four times as large, and its 470 pointers would have to be
/// adjusted at every start of a static binary, container or not.
#[derive(Clone, Copy)]
pub struct Names(&'static [u8]);

impl Names {
    /// All names, in the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = &'static [u8]> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (&length, after) = rest.split_first()?;
            let (name, after) = after.split_at(length as usize);
            rest = after;
            Some(name)
        })
    }
}

/// Packs names at compile time.
macro_rules! packed {
    ($names:expr) => {{
        const SIZE: usize = packed_size(&$names);
        static PACKED: [u8; SIZE] = pack(&$names);
        Names(&PACKED)
    }};
}

/// Packs the names of a table of the crate `syscalls`, some of them corrected, at compile time.
macro_rules! packed_table {
    ($table:ident $(, $number:literal: $name:literal)*) => {{
        use syscalls::$table::Sysno;
        const NAMES: [&str; Sysno::last().id() as usize + 1] = {
            let mut names = [""; Sysno::last().id() as usize + 1];
            let mut number = 0;
            while number < names.len() {
                if let Some(call) = Sysno::new(number) {
                    names[number] = call.name();
                }
                number += 1;
            }
            $(names[$number] = $name;)*
            names
        };
        packed!(NAMES)
    }};
}

const X86_64_NAMES: Names = packed_table!(x86_64);
const X86_NAMES: Names = packed_table!(x86);
const AARCH64_NAMES: Names = packed_table!(aarch64, 79: "newfstatat"); // profiles call it so, and so does the kernel
const ARM_NAMES: Names = packed_table!(arm);

/// From 512 on, what x32 does in its own way, for it passes structures with pointers.
const X32_NAMES: Names = packed!([
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "timer_create",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "io_setup",
    "io_submit",
    "execveat",
    "preadv2",
    "pwritev2",
]);

/// What only 32-bit Arm has, and every program there needs `set_tls` (asm/unistd.h, __ARM_NR_BASE).
const ARM_PRIVATE_NAMES: Names = packed!(["breakpoint", "cacheflush", "usr26", "usr32", "set_tls", "get_tls"]);

const fn packed_size(names: &[&str]) -> usize {
    let (mut size, mut index) = (0, 0);
    while index < names.len() {
        size += 1 + names[index].len();
        index += 1;
    }
    size
}

const fn pack<const SIZE: usize>(names: &[&str]) -> [u8; SIZE] {
    let mut packed = [0; SIZE];
    let (mut at, mut index) = (0, 0);
    while index < names.len() {
        let name = names[index].as_bytes();
        packed[at] = name.len() as u8;
        let mut letter = 0;
        while letter < name.len() {
            packed[at + 1 + letter] = name[letter];
            letter += 1;
        }
        at += 1 + name.len();
        index += 1;
    }
    packed
}
