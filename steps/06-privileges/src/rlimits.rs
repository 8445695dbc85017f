//! Limits of a single process (man 2 getrlimit), older than groups: how many files it may have open, say.

use anyhow::{Context, Result};
use kernel::sys::privilege::Limit;
use kernel::{Errno, Failure, Remedy, purpose};

/// Their names, each at the place of its number (asm-generic/resource.h).
const NAMES: [&str; 16] = [
    "cpu",
    "fsize",
    "data",
    "stack",
    "core",
    "rss",
    "nproc",
    "nofile",
    "memlock",
    "as",
    "locks",
    "sigpending",
    "msgqueue",
    "nice",
    "rtprio",
    "rttime",
];

/// A limit with its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rlimit {
    name: &'static str,
    limit: Limit,
}

impl Rlimit {
    /// The one of that name; `RLIMIT_NOFILE` and `nofile` are the same.
    ///
    /// # Errors
    /// A limit of that name does not exist, or the soft limit is above the hard one.
    pub fn new(name: &str, soft: u64, hard: u64) -> Result<Rlimit, Failure> {
        let lower = name.to_ascii_lowercase();
        let short = lower.strip_prefix("rlimit_").unwrap_or(&lower);
        let Some(resource) = NAMES.iter().position(|known| *known == short) else {
            return Err(Failure::new(format!("there is no limit {name:?}")).hint(NAMES.join(" ")));
        };
        let name = NAMES[resource];
        if soft > hard {
            return Err(Failure::new(format!("the limit {name}: the soft one is above the hard one"))
                .hint("write the soft one first: SOFT:HARD"));
        }
        Ok(Rlimit { name, limit: Limit { resource: resource as u32, soft, hard } })
    }

    /// Its name and its two values, as a configuration has them (step 7).
    pub fn parts(&self) -> (String, u64, u64) {
        (format!("RLIMIT_{}", self.name.to_ascii_uppercase()), self.limit.soft, self.limit.hard)
    }

    /// Reads `NAME=SOFT[:HARD]`, each a number or `unlimited`.
    pub fn parse(text: &str) -> Result<Rlimit, Failure> {
        let refuse =
            || Failure::new(format!("--ulimit {text:?} is no limit")).hint("such as nofile=1024 or nofile=1024:4096");
        let value = |text: &str| match text {
            "unlimited" | "-1" => Some(u64::MAX),
            number => number.parse().ok(),
        };
        let (name, values) = text.split_once('=').ok_or_else(refuse)?;
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let (soft, hard) = (value(soft).ok_or_else(refuse)?, value(hard).ok_or_else(refuse)?);
        Rlimit::new(name, soft, hard)
            .map_err(|failure| Failure::new(format!("--ulimit {text:?}: {failure}")).hint("ulimit -a"))
    }

    // ANCHOR: raise
    /// The parent's part: raises the child's hard limit, where it must. Only who has CAP_SYS_RESOURCE on the host can, so
    /// not the child, which has it in its user namespace only.
    pub fn raise(&self, pid: i32) -> Result<()> {
        let now = Limit::of(pid, self.limit.resource)?;
        if self.limit.hard <= now.hard {
            return Ok(());
        }
        purpose("a limit that is higher than ours: only out here can it be raised");
        Limit { hard: self.limit.hard, ..now }
            .set(pid, self.name)
            .hint_on(Errno::EPERM, why_not_raised(self.name, self.limit.hard))
            .with_context(|| format!("cannot raise the limit {}", self.name))
    }
    // ANCHOR_END: raise

    /// The child's part: the limit as it was asked for. It comes late, for a launcher needs open files itself.
    pub fn set(&self) -> Result<()> {
        purpose("how much of this a single process may have");
        self.limit.set(0, self.name).with_context(|| format!("cannot set the limit {}", self.name))
    }
}

/// Why the kernel refuses a higher limit (man 2 setrlimit, EPERM).
fn why_not_raised(name: &str, hard: u64) -> String {
    let most = std::fs::read_to_string("/proc/sys/fs/nr_open").ok().and_then(|text| text.trim().parse::<u64>().ok());
    match most.filter(|most| name == "nofile" && hard > *most) {
        Some(most) => {
            format!("no process may have more open files than fs.nr_open, which is {most}: sysctl fs.nr_open")
        }
        None => {
            "it takes CAP_SYS_RESOURCE to raise it above the own hard limit (ulimit -Ha), and many containers and CI \
                 machines lack that"
                .to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_as_they_are_typed() {
        assert_eq!(Rlimit::parse("nofile=1:2").unwrap().limit.hard, 2);
        assert_eq!(Rlimit::parse("RLIMIT_CORE=0").unwrap().name, "core");
        assert_eq!(Rlimit::parse("as=unlimited").unwrap().limit.soft, u64::MAX);
        for wrong in ["", "nofile", "nofile=", "nofile=2:1", "nosuch=1", "nofile=1:2:3", "nofile=a", "nofile=-2"] {
            assert!(Rlimit::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
