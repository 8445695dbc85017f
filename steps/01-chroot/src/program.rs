//! Finding the program, and saying why it cannot be run. The lesson does not need this file; its reader's first
//! mistake does: `ENOENT` is the answer for a command that is missing, and for one whose loader is.

use std::ffi::{CStr, CString, OsStr};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use kernel::sys::{self, inside};
use kernel::{Errno, Failure};

const CANNOT_EXECUTE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// The command's file, looked for in its own PATH as a shell would; a relative entry begins at the working directory. Call
/// it inside the new root.
pub fn find(name: &CStr, environment: &[CString], workdir: &Path) -> Result<CString, Failure> {
    let name_os = OsStr::from_bytes(name.to_bytes());
    if name.to_bytes().contains(&b'/') {
        return Ok(name.to_owned());
    }
    let path = environment.iter().find_map(|variable| variable.to_bytes().strip_prefix(b"PATH=")).unwrap_or_default();
    let candidates: Vec<PathBuf> = std::env::split_paths(OsStr::from_bytes(path))
        .map(|directory| directory.join(name_os))
        .filter(|path| workdir.join(path).is_file())
        .collect();
    let executable = candidates.iter().find(|path| is_executable(&workdir.join(path)));
    match (executable, candidates.first()) {
        (Some(path), _) => Ok(CString::new(path.as_os_str().as_bytes()).expect("made of two C strings")),
        (None, Some(path)) => {
            let text = format!("cannot run {}: permission denied", path.display());
            Err(Failure::new(text).code(CANNOT_EXECUTE).hint("it is not executable: chmod +x"))
        }
        (None, None) => {
            let text = format!("cannot run {name_os:?}: executable file not found in $PATH");
            let hint = format!("looked in {}, inside the root filesystem", String::from_utf8_lossy(path));
            Err(Failure::new(text).code(NOT_FOUND).hint(hint))
        }
    }
}

/// Finds the program as [`find`] does, and looks at it: is it there, a file, executable? A relative path begins
/// at the working directory.
pub fn look_for(name: &CStr, environment: &[CString], workdir: &Path) -> Result<CString, Failure> {
    let program = find(name, environment, workdir)?;
    let path = workdir.join(OsStr::from_bytes(program.to_bytes()));
    let refused = |errno| explain(&program, Failure::call(format_args!("execve({program:?})"), errno));
    match fs::metadata(&path) {
        Err(error) => Err(refused(Errno::from_raw(error.raw_os_error().unwrap_or(Errno::ENOENT as i32)))),
        Ok(found) if found.is_dir() || !is_executable(&path) => Err(refused(Errno::EACCES)),
        Ok(_) => Ok(program),
    }
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o111 != 0)
}

// ANCHOR: explain
/// Gives a refused execve its exit code and, from a look at the file, its remedy.
pub fn explain(program: &CStr, refused: Failure) -> Failure {
    let path = Path::new(OsStr::from_bytes(program.to_bytes()));
    let code = if refused.errno() == Some(Errno::ENOENT) { NOT_FOUND } else { CANNOT_EXECUTE };
    let hint = match refused.errno() {
        Some(Errno::ENOENT) if !path.exists() => Some("it is not in the root filesystem".to_owned()),
        Some(Errno::ENOENT) => interpreter(path)
            .map(|needs| format!("the file is there, but what starts it is not in the root filesystem: {needs}")),
        Some(Errno::EACCES) if path.is_dir() => Some("it is a directory".to_owned()),
        Some(Errno::EACCES) if is_executable(path) && sys::process::is_on_noexec(path) => {
            Some("its file system is mounted noexec: mount -o remount,exec".to_owned())
        }
        Some(Errno::EACCES) => Some("it is not executable: chmod +x".to_owned()),
        Some(Errno::ENOEXEC) => Some(foreign(path)),
        _ => None,
    };
    let refused = refused.code(code);
    match hint {
        Some(hint) => refused.hint(hint),
        None => refused,
    }
}
// ANCHOR_END: explain

/// What the kernel starts instead of the file: a script's interpreter (man 2 execve), or a program's loader
/// (man 5 elf, PT_INTERP).
///
/// `None` for a program that needs neither: a static one; and for a file that cannot be read.
pub fn interpreter(path: &Path) -> Option<String> {
    let file = inside::read(path, HEADERS)?;
    if let Some(script) = file.strip_prefix(b"#!") {
        let line = script.split(|&byte| byte == b'\n').next()?;
        let line = &line[..line.len().min(SCRIPT_LINE)];
        let words = line.split(|byte| b" \t".contains(byte)).find(|word| !word.is_empty())?;
        return Some(words.escape_ascii().to_string()); // a Windows line end shows as \r
    }
    let (headers, size, count) = (number(&file, 32, 8)?, number(&file, 54, 2)?, number(&file, 56, 2)?);
    let header = (0..count)
        .map_while(|index| headers.checked_add(index * size))
        .find(|&at| number(&file, at, 4) == Some(PT_INTERP))?;
    let (start, length) = (number(&file, header.checked_add(8)?, 8)?, number(&file, header.checked_add(32)?, 8)?);
    let name = file.get(start..start.checked_add(length.min(LONGEST_PATH))?)?;
    Some(name.split(|&byte| byte == 0).next()?.escape_ascii().to_string())
}

const PT_INTERP: usize = 3;

/// How much of a program is looked at, in bytes: what says how it is started lies at its beginning.
const HEADERS: u64 = 64 << 10;

/// The kernel reads no more of a script's first line, and of a path (man 2 execve, PATH_MAX).
const SCRIPT_LINE: usize = 254;
const LONGEST_PATH: usize = 4096;

/// A little-endian number in an ELF file; `None` beyond its end.
fn number(file: &[u8], at: usize, bytes: usize) -> Option<usize> {
    let field = file.get(at..at.checked_add(bytes)?)?;
    Some(field.iter().rev().fold(0, |value, &byte| value << 8 | usize::from(byte)))
}

/// Why the kernel does not know the file's format.
fn foreign(path: &Path) -> String {
    let file = inside::read(path, HEADERS).unwrap_or_default();
    let machine = match number(&file, 18, 2).filter(|_| file.starts_with(b"\x7fELF")) {
        Some(62) => "x86_64",
        Some(183) => "aarch64",
        Some(_) => "another machine",
        None => return "neither a program nor a script that begins with #!".to_owned(),
    };
    format!("it is a program for {machine}, and this is {}: qemu-user-static can run it", std::env::consts::ARCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_loader_is_found() {
        let program = std::env::current_exe().expect("it has a name");
        let loader = interpreter(&program);
        assert!(
            loader.is_none_or(|path| path.contains("ld-")),
            "a dynamic program names its loader, a static one none"
        );
    }

    #[test]
    fn a_cut_file_is_no_reason_to_panic() {
        assert_eq!(number(b"\x01\x02", 0, 2), Some(0x0201));
        assert_eq!(number(b"\x01\x02", 1, 2), None);
        assert_eq!(number(b"", usize::MAX, 8), None);
    }
}
