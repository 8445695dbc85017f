//! What a filter answers: a machine of our own runs the program.

use kernel::sys::seccomp::Instruction;

use super::calls::{self, Abi};
use super::compile::compile;
use super::plan::{Answer, Plan};
use super::profile::{Architecture, Profile};

mod compiled;
mod defaults;
mod faults;
mod first;
mod random;

/// What the kernel tells the program of a call.
#[derive(Debug, Clone, Copy)]
struct Call {
    number: u32,
    audit: u32,
    arguments: [u64; 6],
}

impl Call {
    /// The 32 bits at a place in `struct seccomp_data`, low half first.
    fn read(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.audit,
            16..64 => (self.arguments[(offset as usize - 16) / 8] >> (8 * (offset % 8))) as u32,
            _ => panic!("{offset}"),
        }
    }
}

/// What the kernel would do with the program, in a few lines.
fn run(program: &[Instruction], call: &Call) -> Answer {
    let (mut register, mut at) = (0, 0);
    loop {
        let Instruction { code, when_true, when_false, number } = program[at];
        at += 1;
        let mut jump = |holds: bool| at += usize::from(if holds { when_true } else { when_false });
        match code {
            0x20 => register = call.read(number),
            0x54 => register &= number,
            0x15 => jump(register == number),
            0x25 => jump(register > number),
            0x35 => jump(register >= number),
            0x05 => at += number as usize,
            0x06 => return Answer(number),
            code => panic!("{code:#x}"),
        }
    }
}

fn way(machine: &[Abi], name: Architecture) -> &Abi {
    machine.iter().find(|abi| abi.name == name).expect("a way of this machine")
}

fn number(abi: &Abi, name: &str) -> u32 {
    abi.number(name).unwrap_or_else(|| panic!("no {name} for {:?}", abi.name))
}

/// A compiled profile, to be asked.
struct Compiled {
    program: Vec<Instruction>,
    machine: &'static [Abi],
}

impl Compiled {
    fn new(profile: &Profile, machine: &'static [Abi], holds: &[&str]) -> Compiled {
        let plan = Plan::new(profile, |name| holds.contains(&name)).expect("a good profile");
        Compiled { program: compile(&plan, machine).expect("it is short enough"), machine }
    }

    fn of(text: &str) -> Compiled {
        Compiled::new(&Profile::parse(text).expect("a good profile"), &calls::X86_64, &[])
    }

    fn ask(&self, way_in: Architecture, name: &str, arguments: &[u64]) -> Answer {
        self.ask_number(way_in, number(way(self.machine, way_in), name), arguments)
    }

    fn ask_number(&self, way_in: Architecture, number: u32, arguments: &[u64]) -> Answer {
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        run(&self.program, &Call { number, audit: way(self.machine, way_in).audit, arguments: all })
    }
}
