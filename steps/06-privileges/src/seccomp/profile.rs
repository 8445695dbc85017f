//! A seccomp profile as it stands in a file: the form of the OCI runtime specification (config-linux, "Seccomp"), and
//! what Docker's and podman's own files have besides.

use std::fmt;
use std::path::{Path, PathBuf};

use kernel::Failure;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize};

/// Words of the specification, each a value. Their text is what the files contain.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $what:literal: $($word:literal => $value:ident,)+) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
        #[serde(into = "&'static str")]
        pub enum $name { $(#[doc = $word] $value,)+ }

        impl $name {
            /// All words there are.
            pub const WORDS: &[&str] = &[$($word),+];
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(word: String) -> Result<$name, String> {
                match word.as_str() {
                    $($word => Ok($name::$value),)+
                    _ => Err(format!("unknown {} {word:?}", $what)),
                }
            }
        }

        // Written out, for the parser knows the place of a fault only while it holds the word.
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(json: D) -> Result<$name, D::Error> {
                struct Word;
                impl Visitor<'_> for Word {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                        f.write_str(concat!("the name of an ", $what))
                    }

                    fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<$name, E> {
                        $name::try_from(word.to_owned()).map_err(E::custom)
                    }
                }
                json.deserialize_str(Word)
            }
        }

        impl From<$name> for &'static str {
            fn from(value: $name) -> &'static str {
                match value { $($name::$value => $word,)+ }
            }
        }
    };
}

// ANCHOR: words
words! {
    /// What becomes of a call.
    Action, "action":
    "SCMP_ACT_KILL" => Kill,
    "SCMP_ACT_KILL_PROCESS" => KillProcess,
    "SCMP_ACT_KILL_THREAD" => KillThread,
    "SCMP_ACT_TRAP" => Trap,
    "SCMP_ACT_ERRNO" => Errno,
    "SCMP_ACT_TRACE" => Trace,
    "SCMP_ACT_ALLOW" => Allow,
    "SCMP_ACT_LOG" => Log,
    "SCMP_ACT_NOTIFY" => Notify,
}

words! {
    /// How an argument is compared.
    Comparison, "operator":
    "SCMP_CMP_NE" => NotEqual,
    "SCMP_CMP_LT" => Less,
    "SCMP_CMP_LE" => LessOrEqual,
    "SCMP_CMP_EQ" => Equal,
    "SCMP_CMP_GE" => GreaterOrEqual,
    "SCMP_CMP_GT" => Greater,
    "SCMP_CMP_MASKED_EQ" => MaskedEqual,
}
// ANCHOR_END: words

words! {
    /// How the filter is to be set.
    FilterFlag, "flag":
    "SECCOMP_FILTER_FLAG_TSYNC" => Tsync,
    "SECCOMP_FILTER_FLAG_LOG" => Log,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => SpecAllow,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => WaitKillableRecv,
}

words! {
    /// An architecture. A profile may name those of other machines: no call of theirs can happen here.
    Architecture, "architecture":
    "SCMP_ARCH_NATIVE" => Native,
    "SCMP_ARCH_X86" => X86,
    "SCMP_ARCH_X86_64" => X86_64,
    "SCMP_ARCH_X32" => X32,
    "SCMP_ARCH_ARM" => Arm,
    "SCMP_ARCH_AARCH64" => Aarch64,
    "SCMP_ARCH_LOONGARCH64" => Loongarch64,
    "SCMP_ARCH_M68K" => M68k,
    "SCMP_ARCH_MIPS" => Mips,
    "SCMP_ARCH_MIPS64" => Mips64,
    "SCMP_ARCH_MIPS64N32" => Mips64n32,
    "SCMP_ARCH_MIPSEL" => Mipsel,
    "SCMP_ARCH_MIPSEL64" => Mipsel64,
    "SCMP_ARCH_MIPSEL64N32" => Mipsel64n32,
    "SCMP_ARCH_PARISC" => Parisc,
    "SCMP_ARCH_PARISC64" => Parisc64,
    "SCMP_ARCH_PPC" => Ppc,
    "SCMP_ARCH_PPC64" => Ppc64,
    "SCMP_ARCH_PPC64LE" => Ppc64le,
    "SCMP_ARCH_RISCV64" => Riscv64,
    "SCMP_ARCH_S390" => S390,
    "SCMP_ARCH_S390X" => S390x,
    "SCMP_ARCH_SH" => Sh,
    "SCMP_ARCH_SHEB" => Sheb,
}

// ANCHOR: profile
/// A seccomp profile: `linux.seccomp` of the OCI specification.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// What becomes of a call that no rule is about.
    pub default_action: Action,
    /// The error that it gets, if that is `SCMP_ACT_ERRNO`; EPERM unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u32>,
    /// The rules. For each call, the first one that matches decides.
    #[serde(default, deserialize_with = "null_is_default")]
    pub syscalls: Vec<Rule>,
    /// Besides the native one, the architectures whose calls are let through to the rules. Others are killed.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub architectures: Vec<Architecture>,
    /// How the filter is to be set. Not given at all means `SPEC_ALLOW`, as for runc and crun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<FilterFlag>>,
    /// The Unix socket that gets the listener's descriptor, for `SCMP_ACT_NOTIFY`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener_path: Option<PathBuf>,
    /// Words for the process that listens there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener_metadata: Option<String>,
    /// Docker's and podman's: architectures, given as families.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub arch_map: Vec<Family>,
    /// Podman's: the error by name, where no number is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_errno: Option<String>,
}

/// One rule: what becomes of these calls, if their arguments are such.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// The calls, by name.
    #[serde(default, deserialize_with = "null_is_default")]
    pub names: Vec<String>,
    /// What becomes of them.
    pub action: Action,
    /// The error, for `SCMP_ACT_ERRNO`; EPERM unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
    /// Tests, which must all hold. Tests of one and the same argument are alternatives: one must hold.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<ArgumentTest>,
    /// Docker's and podman's: the rule counts only if all of this holds.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Condition::is_empty")]
    pub includes: Condition,
    /// And only if none of this does.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Condition::is_empty")]
    pub excludes: Condition,
    /// Podman's: the error by name, where no number is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<String>,
}

/// One test of one argument, as a number of 64 bits. What a pointer points to cannot be tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ArgumentTest {
    /// Which argument, from 0 to 5.
    pub index: u32,
    /// What it is compared with; for `SCMP_CMP_MASKED_EQ` the bits that count.
    pub value: u64,
    /// For `SCMP_CMP_MASKED_EQ`: what those bits must be.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub value_two: u64,
    /// How.
    pub op: Comparison,
}
// ANCHOR_END: profile

/// Docker's `archMap`: an architecture, and those whose programs its kernels run as well.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Family {
    /// The machine's own.
    pub architecture: Architecture,
    /// The others.
    #[serde(default, deserialize_with = "null_is_default")]
    pub sub_architectures: Vec<Architecture>,
}

/// Docker's `includes` and `excludes`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// Capabilities in the bounding set.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub caps: Vec<String>,
    /// Machines, by their names in Go: amd64, arm64.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub arches: Vec<String>,
    /// The oldest kernel: 4.8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_kernel: Option<String>,
}

impl Condition {
    fn is_empty(&self) -> bool {
        *self == Condition::default()
    }
}

impl Profile {
    /// Reads a profile from a file. Fails if it cannot be read or is not of the form above, and says where.
    pub fn read(path: &Path) -> Result<Profile, Failure> {
        let text = kernel::outside::contents(path)
            .map_err(|why| Failure::new(format!("cannot read {}: {why}", path.display())))?;
        let text = String::from_utf8(text).map_err(|_| Failure::new("it is no text, and a profile is JSON"))?;
        Profile::parse(&text)
    }

    /// Reads a profile from a text: `syscalls[3].action: unknown action "SCMP_ACT_FOO" at line 9 column 30`.
    pub fn parse(text: &str) -> Result<Profile, Failure> {
        let mut json = serde_json::Deserializer::from_str(text);
        let profile = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let place = error.path().to_string();
            if !error.inner().is_data() {
                return Failure::new(format!("it is no JSON: {}", error.inner()));
            }
            let failure = Failure::new(format!("{place}: {}", error.inner()).trim_start_matches(".: "));
            match known_words(&place) {
                Some(words) => failure.hint(words),
                None => failure,
            }
        })?;
        json.end().map_err(|error| Failure::new(error.to_string()))?;
        Ok(profile)
    }
}

/// All words that a profile can say, by what they are for.
#[derive(Debug)]
pub struct Words {
    /// Such as SCMP_ACT_ERRNO.
    pub actions: &'static [&'static str],
    /// Such as SCMP_CMP_EQ.
    pub comparisons: &'static [&'static str],
    /// Such as SCMP_ARCH_X86_64.
    pub architectures: &'static [&'static str],
    /// Such as SECCOMP_FILTER_FLAG_LOG.
    pub flags: &'static [&'static str],
}

/// All words that a profile can say.
pub fn words() -> Words {
    Words {
        actions: Action::WORDS,
        comparisons: Comparison::WORDS,
        architectures: Architecture::WORDS,
        flags: FilterFlag::WORDS,
    }
}

/// What can stand at a place in a profile, `syscalls[3].action` say, if that is a choice among words.
pub fn known_words(place: &str) -> Option<String> {
    let name = place.rsplit('.').next()?.split('[').next()?;
    let words = match name {
        "action" | "defaultAction" => Action::WORDS,
        "op" => Comparison::WORDS,
        "flags" => FilterFlag::WORDS,
        "architectures" | "architecture" | "subArchitectures" => Architecture::WORDS,
        _ => return None,
    };
    Some(format!("one of {}", words.join(", ")))
}

/// Go writes an empty list as `null`.
fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(json: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(json)?.unwrap_or_default())
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}
