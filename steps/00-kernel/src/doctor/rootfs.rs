//! What a container is made of: a root filesystem, or the static busybox of which `scripts/rootfs` makes one.

use std::path::{Path, PathBuf};

use super::check::{Check, LAUNCHERS, Lack, NOBODY};
use super::find_program;

/// The lines about the root filesystem: busybox is needed only while there is none.
pub fn checks() -> Vec<Check> {
    let rootfs = rootfs();
    let needed_by = if rootfs.is_ok() { NOBODY } else { LAUNCHERS };
    vec![Check::new("busybox", needed_by, busybox()), Check::new("rootfs", NOBODY, rootfs)]
}

const OWN: &str = "target/rootfs/busybox";

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new("/"))
}

/// The root filesystem, or what of its path is there already: on whose file system it lies, or will.
pub fn place() -> PathBuf {
    let named = std::env::var_os("CELLBLOCK_ROOTFS").map(PathBuf::from);
    let path = named.unwrap_or_else(|| workspace().join(OWN));
    path.ancestors().find(|part| part.exists()).unwrap_or(Path::new("/")).to_owned()
}

/// Where the launchers look: what CELLBLOCK_ROOTFS names, else the workspace's own.
fn rootfs() -> Result<String, Lack> {
    let (path, shown) = match std::env::var_os("CELLBLOCK_ROOTFS").map(PathBuf::from) {
        Some(named) => (named.clone(), named.display().to_string()),
        None => (workspace().join(OWN), OWN.to_owned()),
    };
    if path.is_dir() {
        Ok(shown)
    } else {
        Err(Lack::new(format!("{shown} is not there yet"), "scripts/rootfs busybox"))
    }
}

/// A busybox that needs no loader: in the cell there is none.
fn busybox() -> Result<String, Lack> {
    let named = std::env::var_os("BUSYBOX").map(PathBuf::from);
    let Some(path) = named.or_else(|| find_program("busybox")) else {
        return Err(Lack::new("the program busybox is not installed", "scripts/bootstrap"));
    };
    match is_static(&std::fs::read(&path).unwrap_or_default()) {
        true => Ok(format!("{}, a static program", path.display())),
        false => {
            let remedy = "scripts/rootfs busybox # fetches a static one, unless you have it: BUSYBOX=FILE";
            Err(Lack::new(format!("{} is not a static program", path.display()), remedy))
        }
    }
}

/// A program whose headers name no interpreter, which would have to load its libraries (man 5 elf, PT_INTERP).
fn is_static(file: &[u8]) -> bool {
    const PT_INTERP: usize = 3;
    let number = |at: usize, bytes: usize| {
        let field = file.get(at..at.checked_add(bytes)?)?;
        Some(field.iter().rev().fold(0, |value, &byte| value << 8 | usize::from(byte)))
    };
    let (Some(headers), Some(size), Some(count)) = (number(32, 8), number(54, 2), number(56, 2)) else { return false };
    let kinds = (0..count).map(|index| headers.checked_add(index * size).and_then(|at| number(at, 4)));
    file.starts_with(b"\x7fELF") && kinds.into_iter().all(|kind| kind.is_some_and(|kind| kind != PT_INTERP))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program with one header, of this kind.
    fn program(kind: u8) -> Vec<u8> {
        let mut file = vec![0; 64 + 56];
        file[..4].copy_from_slice(b"\x7fELF");
        (file[32], file[54], file[56], file[64]) = (64, 56, 1, kind);
        file
    }

    #[test]
    fn a_program_with_an_interpreter_is_not_static() {
        assert!(is_static(&program(1)));
        assert!(!is_static(&program(3)));
        assert!(!is_static(&program(1)[..60]) && !is_static(b"#!/bin/sh\n") && !is_static(b""));
    }
}
