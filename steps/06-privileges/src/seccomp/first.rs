//! The first filter, written by hand: it refuses one system call. Begin here; the compiler writes such programs, only longer.
//!
//! The kernel runs the program before each call, from its first instruction on. There is one register of 32 bits. A
//! comparison skips as many instructions as it says, forward only, so that every program comes to its end, and the end is
//! always an answer.

use kernel::Errno;
use kernel::sys::seccomp::Instruction;

use super::calls::Abi;
use super::plan::Answer;
use super::program::{EQUAL, LOAD, RETURN};

/// Where things are in what the program reads of a call, `struct seccomp_data`: its number,
pub const NUMBER: u32 = 0;
/// the architecture that the number is meant for,
pub const ARCHITECTURE: u32 = 4;
/// and six arguments of 64 bits each.
pub const ARGUMENTS: u32 = 16;

// ANCHOR: first
/// A program that refuses the call with this number, allows every other one, and ends a thread that calls the kernel in another
/// architecture's way, where the number means another call.
///
/// One hole is left: x32 has the architecture of x86-64 and other numbers. [`super::compile`] closes it.
pub fn refuse(abi: &Abi, number: u32) -> [Instruction; 7] {
    let load = |from| Instruction { code: LOAD, when_true: 0, when_false: 0, number: from };
    let compare = |number, when_true, when_false| Instruction { code: EQUAL, when_true, when_false, number };
    let answer = |answer: Answer| Instruction { code: RETURN, when_true: 0, when_false: 0, number: answer.0 };
    [
        load(ARCHITECTURE),
        compare(abi.audit, 0, 4), // ours: go on; another one: skip four, to the last
        load(NUMBER),
        compare(number, 0, 1), // the call: go on; another one: skip one
        answer(Answer::error(Errno::EPERM as u32)),
        answer(Answer::ALLOW),
        answer(Answer::KILL_THREAD),
    ]
}
// ANCHOR_END: first
