//! The verbs: a file for each, with its options and what it does.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use kernel::{Failure, sys};

use crate::log::Log;
use crate::store::Store;

mod create;
mod delete;
mod events;
mod exec;
mod features;
mod kill;
mod list;
mod pause;
mod prune;
mod ps;
mod run;
mod spec;
mod start;
mod state;
mod unsupported;
mod update;
pub mod usage;

/// An OCI runtime, made of the workshop's lessons
#[derive(Parser, Debug)]
#[command(name = "cellblock", disable_version_flag = true, arg_required_else_help = true)]
pub struct Options {
    #[command(flatten)]
    general: General,
    #[command(subcommand)]
    verb: Option<Verb>,
}

/// What stands before the verb.
#[derive(clap::Args, Debug)]
struct General {
    #[command(flatten)]
    explain: kernel::ExplainOptions,

    /// Where containers are remembered [default: /run/cellblock, for an ordinary user below $XDG_RUNTIME_DIR]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    /// Write failures to this file, too
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,

    /// How they are written there: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: String,

    /// Let systemd make the containers' groups
    #[arg(long)]
    systemd_cgroup: bool,

    /// Who makes the groups: cgroupfs, systemd, or disabled for none
    #[arg(long, value_name = "MANAGER", default_value = "cgroupfs")]
    cgroup_manager: String,

    /// Taken for runc's callers, and ignored: the user id decides
    #[arg(long, value_name = "true|false|auto", hide = true)]
    rootless: Option<String>,

    /// For callers of runc; --explain tells what is done
    #[arg(long, hide = true)]
    debug: bool,

    /// Print the version
    #[arg(long, short)]
    version: bool,
}

#[derive(Subcommand, Debug)]
enum Verb {
    Create(create::Create),
    Start(start::Start),
    Run(run::Run),
    #[command(skip)]
    RunRootfs(run::RunRootfs),
    Exec(exec::Exec),
    Kill(kill::Kill),
    Delete(delete::Delete),
    Prune(prune::Prune),
    State(state::State),
    List(list::List),
    Ps(ps::Ps),
    Pause(pause::Pause),
    Resume(pause::Resume),
    Update(update::Update),
    Events(events::Events),
    Spec(spec::WriteSpec),
    #[command(skip)]
    SpecRootfs(spec::SpecRootfs),
    Features(features::Features),
    Checkpoint(unsupported::Unsupported),
    Restore(unsupported::Unsupported),
}

/// What every verb gets beside its own options.
#[derive(Debug)]
pub struct Context {
    /// The containers.
    pub store: Store,
    /// Let systemd make groups.
    pub systemd: bool,
    /// No groups at all.
    pub no_groups: bool,
}

impl Options {
    /// Reads them. A mistake is told in one line, where `--log` says, too; help is printed.
    pub fn parse_or_exit() -> Options {
        let words: Vec<OsString> = std::env::args_os().collect();
        usage::read(&words).unwrap_or_else(|error| {
            if !error.use_stderr() {
                error.exit();
            }
            let text = error.render().to_string();
            let line = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect::<Vec<_>>().join(" ");
            let failure = Failure::new(line.trim_start_matches("error: ")).hint(usage::where_to_look(&words));
            Log { file: log_file_among(&words), json: true }.tell(&failure);
            std::process::exit(failure.exit_code().into())
        })
    }

    /// Where failures are told.
    pub fn log(&self) -> Log {
        Log { file: self.general.log.clone(), json: self.general.log_format == "json" }
    }

    /// Does what the verb says.
    pub fn run(self) -> Result<ExitCode> {
        self.general.explain.begin("parent");
        if self.general.version {
            print(&format!("cellblock version {}\nspec: {}\n", env!("CARGO_PKG_VERSION"), crate::spec::NEWEST))?;
            return Ok(ExitCode::SUCCESS);
        }
        if !["text", "json"].contains(&&*self.general.log_format) {
            let text = format!("--log-format {}: no such format", self.general.log_format);
            return Err(Failure::new(text).hint("text or json").into());
        }
        self.log().check()?;
        let context = Context {
            store: Store::at(&self.general.root.clone().unwrap_or_else(default_root)),
            systemd: self.general.systemd_cgroup || self.general.cgroup_manager == "systemd",
            no_groups: self.general.cgroup_manager == "disabled",
        };
        match self.verb {
            None => Err(Failure::new("no verb was given").hint("cellblock --help lists them").into()),
            Some(Verb::Create(verb)) => verb.run(&context),
            Some(Verb::Start(verb)) => verb.run(&context),
            Some(Verb::Run(verb)) => verb.run(&context),
            Some(Verb::RunRootfs(verb)) => verb.run(&context),
            Some(Verb::Exec(verb)) => verb.run(&context),
            Some(Verb::Kill(verb)) => verb.run(&context),
            Some(Verb::Delete(verb)) => verb.run(&context),
            Some(Verb::Prune(verb)) => verb.run(&context),
            Some(Verb::State(verb)) => verb.run(&context),
            Some(Verb::List(verb)) => verb.run(&context),
            Some(Verb::Ps(verb)) => verb.run(&context),
            Some(Verb::Pause(verb)) => verb.run(&context),
            Some(Verb::Resume(verb)) => verb.run(&context),
            Some(Verb::Update(verb)) => verb.run(&context),
            Some(Verb::Events(verb)) => verb.run(&context),
            Some(Verb::Spec(verb)) => verb.run(&context),
            Some(Verb::SpecRootfs(verb)) => verb.run(&context),
            Some(Verb::Features(verb)) => verb.run(&context),
            Some(Verb::Checkpoint(verb) | Verb::Restore(verb)) => verb.run(),
        }
    }
}

/// An ordinary user's is below $XDG_RUNTIME_DIR. One that is not absolute counts as unset, as the XDG base directory
/// specification has it: below the working directory, `cellblock` would be any directory of that name.
fn default_root() -> PathBuf {
    let own = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let own = own.filter(|own| own.is_absolute() && sys::privilege::user() != 0);
    own.unwrap_or_else(|| PathBuf::from("/run")).join("cellblock")
}

/// The log file, even if other words cannot be understood.
fn log_file_among(words: &[OsString]) -> Option<PathBuf> {
    let value = |word: &OsString| word.as_bytes().strip_prefix(b"--log=").map(|path| OsStr::from_bytes(path).into());
    let given = words.iter().find_map(value);
    given.or_else(|| words.windows(2).find(|pair| pair[0] == "--log").map(|pair| PathBuf::from(&pair[1])))
}

/// Prints a text. That nobody reads it any more (`| head`) is no failure.
fn print(text: &str) -> Result<()> {
    use std::io::{ErrorKind, Write};
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// A bundle's absolute path: the configuration's own paths begin there, wherever we go.
fn bundle(given: Option<&Path>) -> Result<PathBuf> {
    let given = given.unwrap_or(Path::new("."));
    let hint = "a bundle is a directory with a config.json: cellblock spec writes one";
    std::fs::canonicalize(given).map_err(|error| {
        let why = kernel::outside::reason(error);
        Failure::new(format!("--bundle {}: {why}", given.display())).hint(hint).into()
    })
}
