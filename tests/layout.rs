//! The rules of the house that a compiler does not check: where `unsafe` may stand, and how comments are worded.

use std::fs;
use std::path::{Path, PathBuf};

use classroom::lab::workspace;

/// Every Rust file below the lessons and the tests.
fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![workspace().join("steps"), workspace().join("tests")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the repository") {
            let path = entry.expect("an entry of it").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

/// The lines of all files, each with where it stands: `steps/05-cgroups/src/group.rs:30`.
fn lines() -> Vec<(String, String)> {
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).expect("a source is text");
        let place = path.strip_prefix(workspace()).unwrap_or(path).display().to_string();
        text.lines().enumerate().map(|(at, line)| (format!("{place}:{}", at + 1), line.to_owned())).collect::<Vec<_>>()
    };
    let files = sources();
    assert!(files.len() > 100, "the sources were not found: {files:?}");
    files.iter().flat_map(read).collect()
}

/// A file named sys.rs, or one in a folder named sys.
fn may_be_unsafe(place: &str) -> bool {
    let path = Path::new(place.split(':').next().unwrap_or_default());
    path.file_name().is_some_and(|name| name == "sys.rs") || path.components().any(|part| part.as_os_str() == "sys")
}

/// The compiler denies unsafe code, but an `allow` could stand anywhere. This text may not contain itself.
#[test]
fn unsafe_code_stands_in_sys_only() {
    let allowed = concat!("allow(", "unsafe_code)");
    let all: Vec<_> = lines().into_iter().filter(|(_, line)| line.contains(allowed)).collect();
    assert!(all.len() >= 3, "the lessons', the runtime's and the inmate's: {all:?}");
    let elsewhere: Vec<_> = all.iter().filter(|(place, _)| !may_be_unsafe(place)).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:#?}");
    assert!(!may_be_unsafe("steps/07-runtime/src/system.rs:1") && may_be_unsafe("steps/07-runtime/src/sys/mod.rs:9"));
}

/// Comments and printed words speak of processes, not of persons, and say a thing in the usual word (CONTRIBUTING.md).
#[test]
fn words_of_the_lessons_are_plain() {
    const SAID_OTHERWISE: [&str; 8] =
        ["whoever", "so many ", "so much ", " shall ", "that is none", "deaf", "/// Both.", "/// The same, but"];
    let is_bad = |line: &str| {
        let comment_or_text = line.contains("//") || line.contains('"');
        comment_or_text && SAID_OTHERWISE.iter().any(|word| line.to_lowercase().contains(&word.to_lowercase()))
    };
    assert!(is_bad("    // Whoever comes first") && !is_bad("    let shall = 1;"));
    let found: Vec<_> =
        lines().into_iter().filter(|(place, line)| place.starts_with("steps/") && is_bad(line)).collect();
    assert!(found.is_empty(), "{found:#?}");
}

/// By a name, the oldest process of any user's could be hit: the book and the scripts end processes by number.
#[test]
fn processes_are_ended_by_number() {
    let folders = [workspace().join("book/src"), workspace().join("scripts")];
    let entries = folders.iter().flat_map(|folder| fs::read_dir(folder).expect("a folder of the repository").flatten());
    let files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    assert!(files.len() > 15, "they were not found: {files:?}");
    let by_name = |path: &&PathBuf| {
        let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        ["pkill", "killall", "fuser -k"].iter().any(|word| text.contains(word))
    };
    let found: Vec<_> = files.iter().filter(by_name).collect();
    assert!(found.is_empty(), "{found:?}");
}
