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
            instead(
                INIT,
                "prepare_root",
                "let Some(place) = place else",
                "let Some(place) = place.or(open_place(&plan.rootfs).ok()) else",
            ),
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
                "steps/07-runtime/src/mounts/root.rs",
                "prepare",
                "dev::host_node(Path::new(\"/dev/null\"))?",
                "mount::openat2(&root, Path::new(\"dev/null\"), mount::ResolveFlag::empty(), \"null\").and_then(|node| mount::open_tree(&node, Depth::One, \"null\")).or_else(|_| dev::host_node(Path::new(\"/dev/null\")))?",
            ),
            instead(
                "steps/07-runtime/src/mounts/nodes.rs",
                "make",
                "if mount::device_of(&there)? == (self.kind, self.numbers) {",
                "if mount::device_of(&there)? == (self.kind, self.numbers) || self.kind != 0 {",
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
            "steps/05-cgroups/src/directories.rs",
            "remove",
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
                "remove",
                "_ if self.force => removal::end(&container)?,",
                "_ if self.force || true => removal::end(&container)?,",
            ),
            instead(DELETE, "remove", "Err(_) if self.force =>", "Err(_) if self.force || true =>"),
        ],
        seen_by: &[Check("states"), Check("delete-of-nothing")],
    },
];
