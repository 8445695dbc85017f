//! Programs of a few bytes, made by hand (man 5 elf): one that prints a line and ends, and one that is started by another file.
//!
//! A check that has a program of the host's run must see that it ran. A busybox under another name answers "applet not found",
//! which reads like a refusal; these say what they were given to say, under any name, and however they are started.

const HEADER: u64 = 64;
const PROGRAM_HEADER: u64 = 56;
const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;

/// A program that prints the line and ends with 0. It needs no library, and is a loader as well as a program.
pub fn printing(line: &str) -> Vec<u8> {
    let message = format!("{line}\n");
    let code = code(message.len() as u32);
    file(None, &[&code[..], message.as_bytes()].concat())
}

/// A program that the kernel starts by another one, its loader.
pub fn started_by(loader: &str) -> Vec<u8> {
    file(Some(loader), &code(0))
}

/// write(1, the bytes behind the code, length); exit(0).
#[cfg(target_arch = "x86_64")]
fn code(length: u32) -> Vec<u8> {
    const CODE: usize = 35;
    let mut code = vec![0xb8, 1, 0, 0, 0, 0xbf, 1, 0, 0, 0]; // mov eax, WRITE; mov edi, 1
    code.extend([0x48, 0x8d, 0x35]); // lea rsi, [rip + distance]
    code.extend((CODE as u32 - 17).to_le_bytes());
    code.push(0xba); // mov edx, length
    code.extend(length.to_le_bytes());
    code.extend([0x0f, 0x05, 0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05]); // syscall; mov eax, EXIT; xor edi, edi; syscall
    code.resize(CODE, 0x90);
    code
}

/// write(1, the bytes behind the code, length); exit(0).
#[cfg(target_arch = "aarch64")]
fn code(length: u32) -> Vec<u8> {
    const DISTANCE: u32 = 28;
    let words = [
        0xd280_0020,                          // mov x0, 1
        0x1000_0001 | (DISTANCE / 4) << 5,    // adr x1, the bytes behind
        0xd280_0002 | (length & 0xffff) << 5, // mov x2, length
        0xd280_0808,                          // mov x8, WRITE
        0xd400_0001,                          // svc 0
        0xd280_0000,                          // mov x0, 0
        0xd280_0ba8,                          // mov x8, EXIT
        0xd400_0001,                          // svc 0
    ];
    words.iter().flat_map(|word: &u32| word.to_le_bytes()).collect()
}

fn file(loader: Option<&str>, code: &[u8]) -> Vec<u8> {
    let name = loader.map(|loader| format!("{loader}\0")).unwrap_or_default();
    let headers = HEADER + PROGRAM_HEADER * (1 + u64::from(loader.is_some()));
    let entry = (headers + name.len() as u64).next_multiple_of(16);
    let length = entry + code.len() as u64;
    let mut bytes = elf_header(entry, 1 + u16::from(loader.is_some()));
    if loader.is_some() {
        bytes.extend(program_header(PT_INTERP, headers, name.len() as u64));
    }
    bytes.extend(program_header(PT_LOAD, 0, length));
    bytes.extend(name.as_bytes());
    bytes.resize(entry as usize, 0);
    bytes.extend(code);
    bytes
}

fn elf_header(entry: u64, count: u16) -> Vec<u8> {
    const SHARED: u16 = 3; // may be loaded anywhere
    let machine: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    bytes.extend([SHARED, machine].iter().flat_map(|number| number.to_le_bytes()));
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend([entry, HEADER, 0].iter().flat_map(|number| number.to_le_bytes()));
    bytes.extend(0_u32.to_le_bytes());
    let sizes = [HEADER as u16, PROGRAM_HEADER as u16, count, 0, 0, 0];
    bytes.extend(sizes.iter().flat_map(|number| number.to_le_bytes()));
    bytes
}

fn program_header(kind: u32, offset: u64, length: u64) -> Vec<u8> {
    const READ_AND_EXECUTE: u32 = 5;
    let mut bytes = [kind, READ_AND_EXECUTE].iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
    bytes.extend([offset, offset, offset, length, length, 0x1000].iter().flat_map(|number| number.to_le_bytes()));
    bytes
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// It runs, under any name, and as another program's loader.
    #[test]
    fn they_say_their_line() {
        let folder = std::env::temp_dir().join(format!("escapes-elf-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let (tool, other) = (folder.join("tool"), folder.join("other"));
        std::fs::write(&tool, printing("it ran")).unwrap();
        std::fs::write(&other, started_by(&tool.display().to_string())).unwrap();
        let said = [&tool, &other].map(|program| {
            std::fs::set_permissions(program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            Command::new(program).output().unwrap().stdout
        });
        std::fs::remove_dir_all(folder).unwrap();
        assert_eq!(said, [b"it ran\n", b"it ran\n"]);
    }
}
