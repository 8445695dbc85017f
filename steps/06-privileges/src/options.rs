//! What the user asks for, and what is refused before anything is made.

use std::path::PathBuf;

use anyhow::{Context, Result};
use kernel::Failure;
use kernel::sys::privilege;

use crate::capabilities::Set;
use crate::id_maps::IdMaps;
use crate::reservation::Reservation;
use crate::rlimits::Rlimit;
use crate::seccomp::{self, Filter, Profile};
use crate::user::Asked;

/// Who the command is, and what it may.
#[derive(clap::Args, Debug)]
pub struct PrivilegeOptions {
    /// Whose ids root and the others are outside: auto (nobody's), host (the same), or INSIDE:OUTSIDE:COUNT[,...]
    #[arg(long, value_name = "auto|host|MAP", default_value = "auto")]
    userns: String,

    /// Run the command as this user of the cell, by name or number
    #[arg(long, short, value_name = "USER[:GROUP]", default_value = "0")]
    user: String,

    /// Keep one more capability, or ALL; may be given again
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<String>,

    /// Take one capability more away, or ALL; may be given again
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<String>,

    /// Which system calls can be made: a profile in the OCI's form, native (no 32-bit programs), or unconfined [default: the
    /// lesson's own]
    #[arg(long, value_name = "FILE|native|unconfined")]
    seccomp: Option<PathBuf>,

    /// Let programs take on the rights of their file's owner (setuid)
    #[arg(long)]
    allow_new_privs: bool,

    /// Keep the caller's session keyring
    #[arg(long)]
    no_new_keyring: bool,

    /// How much of something each process may have; may be given again
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<String>,

    /// Which rights new files do not have, as an octal number
    #[arg(long, value_name = "MASK", default_value = "022")]
    umask: String,
}

/// What was asked for, checked.
#[derive(Debug)]
pub struct Privileges {
    /// Who is who. None: as on the host.
    pub id_maps: Option<IdMaps>,
    /// Its ids, which no other cell gets as long as this is held.
    pub reservation: Option<Reservation>,
    /// Whom the command runs as.
    pub user: Asked,
    /// What anybody in the cell can have, and root has.
    pub kept: Set,
    /// What of it another user has, too.
    pub named: Set,
    /// Which system calls can be made, and the same compiled. None: all.
    pub profile: Option<Profile>,
    pub(crate) filter: Option<Filter>,
    /// No program makes more of who starts it.
    pub no_new_privileges: bool,
    /// Leave the caller's session keyring.
    pub new_keyring: bool,
    /// Limits of each process.
    pub rlimits: Vec<Rlimit>,
    /// Which rights new files do not have.
    pub umask: u32,
}

impl PrivilegeOptions {
    /// Refuses what cannot work, before anything is made.
    ///
    /// # Errors
    /// An invalid map, user, capability, limit or mask; a capability that is not to be had; a profile that cannot
    /// be read or compiled.
    pub fn check(&self) -> Result<Privileges> {
        let (kept, named) = self.capabilities()?;
        let profile = self.profile(kept)?;
        let mut checked = Privileges {
            id_maps: None,
            reservation: None,
            user: Asked::parse(&self.user)?,
            kept,
            named,
            filter: profile.as_ref().map(|profile| filter(profile, kept)).transpose()?,
            profile,
            no_new_privileges: !self.allow_new_privs,
            new_keyring: !self.no_new_keyring,
            rlimits: self.ulimit.iter().map(|text| Rlimit::parse(text)).collect::<Result<_, _>>()?,
            umask: umask(&self.umask)?,
        };
        (checked.id_maps, checked.reservation) = self.id_maps()?; // last: from here on something is made
        Ok(checked)
    }

    fn id_maps(&self) -> Result<(Option<IdMaps>, Option<Reservation>)> {
        match &*self.userns {
            "host" if !Set(privilege::capabilities()?.effective).has("SYS_ADMIN") => {
                let text = "--userns host: only root may make the other namespaces without a user namespace";
                Err(Failure::new(text).hint("--userns auto, which is the default").into())
            }
            "host" => Ok((None, None)),
            "auto" => IdMaps::auto().map(|(maps, reservation)| (Some(maps), reservation)),
            map => {
                let maps = IdMaps::parse(map)?;
                let reservation = maps.reserve().with_context(|| format!("--userns {map}"))?;
                Ok((Some(maps), reservation))
            }
        }
    }

    // ANCHOR: capabilities
    /// The default, less what is dropped, plus what is added; beside it, what was added by name.
    fn capabilities(&self) -> Result<(Set, Set)> {
        let all = |names: &[String]| names.iter().any(|name| name.eq_ignore_ascii_case("all"));
        let one_by_one = |option: &str, names: &[String]| {
            let names = names.iter().filter(|name| !name.eq_ignore_ascii_case("all"));
            let sets = names.map(|name| Set::named(name).with_context(|| format!("{option} {name}")));
            sets.sum::<Result<Set>>()
        };
        let (added, dropped) = (one_by_one("--cap-add", &self.cap_add)?, one_by_one("--cap-drop", &self.cap_drop)?);
        // In a user namespace of its own the cell's root has them all, to begin with.
        let to_be_had = if self.userns == "host" { Set::to_be_had()? } else { Set::known() };
        if let Some(missing) = added.without(to_be_had).names().first() {
            let text = format!("--cap-add {missing}: this process does not have it itself");
            return Err(Failure::new(text).hint("grep CapBnd /proc/self/status; capsh --decode=...").into());
        }
        let start = if all(&self.cap_drop) { Set::default() } else { Set::default_of_a_cell() };
        let start = if all(&self.cap_add) { to_be_had } else { Set(start.0 & to_be_had.0) };
        let named = if all(&self.cap_add) { to_be_had } else { added };
        Ok((start.without(dropped).and(added), named.without(dropped).and(added)))
    }
    // ANCHOR_END: capabilities

    fn profile(&self, kept: Set) -> Result<Option<Profile>> {
        match &self.seccomp {
            None => Ok(Some(seccomp::default_profile(|name| kept.has(name)))),
            Some(path) if path.as_os_str() == "native" => Ok(Some(seccomp::native_profile(|name| kept.has(name)))),
            Some(path) if path.as_os_str() == "unconfined" => Ok(None),
            Some(path) => Ok(Some(Profile::read(path).with_context(|| format!("--seccomp {}", path.display()))?)),
        }
    }
}

fn filter(profile: &Profile, kept: Set) -> Result<Filter> {
    let filter = Filter::new(profile, |name| kept.has(name))?;
    if filter.listener().is_some() {
        let text = "the profile leaves calls to a listener (SCMP_ACT_NOTIFY), and nobody listens here";
        return Err(Failure::new(text).hint("step 7's runtime hands them to one, if a bundle names it").into());
    }
    Ok(filter)
}

fn umask(text: &str) -> Result<u32, Failure> {
    let mask = u32::from_str_radix(text, 8).ok().filter(|mask| *mask <= 0o777);
    mask.ok_or_else(|| Failure::new(format!("--umask {text:?} is no mask")).hint("three octal digits, such as 027"))
}
