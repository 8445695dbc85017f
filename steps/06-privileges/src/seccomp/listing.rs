//! A program for the kernel, as text: a line for each instruction, with the places that a comparison leads to.

use std::fmt::Write;

use kernel::Errno;
use kernel::sys::seccomp::Instruction;

use super::first::{ARCHITECTURE, ARGUMENTS, NUMBER};
use super::plan::Answer;
use super::program::{AND, EQUAL, GREATER, GREATER_OR_EQUAL, JUMP, LOAD, RETURN};

/// The program, instruction by instruction.
pub fn listing(program: &[Instruction]) -> String {
    let mut text = String::new();
    for (place, step) in program.iter().enumerate() {
        let _ = writeln!(text, "{place:>3}  {}", told(place, step)); // writing to a string does not fail
    }
    text
}

fn told(place: usize, step: &Instruction) -> String {
    let number = step.number;
    let branch = |comparison: &str| {
        let (yes, no) = (place + 1 + usize::from(step.when_true), place + 1 + usize::from(step.when_false));
        format!("if register {comparison} {number:#x} go to {yes}, else to {no}")
    };
    match step.code {
        LOAD => format!("register = {}", field(number)),
        AND => format!("register = register & {number:#x}"),
        EQUAL => branch("=="),
        GREATER => branch(">"),
        GREATER_OR_EQUAL => branch(">="),
        JUMP => format!("go to {}", place + 1 + number as usize),
        RETURN => format!("answer {}", answer(Answer(number))),
        code => format!("instruction {code:#x} with {number:#x}"),
    }
}

/// What lies at this place of `struct seccomp_data`.
fn field(offset: u32) -> String {
    match offset {
        NUMBER => "the call's number".to_owned(),
        ARCHITECTURE => "the architecture".to_owned(),
        ARGUMENTS.. => {
            let half = if offset.is_multiple_of(8) { "lower" } else { "upper" };
            format!("argument {}, {half} half", (offset - ARGUMENTS) / 8)
        }
        _ => format!("the 32 bits at {offset}"),
    }
}

fn answer(answer: Answer) -> String {
    match answer {
        Answer::ALLOW => "ALLOW".to_owned(),
        Answer::KILL_THREAD => "KILL_THREAD".to_owned(),
        Answer(number) if number & 0xffff_0000 == Answer::error(0).0 => {
            format!("ERRNO {:?}", Errno::from_raw((number & 0xffff) as i32))
        }
        Answer(number) => format!("{number:#x}"),
    }
}
