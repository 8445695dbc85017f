//! A program for the kernel's smaller machine, written from its end to its beginning.
//!
//! The machine is *classic* BPF, older than step 5's: one register, and jumps that only go forward, 255 instructions
//! at most. Written backwards, each jump goes to something that stands there already, and its distance is known.

use kernel::Failure;
use kernel::sys::seccomp::{Instruction, MOST_INSTRUCTIONS};

use super::plan::Answer;

/// BPF_JMP | BPF_JEQ: register == number?
pub const EQUAL: u16 = 0x15;
/// BPF_JMP | BPF_JGT: register > number, without sign?
pub const GREATER: u16 = 0x25;
/// BPF_JMP | BPF_JGE: register >= number?
pub const GREATER_OR_EQUAL: u16 = 0x35;
/// BPF_ALU | BPF_AND: register &= number
pub const AND: u16 = 0x54;
/// BPF_LD | BPF_W | BPF_ABS: register = the 32 bits at number
pub const LOAD: u16 = 0x20;
/// BPF_JMP | BPF_JA: skip as many instructions as the number says, however many
pub const JUMP: u16 = 0x05;
/// BPF_RET: end, and answer number
pub const RETURN: u16 = 0x06;

/// The farthest that a comparison can jump.
const FARTHEST: usize = 255;

/// Where to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// To the end, with an answer.
    Return(Answer),
    /// To an instruction, counted from the end.
    At(usize),
}

/// The program so far: its last instruction comes first.
#[derive(Default)]
pub struct Program {
    backwards: Vec<Instruction>,
    /// Where each answer was last written.
    answers: Vec<(Answer, usize)>,
}

impl Program {
    /// Loads the 32 bits at `offset`, then goes on.
    pub fn load(&mut self, offset: u32, next: Target) -> Target {
        self.compute(LOAD, offset, next)
    }

    /// Does something to the register, then goes on.
    pub fn compute(&mut self, code: u16, number: u32, next: Target) -> Target {
        let Target::At(place) = next else {
            return next; // an answer does not depend on the register
        };
        if place + 1 != self.backwards.len() {
            self.jump(place);
        }
        self.push(code, number, 0, 0)
    }

    // ANCHOR: branch
    /// Compares the register with a number.
    pub fn branch(&mut self, code: u16, number: u32, yes: Target, no: Target) -> Target {
        if yes == no {
            return yes;
        }
        let yes = self.within(yes, 1); // the way to `no` may put one more instruction before it
        let no = self.within(no, 0);
        let skip = |to: usize| u8::try_from(self.backwards.len() - 1 - to).expect("it is within reach");
        self.push(code, number, skip(yes), skip(no))
    }

    /// A place from which `target` is reached, and that a comparison written now can reach, even if `spare` more
    /// instructions come before it. An answer that is too far away is written again: that costs no more than a jump.
    fn within(&mut self, target: Target, spare: usize) -> usize {
        let place = match target {
            Target::At(place) => Some(place),
            Target::Return(answer) => self.answers.iter().find(|(each, _)| *each == answer).map(|(_, place)| *place),
        };
        match (place, target) {
            (Some(place), _) if self.backwards.len() - 1 - place + spare <= FARTHEST => place,
            (_, Target::Return(answer)) => self.answer(answer),
            (_, Target::At(place)) => self.jump(place),
        }
    }
    // ANCHOR_END: branch

    fn answer(&mut self, answer: Answer) -> usize {
        let place = self.backwards.len();
        self.answers.retain(|(each, _)| *each != answer);
        self.answers.push((answer, place));
        self.push(RETURN, answer.0, 0, 0);
        place
    }

    fn jump(&mut self, to: usize) -> usize {
        let place = self.backwards.len();
        self.push(JUMP, (place - 1 - to) as u32, 0, 0);
        place
    }

    // ANCHOR: search
    /// The search tree: is it in the upper half of the ranges? And in the upper half of those? After eight such
    /// questions, one of 256 ranges is left.
    pub fn search(&mut self, ranges: &[(u32, Target)]) -> Target {
        match ranges {
            [] => unreachable!("every number is in a range"),
            [(_, target)] => *target,
            _ => {
                let (lower, upper) = ranges.split_at(ranges.len() / 2);
                let yes = self.search(upper);
                let no = self.search(lower);
                self.branch(GREATER_OR_EQUAL, upper[0].0, yes, no)
            }
        }
    }
    // ANCHOR_END: search

    /// The program in the order in which it runs, from `start` on.
    pub fn finish(mut self, start: Target) -> Result<Vec<Instruction>, Failure> {
        match start {
            Target::Return(answer) => drop(self.answer(answer)),
            Target::At(place) if place + 1 != self.backwards.len() => drop(self.jump(place)),
            Target::At(_) => {}
        }
        let count = self.backwards.len();
        if count > MOST_INSTRUCTIONS {
            let fault = format!("the filter has {count} instructions, and the kernel takes {MOST_INSTRUCTIONS}");
            return Err(Failure::new(fault).hint("fewer rules with tests of arguments, or fewer architectures"));
        }
        Ok(self.backwards.into_iter().rev().collect())
    }

    fn push(&mut self, code: u16, number: u32, when_true: u8, when_false: u8) -> Target {
        self.backwards.push(Instruction { code, when_true, when_false, number });
        Target::At(self.backwards.len() - 1)
    }
}
