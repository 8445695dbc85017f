//! The launcher's own program, out of the cell's reach. The lesson does not need this file; `--init` does, and step 7, which
//! tells the story.
//!
//! /proc/PID/exe leads to the file that a process runs. A process that opens it for writing as soon as nothing runs it any
//! more owns the host at the next start (CVE-2019-5736). So what stays in a cell runs a copy in memory that nothing can change.

use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;

use anyhow::{Context, Result};
use kernel::purpose;
use kernel::sys::seal;

// ANCHOR: seal
/// Goes on as a sealed copy of this program, with the same arguments and the same environment. Does nothing in the copy.
pub fn go_on_sealed() -> Result<()> {
    purpose("our own file must be out of the container's reach: go on as a copy that cannot be changed");
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
