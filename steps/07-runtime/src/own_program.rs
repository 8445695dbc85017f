//! Our own program, out of the container's reach.
//!
//! A process of ours is in the container for a moment, before it becomes the command, and /proc/PID/exe leads to the file
//! that it runs: the runtime, on the host. Who opens it for writing as soon as nobody runs it owns the host at the next
//! start (CVE-2019-5736). So whoever goes in runs a copy in memory that the kernel lets nobody change.

use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;

use anyhow::{Context, Result};
use kernel::purpose;
use kernel::sys::seal;

/// The verbs that go into a container.
pub const VERBS: [&str; 3] = ["create", "run", "exec"];

/// Whether these words call for a verb that goes into a container. They are looked at before they are understood: what is
/// understood twice costs twice.
pub fn is_needed_for(words: impl Iterator<Item = std::ffi::OsString>) -> bool {
    words.into_iter().any(|word| VERBS.iter().any(|verb| word == *verb))
}

// ANCHOR: seal
/// Goes on as a sealed copy of ourselves, unless we are one: the same arguments, the same environment.
pub fn go_on_sealed() -> Result<()> {
    purpose("our own file must be out of the container's reach: go on as a copy that nobody can change");
    let own = seal::own_program()?;
    if seal::is_sealed(&own) {
        return Ok(());
    }
    let copy = seal::sealed_copy(&own, c"cellblock").context("cannot copy the runtime into memory")?;
    let arguments: Vec<CString> = std::env::args_os().map(|word| c_string(word.into_vec())).collect();
    let variables = std::env::vars_os().map(|(name, value)| {
        let mut text = name.into_vec();
        text.push(b'=');
        text.extend(value.into_vec());
        c_string(text)
    });
    Err(seal::exec_descriptor(&copy, &arguments, &variables.collect::<Vec<_>>()).into())
}
// ANCHOR_END: seal

fn c_string(bytes: Vec<u8>) -> CString {
    CString::new(bytes).expect("it has come from the kernel as one")
}
