//! The command that a configuration names, as step 1 takes it.

use std::ffi::CString;
use std::path::PathBuf;

use anyhow::Result;
use chroot::{Command, c_string};
use kernel::Failure;

/// The program with its arguments, its variables, each as NAME=VALUE, and where it starts.
///
/// # Errors
/// No program; a NUL byte in a word.
pub fn command(arguments: &[String], environment: &[String], workdir: &str) -> Result<Command> {
    if arguments.is_empty() {
        return Err(Failure::new("there is no program to run").into());
    }
    let environment = last_of_each(environment);
    Ok(Command {
        rootfs: PathBuf::from("/"),
        workdir: PathBuf::from(workdir),
        arguments: arguments.iter().map(c_string).collect::<Result<_>>()?,
        names_home: environment.iter().any(|variable| variable.starts_with("HOME=") && *variable != "HOME="),
        environment: environment.into_iter().map(c_string).collect::<Result<_>>()?,
    })
}

/// Gives a command a variable, unless it has one of that name.
///
/// # Errors
/// A NUL byte in the value.
pub fn add_variable(environment: &mut Vec<CString>, name: &str, value: &str) -> Result<()> {
    let start = format!("{name}=");
    if !environment.iter().any(|each| each.to_bytes().starts_with(start.as_bytes())) {
        environment.push(c_string(format!("{start}{value}"))?);
    }
    Ok(())
}

/// Of variables with the same name the last one, as `env` and shells have it.
fn last_of_each(variables: &[String]) -> Vec<&String> {
    let mut seen = std::collections::BTreeSet::new();
    let mut kept: Vec<&String> = variables.iter().rev().collect();
    kept.retain(|variable| seen.insert(variable.split('=').next()));
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_a_name_counts() {
        let made = |variables: &[&str]| {
            let variables: Vec<String> = variables.iter().map(|text| (*text).to_owned()).collect();
            command(&["true".to_owned()], &variables, "/").unwrap()
        };
        let several = made(&["A=1", "B=2", "A=3", "AB=4"]).environment;
        let text: Vec<_> = several.iter().map(|variable| variable.to_str().unwrap()).collect();
        assert_eq!(text, ["B=2", "A=3", "AB=4"]);
        let names_home = [["HOME=/a"], ["HOME="], ["A=1"]].map(|given| made(&given).names_home);
        assert_eq!(names_home, [true, false, false]);
    }
}
