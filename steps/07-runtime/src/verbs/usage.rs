//! The command line. `run` and `spec` have two usages each: with `--rootfs` they take the options of all lessons, and a command
//! with options of its own follows. Those are sixty options, and to define them costs a fifth of a start: so they are defined
//! only where `--rootfs` is given.

use std::ffi::OsString;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use super::{General, Options, Verb, run, spec};

/// The command line with `--rootfs`.
#[derive(Parser, Debug)]
#[command(name = "cellblock", disable_version_flag = true)]
struct WithRootfs {
    #[command(flatten)]
    general: General,
    #[command(subcommand)]
    verb: VerbWithRootfs,
}

#[derive(Subcommand, Debug)]
enum VerbWithRootfs {
    Run(run::RunRootfs),
    Spec(spec::SpecRootfs),
}

/// Reads the command line.
pub(super) fn read(words: &[OsString]) -> Result<Options, clap::Error> {
    if !has_rootfs(words) {
        return Options::from_arg_matches(&definition::<Options>().try_get_matches_from(words)?);
    }
    let WithRootfs { general, verb } =
        WithRootfs::from_arg_matches(&definition::<WithRootfs>().try_get_matches_from(words)?)?;
    let verb = match verb {
        VerbWithRootfs::Run(verb) => Verb::RunRootfs(verb),
        VerbWithRootfs::Spec(verb) => Verb::SpecRootfs(verb),
    };
    Ok(Options { general, verb: Some(verb) })
}

/// Whether `--rootfs` is among the options of `run` or `spec`, and not in a command's words.
fn has_rootfs(words: &[OsString]) -> bool {
    const FOLLOWED_BY_A_COMMAND: [&str; 4] = ["run", "spec", "exec", "ps"];
    let verb = words.iter().skip(1).find(|word| FOLLOWED_BY_A_COMMAND.iter().any(|verb| *word == verb));
    let takes_it = verb.is_some_and(|verb| verb == "run" || verb == "spec");
    takes_it && words.iter().any(|word| word == "--rootfs" || word.as_encoded_bytes().starts_with(b"--rootfs="))
}

/// With `--explain` before the verb or behind it.
fn definition<Words: CommandFactory>() -> clap::Command {
    Words::command().mut_arg("explain", |explain| explain.global(true))
}

/// The whole command line, both usages in one: what the pages and the completions are made from.
pub fn whole() -> clap::Command {
    let with_rootfs = definition::<WithRootfs>();
    with_rootfs.get_subcommands().fold(definition::<Options>(), |all, more| {
        all.mut_subcommand(more.get_name(), |verb| {
            let known: Vec<clap::Id> = verb.get_arguments().map(|word| word.get_id().clone()).collect();
            let verb = verb.after_help(None::<&str>);
            verb.args(more.get_arguments().filter(|word| !known.contains(word.get_id())).cloned())
        })
    })
}

/// The command whose help lists what could have been meant.
pub(super) fn where_to_look(words: &[OsString]) -> String {
    let all = Options::command();
    let verb = words.iter().find_map(|word| all.find_subcommand(word)).map(clap::Command::get_name);
    match verb {
        Some(verb @ ("run" | "spec")) if !has_rootfs(words) => {
            format!("cellblock {verb} --help lists its options; with --rootfs DIR there are more")
        }
        Some(verb) => format!("cellblock {verb} --help lists its options"),
        None => "cellblock --help lists the verbs".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn understood(line: &str) -> Result<Options, clap::Error> {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        read(&words)
    }

    #[test]
    fn two_usages() {
        for bundle in ["cellblock run one -b /bundle", "cellblock --root /x run -d -b /bundle one", "cellblock spec"] {
            let verb = understood(bundle).unwrap().verb;
            assert!(matches!(verb, Some(Verb::Run(_) | Verb::Spec(_))), "{bundle}");
        }
        for rootfs in ["cellblock run --rootfs / ls --help", "cellblock spec --memory 1m --rootfs=/ -- ls"] {
            let verb = understood(rootfs).unwrap().verb;
            assert!(matches!(verb, Some(Verb::RunRootfs(_) | Verb::SpecRootfs(_))), "{rootfs}");
        }
        let exec = understood("cellblock exec one run --rootfs /").unwrap().verb;
        assert!(matches!(exec, Some(Verb::Exec(_))));
        for wrong in ["cellblock run", "cellblock run one two", "cellblock run --memory 1m one", "cellblock spec ls"] {
            assert!(understood(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn one_definition_of_both() {
        whole().debug_assert();
        let run = whole().find_subcommand("run").cloned().unwrap();
        for option in ["bundle", "rootfs", "memory", "userns", "explain"] {
            assert!(run.get_arguments().any(|word| word.get_id() == option) || option == "explain", "{option}");
        }
    }
}
