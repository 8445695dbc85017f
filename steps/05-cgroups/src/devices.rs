//! Device rules: root can make a node for any device (man 2 mknod), the host's disk, say. Whether it can be
//! *opened* is for the group to say. v1 has lists for that, v2 asks a small program.

use std::path::Path;

use anyhow::{Context, Result};
use kernel::sys::bpf::{self, Instruction};
use kernel::sys::cgroup;
use kernel::{Fd, purpose};

// ANCHOR: allowed
/// The character devices of a cell: major and minor number. No minor: all of them, here the terminals of devpts.
pub const ALLOWED: [(i32, Option<i32>); 9] = [
    (1, Some(3)), // null
    (1, Some(5)), // zero
    (1, Some(7)), // full
    (1, Some(8)), // random
    (1, Some(9)), // urandom
    (5, Some(0)), // tty
    (5, Some(1)), // console
    (5, Some(2)), // ptmx
    (136, None),
];
// ANCHOR_END: allowed

// ANCHOR: lists
/// v1: everything denied, then these allowed.
pub fn write_lists(group: &Path) -> Result<()> {
    purpose("no device but the harmless ones can be opened, however its node was made");
    cgroup::write(group, "devices.deny", "a")?;
    for (major, minor) in ALLOWED {
        let minor = minor.map_or_else(|| "*".to_owned(), |minor| minor.to_string());
        cgroup::write(group, "devices.allow", &format!("c {major}:{minor} rwm"))?;
    }
    Ok(())
}
// ANCHOR_END: lists

/// v2: a program that the kernel asks.
pub fn attach_program(group: &Fd) -> Result<()> {
    purpose("no device but the harmless ones can be opened, however its node was made: a program decides");
    let program = bpf::load_device_program(&program()).context("cannot load the program that guards the devices")?;
    bpf::attach_to_group(&program, group).context("cannot attach the program that guards the devices")
}

// ANCHOR: program
/// The program. It is called with the kind of the device and its numbers, and answers 1 for yes or 0 for no.
fn program() -> Vec<Instruction> {
    let mut program = question();
    for (major, minor) in ALLOWED {
        let mut tests = vec![(KIND, CHARACTER), (MAJOR, major)];
        tests.extend(minor.map(|minor| (MINOR, minor)));
        program.extend(when(&tests, &answer(true)));
    }
    program.extend(answer(false));
    program
}

/// The registers, by what is in them.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
/// Which kind of device: [`BLOCK`] or [`CHARACTER`].
pub const KIND: u8 = 2;
/// Its major number.
pub const MAJOR: u8 = 3;
/// Its minor number.
pub const MINOR: u8 = 4;

/// BPF_DEVCG_DEV_BLOCK
pub const BLOCK: i32 = 1;
/// BPF_DEVCG_DEV_CHAR
pub const CHARACTER: i32 = 2;

/// Fetches what the kernel asks.
pub fn question() -> Vec<Instruction> {
    vec![
        read(KIND, CONTEXT, 0),
        mask(KIND, 0xffff), // the upper half says what is wanted: read, write, mknod
        read(MAJOR, CONTEXT, 4),
        read(MINOR, CONTEXT, 8),
    ]
}

/// Instructions that are carried out if each of some registers has a number; else the program goes on behind them.
pub fn when(tests: &[(u8, i32)], instructions: &[Instruction]) -> Vec<Instruction> {
    let mut all = Vec::new();
    for (index, (register, number)) in tests.iter().enumerate() {
        let left = tests.len() - index - 1 + instructions.len();
        all.push(skip_unless(*register, *number, left as i16));
    }
    all.extend_from_slice(instructions);
    all
}

/// The end of the program: yes, or no.
pub fn answer(yes: bool) -> [Instruction; 2] {
    [set(ANSWER, yes.into()), end()]
}
// ANCHOR_END: program

/// What is wanted of the device: the upper half of its kind, as the kernel puts it.
pub fn read_wanted(register: u8) -> [Instruction; 2] {
    [read(register, CONTEXT, 0), instruction(0x74, register, 0, 16)] // register >>= 16 (BPF_ALU | BPF_RSH)
}

/// An instruction, by its four parts.
pub const fn instruction(code: u8, registers: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers, offset, immediate }
}

/// register = the 32-bit number at `base` + offset (BPF_LDX | BPF_MEM | BPF_W)
fn read(register: u8, base: u8, offset: i16) -> Instruction {
    instruction(0x61, register | base << 4, offset, 0)
}

/// register &= number (BPF_ALU | BPF_AND)
pub fn mask(register: u8, number: i32) -> Instruction {
    instruction(0x54, register, 0, number)
}

/// skip a number of instructions unless register == number (BPF_JMP | BPF_JNE)
pub fn skip_unless(register: u8, number: i32, count: i16) -> Instruction {
    instruction(0x55, register, count, number)
}

/// register = number (BPF_ALU64 | BPF_MOV)
fn set(register: u8, number: i32) -> Instruction {
    instruction(0xb7, register, 0, number)
}

/// return register 0 (BPF_JMP | BPF_EXIT)
fn end() -> Instruction {
    instruction(0x95, 0, 0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use classroom::device_program::answer as asked;

    #[test]
    fn harmless_devices_are_allowed_and_no_others() {
        let program = program();
        for (kind, major, minor, allowed) in [
            (2, 1, 3, 1),
            (2, 5, 2, 1),
            (2, 136, 77, 1),
            (2, 1, 1, 0),
            (2, 1, 4, 0),
            (1, 1, 3, 0),
            (1, 8, 0, 0),
            (2, 10, 229, 0),
        ] {
            assert_eq!(asked(&program, kind | 0b11 << 16, major, minor), allowed, "{kind} {major}:{minor}");
        }
    }
}
