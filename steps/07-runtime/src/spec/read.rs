//! From a file to the types: what is no JSON, or has the wrong type, is refused here.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use kernel::Failure;
use nix::fcntl::OFlag;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::locate;

/// Larger than any configuration; what is larger is not read into memory.
const MOST: u64 = 16 << 20;

/// Reads `config.json` of a bundle, or any other part of a configuration (a [`Process`](super::Process) for `exec`,
/// [`Resources`](super::Resources) for `update`) from a file.
///
/// # Errors
/// No such file, more than 16 MiB, and all that [`parse`] refuses.
pub fn read<T: DeserializeOwned>(file: &Path) -> Result<T, Failure> {
    parse(&file.file_name().unwrap_or_default().to_string_lossy(), &contents(file)?)
}

/// Reads a file of the caller's, whole, without ever waiting for a writer.
///
/// # Errors
/// No such file; not a regular file; more than 16 MiB.
pub fn contents(file: &Path) -> Result<Vec<u8>, Failure> {
    let refuse = |why: &str| {
        let hint = "a bundle is a directory with config.json in it; cellblock spec writes one";
        Failure::new(format!("cannot read {}: {why}", file.display())).hint(hint)
    };
    // A FIFO or a terminal could make us wait for ever, and to open a device has effects: so the kind is looked at first, and
    // again once the file is open, for it may be another by then.
    let regular =
        |about: &std::fs::Metadata| if about.is_file() { Ok(()) } else { Err(refuse("it is not a regular file")) };
    regular(&file.metadata().map_err(|error| refuse(&reason(&error)))?)?;
    let options = OFlag::O_NONBLOCK.bits() | OFlag::O_NOCTTY.bits();
    let opened =
        File::options().read(true).custom_flags(options).open(file).map_err(|error| refuse(&reason(&error)))?;
    let about = opened.metadata().map_err(|error| refuse(&reason(&error)))?;
    regular(&about)?;
    let mut text = Vec::with_capacity(about.len().min(MOST) as usize + 1);
    opened.take(MOST + 1).read_to_end(&mut text).map_err(|error| refuse(&reason(&error)))?;
    if text.len() as u64 > MOST {
        return Err(refuse("it is larger than 16 MiB"));
    }
    Ok(text)
}

/// The kernel's reason in lower case, as callers look for it in our messages, and without Rust's "(os error 2)".
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// Reads a part of a configuration from its text; `name` is how a failure calls it.
///
/// # Errors
/// No JSON, a missing field, a field given twice, a wrong type, a number out of the range of its type, a NUL in a
/// string: all in one line that names the place.
pub fn parse<T: DeserializeOwned>(name: &str, text: &[u8]) -> Result<T, Failure> {
    refuse_nul(name, text)?;
    serde_json::from_slice(text).map_err(|error| refusal(name, text, &error))
}

/// Everything here ends in the kernel, for which a string ends at a NUL: what stands behind one would be dropped in
/// silence. JSON can write it only as an escape, so one look at the text finds it wherever it is.
fn refuse_nul(name: &str, text: &[u8]) -> Result<(), Failure> {
    let mut backslashes = 0;
    for (at, &byte) in text.iter().enumerate() {
        backslashes = if byte == b'\\' { backslashes + 1 } else { 0 };
        if backslashes % 2 == 1 && text[at..].starts_with(br"\u0000") {
            let path = locate::path_at(text, at + 6);
            return Err(Failure::new(format!("{}a NUL in a string", place(name, &path))).hint(manual(&path)));
        }
    }
    Ok(())
}

fn refusal(name: &str, text: &[u8], error: &serde_json::Error) -> Failure {
    let path = locate::path_at(text, locate::offset(text, error.line(), error.column()));
    let message = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    let what = one_line(message.strip_suffix(&position).unwrap_or(&message));
    let failure = Failure::new(format!("{}{what}", place(name, &path)));
    match error.classify() {
        Category::Data => failure.hint(manual(&path)),
        _ => failure.hint(format!("it is not JSON: see line {}, column {}", error.line(), error.column())),
    }
}

/// `config.json: process.cwd: `, or less.
fn place(name: &str, path: &str) -> String {
    if path.is_empty() { format!("{name}: ") } else { format!("{name}: {}: ", one_line(path)) }
}

/// Where the specification says what belongs at this path.
pub(super) fn manual(path: &str) -> String {
    const SECTIONS: [&str; 8] =
        ["ociVersion", "process", "root", "hostname", "domainname", "mounts", "hooks", "annotations"];
    let mut steps = path.split(['.', '[']);
    let place = match (steps.next().unwrap_or_default(), steps.next()) {
        ("linux", Some(section)) => format!(", config-linux.md, {}", one_line(section)),
        (section, _) if SECTIONS.contains(&section) => format!(", config.md, {section}"),
        _ => String::new(),
    };
    format!("what belongs there is in the OCI runtime specification{place}")
}

/// A text from outside as part of one line: no control characters, and not endless.
pub(super) fn one_line(text: &str) -> String {
    const MOST_CHARS: usize = 200;
    let mut line = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == MOST_CHARS {
            line.push_str("...");
            break;
        }
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}
