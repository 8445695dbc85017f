//! The command as `process` of the configuration: what steps 1 and 6 say.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;

use anyhow::Result;
use privileges::{Rlimit, Set};

use super::{Checked, text};
use crate::spec::{self, Capabilities, Process};

impl Checked<'_> {
    /// What runs in it, and what it may.
    pub(super) fn process(&self) -> Result<Process> {
        Ok(Process {
            terminal: self.terminal,
            user: Some(spec::User {
                uid: self.user.uid,
                gid: self.user.gid,
                umask: Some(self.privileges.umask),
                additional_gids: self.user.groups.clone(),
            }),
            args: words("the command", &self.command.arguments)?,
            env: words("--env", &self.command.environment)?,
            cwd: text("--workdir", &self.command.workdir)?,
            capabilities: Some(self.capabilities()),
            rlimits: self.privileges.rlimits.iter().map(rlimit).collect(),
            no_new_privileges: self.privileges.no_new_privileges,
            oom_score_adj: self.limits.oom_score_adj.map(i64::from),
            ..Process::default()
        })
    }

    /// As step 6 decides for this user.
    fn capabilities(&self) -> Capabilities {
        let (kept, named) = (self.privileges.kept, self.privileges.named);
        let sets = privileges::Capabilities::for_user(self.user.uid == 0, kept, named);
        Capabilities {
            bounding: Set::names(sets.bounding),
            effective: Set::names(sets.effective),
            inheritable: Set::names(sets.inheritable),
            permitted: Set::names(sets.permitted),
            ambient: Set::names(sets.ambient),
        }
    }
}

fn words(option: &str, words: &[CString]) -> Result<Vec<String>> {
    words.iter().map(|word| text(option, OsStr::from_bytes(word.to_bytes()))).collect()
}

fn rlimit(limit: &Rlimit) -> spec::Rlimit {
    let (kind, soft, hard) = limit.parts();
    spec::Rlimit { kind, soft, hard }
}
