//! More walls of the runtime, and habits that a caller relies on: each taken out, and the checks that see it.

use crate::holes::{Hole, instead, without};
use crate::proof::Probe::Check;

const PLACE: &str = "steps/03-pivot-root/src/place.rs";
const INIT: &str = "steps/07-runtime/src/init.rs";
const DELETE: &str = "steps/07-runtime/src/verbs/delete.rs";

/// All of them.
pub const HOLES: &[Hole] = &[
    Hole {
        name: "places-lead-anywhere", // looked up while the old root is there
        package: "cellblock",
        edits: &[
            instead(
                PLACE,
                "resolve",
                "ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS",
                "ResolveFlag::empty()",
            ),
            instead(
                PLACE,
                "resolve",
                "ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS",
                "ResolveFlag::empty()",
            ),
            instead(INIT, "furnish", "if has_users || cell.hooks.create_container.is_empty() {", "if has_users {"),
        ],
        seen_by: &[
            Check("link-above-mount"),
            Check("link-exchanged"),
            Check("dev-is-link"),
            Check("rootfs-is-link"),
            Check("console-is-link"),
        ],
    },
    Hole {
        name: "null-of-the-image",
        package: "cellblock",
        edits: &[
            instead(
                "steps/07-runtime/src/mounts/mod.rs",
                "prepare",
                "mount::open_path(Path::new(\"/dev/null\"), \"host's null\")?",
                "mount::openat2(&root, Path::new(\"dev/null\"), ResolveFlag::empty(), \"null\").or_else(|_| mount::open_path(Path::new(\"/dev/null\"), \"null\"))?",
            ),
            instead(
                "steps/07-runtime/src/mounts/mod.rs",
                "make_device",
                "if mount::device_of(&there)? == (device.kind, device.numbers) {",
                "if mount::device_of(&there)? == (device.kind, device.numbers) || device.kind != 0 {",
            ),
        ],
        seen_by: &[Check("null-is-another")],
    },
    Hole {
        name: "root-is-the-hosts",
        package: "cellblock",
        edits: &[instead(
            "steps/06-privileges/src/id_maps.rs",
            "write",
            "child_file(pid, \"uid_map\", &table(&self.users))?;",
            "child_file(pid, \"uid_map\", \"0 0 65536\\n\")?;",
        )],
        seen_by: &[Check("user-maps")],
    },
    Hole {
        name: "groups-inside-stay",
        package: "cellblock",
        edits: &[instead(
            "steps/07-runtime/src/groups/members.rs",
            "remove_group",
            "0 => group_tree::remove_inside(group)?,",
            "0 => {}",
        )],
        seen_by: &[Check("groups-below")],
    },
    Hole {
        name: "nothing-is-taken-back",
        package: "cellblock",
        edits: &[without(
            "steps/07-runtime/src/removal.rs",
            "drop",
            "let _ = remove(container, Some(self.spec), Strangers::None);",
        )],
        seen_by: &[Check("hook-fails"), Check("source-is-missing")],
    },
    Hole {
        name: "signals-are-kept",
        package: "cellblock",
        edits: &[instead(
            "steps/07-runtime/src/foreground.rs",
            "until_end",
            "number => process.send_signal(number)?,",
            "_ => {}",
        )],
        seen_by: &[Check("signals-are-forwarded")],
    },
    Hole {
        name: "every-end-is-well",
        package: "cellblock",
        edits: &[instead(
            "steps/07-runtime/src/verbs/exec.rs",
            "visit",
            "Ok(ExitCode::from(exit.code()))",
            "Ok(ExitCode::from(exit.code() & 1))",
        )],
        seen_by: &[Check("exit-codes")],
    },
    Hole {
        name: "delete-ends-all",
        package: "cellblock",
        edits: &[
            instead(
                DELETE,
                "run",
                "_ if self.force => removal::end(&container)?,",
                "_ if self.force || true => removal::end(&container)?,",
            ),
            instead(DELETE, "run", "Err(_) if self.force =>", "Err(_) if self.force || true =>"),
        ],
        seen_by: &[Check("states"), Check("delete-of-nothing")],
    },
];
