//! Where ours and runc differ on the same configuration, and why that is meant.

use serde_json::Value;

use super::run::Outcome;

/// A difference that is meant.
struct Meant {
    /// Why.
    #[allow(dead_code)] // for people
    reason: &'static str,
    /// Whether it explains that one of the two has refused this configuration, and the other not.
    start: fn(&Value, ours: &Outcome, theirs: &Outcome) -> bool,
    /// Whether it explains a line that only one of the two has printed.
    line: fn(&Value, line: &str) -> bool,
}

const NEVER: fn(&Value, &Outcome, &Outcome) -> bool = |_, _, _| false;
const NO_LINE: fn(&Value, &str) -> bool = |_, _| false;

/// The list.
const MEANT: [Meant; 19] = [
    Meant {
        reason: "the shell's number: runc has had processes of its own in the pid namespace before it",
        start: NEVER,
        line: |_, line| line.starts_with("process "),
    },
    Meant {
        reason: "/dev/core is a link that leads into a masked file, and runc makes it only where that is not masked",
        start: NEVER,
        line: |_, line| line.starts_with("devices "),
    },
    Meant {
        reason: "runc 1.1 does not know these fields yet, and a field that is not known is ignored",
        start: |config, ours, theirs| {
            theirs.said.contains("namespace {\\\"time\\\" \\\"\\\"} does not exist")
                || has(config, "/linux/netDevices") && ours.said.contains("linux.netDevices.nosuch0")
                || has(config, "/domainname") && ours.said.contains("cellblock: domainname: ")
                || has(config, "/process/scheduler") && ours.said.contains("process.scheduler")
        },
        line: |config, line| {
            line.starts_with("machine ") && has(config, "/linux/personality")
                || line.starts_with("sysctl kernel/domainname ") && has(config, "/domainname")
        },
    },
    Meant {
        reason: "runc leaves what is asked for out, without a word, where the machine lacks it; ours refuses it by name",
        start: |_, ours, _| ours.said.starts_with("cellblock: linux.intelRdt: not supported"),
        line: NO_LINE,
    },
    Meant {
        reason: "runc takes whatever is there for the device that is asked for; ours looks, and refuses another one",
        start: |_, ours, _| ours.said.contains("is there, and is another device"),
        line: NO_LINE,
    },
    Meant {
        reason: "a capability that cannot be given is a warning (config.md, Linux Process); runc ends with the kernel's EPERM",
        start: |_, ours, theirs| ours.said.contains("cannot be given") && theirs.said.contains("unable to apply caps"),
        line: NO_LINE,
    },
    Meant {
        reason: "two devices on one place: one of them would not be what was asked for (config-linux.md, Devices: an error)",
        start: |_, ours, _| ours.said.contains("is there twice"),
        line: NO_LINE,
    },
    Meant {
        reason: "access is optional (config-linux.md, Allowed Device list); runc asks for it",
        start: |_, _, theirs| theirs.said.contains("access at 1 field cannot be empty"),
        line: NO_LINE,
    },
    Meant {
        reason: "limits that no kernel keeps any more are refused; runc ignores them",
        start: |_, ours, _| ours.said.contains("linux.resources.memory.") && ours.said.contains(": not supported: "),
        line: NO_LINE,
    },
    Meant {
        reason: "Linux has user numbers up to 4294967294; runc counts them with a sign",
        start: |_, _, theirs| theirs.said.contains("uids and gids must be in range 0-2147483647"),
        line: NO_LINE,
    },
    Meant {
        reason: "in a user namespace without a network namespace ours shows the host's /sys, read-only, as podman asks runc for it",
        start: |config, _, theirs| {
            theirs.said.contains("error mounting \\\"sysfs\\\"") && has(config, "/linux/uidMappings")
        },
        line: NO_LINE,
    },
    Meant {
        reason: "what masks a path is read-only, and forbids everything else too",
        start: NEVER,
        line: |config, line| paths(config, "/linux/maskedPaths").iter().any(|path| is_about(line, path)),
    },
    Meant {
        reason: "runc 1.1 hands words that it does not know to the file system, `defaults` among them",
        start: |config, _, theirs| {
            let has_word = |word: &str| config["mounts"].to_string().contains(&format!("\"{word}\""));
            theirs.said.contains("error mounting") && ["nosymfollow", "defaults"].into_iter().any(has_word)
        },
        line: NO_LINE,
    },
    Meant {
        reason: "runc 1.1 binds the root onto itself after it has been made unbindable, which fails",
        start: |config, _, theirs| {
            let propagation = config.pointer("/linux/rootfsPropagation").and_then(Value::as_str);
            propagation.is_some_and(|word| word.ends_with("unbindable"))
                && theirs.said.contains("error preparing rootfs")
        },
        line: NO_LINE,
    },
    Meant {
        reason: "runc 1.1 has one list of attributes: rnosuid counts for the mounts below, and for the mount itself suid, which came before it",
        start: NEVER,
        line: |config, line| {
            let has_below = |mount: &Value| {
                mount["options"].to_string().contains("\"rno") && mount["options"].to_string().contains("\"suid\"")
            };
            mounted(config, has_below).iter().any(|place| is_about(line, place))
        },
    },
    Meant {
        reason: "a mount of type cgroup shows the trees in which the container has a group, and all of it is read-only if asked for",
        start: NEVER,
        line: |config, line| {
            mounted(config, |mount| mount["type"] == "cgroup").iter().any(|place| is_about(line, place))
        },
    },
    Meant {
        reason: "a tmpfs has the mode that is asked for, else that of what it covers; runc looks at the image below, and at a relative place from elsewhere",
        start: NEVER,
        line: |config, line| {
            let is_hidden = |mount: &Value| {
                mount["type"] == "tmpfs"
                    && (mount["destination"] == "/dev/shm"
                        || !mount["destination"].as_str().is_some_and(|place| place.starts_with('/')))
            };
            line.starts_with("file ") && mounted(config, is_hidden).iter().any(|place| is_about(line, place))
        },
    },
    Meant {
        reason: "runc 1.1 forwards to the container the SIGPIPE of its own write to a hook that does not read",
        start: |config, _, theirs| theirs.code == 141 && has(config, "/hooks"),
        line: NO_LINE,
    },
    Meant {
        reason: "a poststart hook that fails ends runc's container, whatever version the configuration is of",
        start: |_, ours, _| ours.said.contains("warning: hooks.poststart["),
        line: NO_LINE,
    },
];

fn paths(config: &Value, pointer: &str) -> Vec<String> {
    let entries = config.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
    entries.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Where the mounts of a kind lie.
fn mounted(config: &Value, fits: impl Fn(&Value) -> bool) -> Vec<String> {
    let mounts = config["mounts"].as_array().into_iter().flatten().filter(|mount| fits(mount));
    mounts.filter_map(|mount| mount["destination"].as_str()).map(str::to_owned).collect()
}

/// Whether a line tells of this path, as a mount or a file.
fn is_about(line: &str, path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default().replace(' ', "\\040");
    ["mounts ", "mount ", "file "].iter().any(|word| line.starts_with(word))
        && (line.contains(&name) || line.contains(path))
}

fn has(config: &Value, pointer: &str) -> bool {
    config.pointer(pointer).is_some()
}

/// What differs, and is not in the list.
pub fn differences(config: &Value, ours: &Outcome, theirs: &Outcome) -> Vec<String> {
    if ours.ran() != theirs.ran() {
        let meant = MEANT.iter().any(|meant| (meant.start)(config, ours, theirs));
        return if meant {
            Vec::new()
        } else {
            vec![format!(
                "ours: {} {}runc: {} {}",
                ours.code,
                ours.said,
                theirs.code,
                theirs.said.lines().last().unwrap_or_default()
            )]
        };
    }
    if !ours.ran() {
        return Vec::new();
    }
    let only = |name: &'static str, one: &Outcome, other: &Outcome| -> Vec<String> {
        let new = one.seen.iter().filter(|line| !other.seen.contains(line));
        let new = new.filter(|line| !MEANT.iter().any(|meant| (meant.line)(config, line)));
        new.map(|line| format!("{name}: {line}")).collect()
    };
    let mut found = [only("ours", ours, theirs), only("runc", theirs, ours)].concat();
    if ours.code != theirs.code {
        found.push(format!("exit codes: ours {}, runc's {}", ours.code, theirs.code));
    }
    found
}
