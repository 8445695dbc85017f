//! The program that guards devices on cgroup v2, followed without the kernel.

use kernel::sys::bpf::Instruction;

/// What the kernel would do with the program, in a few lines. `kind` has in its upper half what is wanted.
pub fn answer(program: &[Instruction], kind: i32, major: i32, minor: i32) -> i32 {
    let context = [kind, major, minor];
    let mut registers = [0; 11];
    let mut at = 0;
    loop {
        let step = program[at];
        let (to, at_next) = ((step.registers & 15) as usize, at + 1);
        at = at_next;
        match step.code {
            0x61 => registers[to] = context[step.offset as usize / 4],
            0x54 => registers[to] &= step.immediate,
            0x74 => registers[to] >>= step.immediate,
            0x05 => at += step.offset as usize,
            0x45 if registers[to] & step.immediate != 0 => at += step.offset as usize,
            0x45 => {}
            0x55 if registers[to] != step.immediate => at += step.offset as usize,
            0x55 => {}
            0xb7 => registers[to] = step.immediate,
            0x95 => return registers[0],
            code => panic!("{code:#x}"),
        }
    }
}
