//! More holes: a mend taken out, and the test that is red then. What they are about needs more than an attack from inside: a
//! neighbour, a stranger on the host, a caller that makes a mistake.

use crate::holes::{Hole, instead, without};
use crate::proof::Probe::{Check, Test};

const LAUNCH: &str = "steps/07-runtime/src/launch.rs";
const HANDED_ON: &str = "steps/07-runtime/src/handed_on.rs";
const FILES: &str = "steps/07-runtime/src/store/files.rs";
const OWN_ADDRESSES: &str = "steps/04-network/src/own_addresses.rs";
const INSIDE: &str = "steps/00-kernel/src/sys/inside.rs";

/// All of them.
pub const HOLES: &[Hole] = &[
    // The scripts.
    Hole {
        name: "sandbox-of-the-hosts-root",
        package: "scripts/as-root",
        edits: &[without("scripts/as-root", "", "((outside)) || give_up_root")],
        seen_by: &[Test("classroom", "matrix", "the_sandbox_of_root")],
    },
    Hole {
        name: "interpreter-of-the-host",
        package: "scripts/foreign",
        edits: &[instead("scripts/foreign", "", "sprintf \"/proc/%d/fd/%d\", $$, fileno $sealed", "$interpreter")],
        seen_by: &[Test("classroom", "rootfs", "foreign")],
    },
    // The lessons.
    Hole {
        name: "directories-as-input",
        package: "chroot",
        edits: &[instead(
            "steps/01-chroot/src/lib.rs",
            "close_inherited",
            "Ok(sys::process::refuse_directories()?)",
            "Ok(())",
        )],
        seen_by: &[Test("cellblock", "step_07_last_exec", "a_directory_as_standard_input")],
    },
    Hole {
        name: "addresses-of-neighbours",
        package: "network",
        edits: &[without(OWN_ADDRESSES, "RULES", "iifname . ip saddr != @own_v4 drop")],
        seen_by: &[Test("network", "step_04_attacks", "another_cells_address_as_source")],
    },
    Hole {
        name: "cards-of-neighbours",
        package: "network",
        edits: &[without(OWN_ADDRESSES, "RULES", "iifname . ether saddr != @cards drop")],
        seen_by: &[Test("network", "step_04_attacks", "another_cells_card_as_source")],
    },
    Hole {
        name: "loopback-from-other-links",
        package: "network",
        edits: &[without("steps/04-network/src/firewall.rs", "rules", "iifname != \"lo\" ip daddr 127.0.0.0/8 drop")],
        seen_by: &[Test("network", "step_04_attacks", "the_hosts_loopback")],
    },
    Hole {
        name: "lock-on-the-namespace",
        package: "network",
        edits: &[
            instead(
                "steps/04-network/src/lease.rs",
                "lock",
                "\"/proc/sys/net/ipv4/route/flush\"",
                "\"/proc/self/ns/net\"",
            ),
            instead("steps/04-network/src/lease.rs", "lock", ".write(true)", ".read(true)"),
        ],
        seen_by: &[Test("network", "step_04", "a_strangers_lock")],
    },
    Hole {
        name: "lock-on-the-directory",
        package: "cgroups",
        edits: &[instead(
            "steps/05-cgroups/src/group.rs",
            "lock_file",
            "let owners_own = directory.join(\"cgroup.kill\");",
            "if true { return File::open(directory) } let owners_own = directory.join(\"cgroup.kill\");",
        )],
        seen_by: &[Test("cgroups", "step_05", "a_strangers_lock")],
    },
    Hole {
        name: "ids-are-shared",
        package: "privileges",
        edits: &[instead(
            "steps/06-privileges/src/reservation.rs",
            "of_a_slot",
            "!taken.iter().any(",
            "taken.is_empty() || !taken.iter().take(0).any(",
        )],
        seen_by: &[Test("privileges", "step_06", "two_cells_never_share_an_id")],
    },
    // The runtime: what comes from its caller.
    Hole {
        name: "sockets-of-another-process",
        package: "cellblock",
        edits: &[instead(
            HANDED_ON,
            "sockets",
            "recipient.parse() == Ok(own)",
            "recipient.parse() == Ok(own) || own > 0",
        )],
        seen_by: &[Test("cellblock", "step_07_callers", "sockets_of_a_service_manager")],
    },
    Hole {
        name: "more-than-is-open",
        package: "cellblock",
        edits: &[
            without(HANDED_ON, "take", "handed_on.refuse_closed()?;"),
            instead(
                HANDED_ON,
                "take",
                ".chain(handed_on.held())",
                ".chain(handed_on.held()).filter(|number| descriptor::is_open(*number))",
            ),
            instead(
                HANDED_ON,
                "leave_open",
                "self.numbers().try_for_each(",
                "self.numbers().take(64).filter(|number| descriptor::is_open(*number)).try_for_each(",
            ),
        ],
        seen_by: &[Test("cellblock", "step_07_callers", "a_closed_descriptor_is_not_handed_on")],
    },
    Hole {
        name: "more-than-was-asked-for", // two descriptors that a careless caller has open
        package: "cellblock",
        edits: &[
            without(HANDED_ON, "take", "handed_on.close_others()?;"),
            instead(
                "steps/00-kernel/src/sys/process.rs",
                "close_all_but",
                "fd.raw() as u32).collect();",
                "fd.raw() as u32).chain([7, 9]).collect();",
            ),
        ],
        seen_by: &[Check("descriptors-leak")],
    },
    Hole {
        name: "files-without-an-end",
        package: "cellblock",
        edits: &[instead(
            "steps/00-kernel/src/outside.rs",
            "bounded",
            "if text.len() as u64 > MOST {",
            "if text.is_empty() {",
        )],
        seen_by: &[Test("cellblock", "step_07_strangers", "files_of_the_callers")],
    },
    Hole {
        name: "any-process",
        package: "cellblock",
        edits: &[without("steps/07-runtime/src/verbs/exec.rs", "run", "spec::check_process(&process,")],
        seen_by: &[Test("cellblock", "step_07_strangers", "files_of_the_callers")],
    },
    Hole {
        name: "hooks-leave-their-pipes",
        package: "cellblock",
        edits: &[instead(
            "steps/07-runtime/src/hooks.rs",
            "talk",
            "if has_ended {",
            "if has_ended && error.is_none() {",
        )],
        seen_by: &[Test("cellblock", "step_07_strangers", "hooks_that_misbehave")],
    },
    Hole {
        name: "all-mounts-at-once",
        package: "cellblock",
        edits: &[instead("steps/03-pivot-root/src/trees.rs", "BATCH", "= 64;", "= 20_000;")],
        seen_by: &[Test("cellblock", "step_07_many_mounts", "in_run")],
    },
    // What comes from the image.
    Hole {
        name: "links-of-the-kernels",
        package: "cellblock",
        edits: &[instead(
            INSIDE,
            "open_below",
            "ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS",
            "ResolveFlag::empty()",
        )],
        seen_by: &[Test("cellblock", "step_07_hostile_image", "links_through_processes_of_the_host")],
    },
    Hole {
        name: "names-are-printed-raw",
        package: "cellblock",
        edits: &[instead("steps/00-kernel/src/failure.rs", "printable", "if c.is_control() {", "if c == '\\0' {")],
        seen_by: &[Test("cellblock", "step_07_hostile_image", "names_are_printed_escaped")],
    },
    // Other containers, and strangers.
    Hole {
        name: "pods-child-is-born-early",
        package: "cellblock",
        edits: &[instead(
            "steps/07-runtime/src/birth.rs",
            "channel",
            "if plan.id_maps.is_some() ||",
            "if plan.id_maps.is_none() ||",
        )],
        seen_by: &[Test("cellblock", "step_07_last_exec", "what_joins_a_pod_is_watched")],
    },
    Hole {
        name: "device-nodes-of-the-host",
        package: "cellblock",
        edits: &[instead(LAUNCH, "make_nodes", "if !plan.root.bind_devices ||", "if plan.root.bind_devices ||")],
        seen_by: &[
            Check("device-nodes-are-seized"),
            Test("cellblock", "step_07_configuration", "the_hosts_device_nodes_cannot_be_changed"),
        ],
    },
    Hole {
        name: "namespaces-in-any-order",
        package: "cellblock",
        edits: &[instead(
            LAUNCH,
            "before_birth",
            "before.into_iter().chain([users]).chain(pid)",
            "before.into_iter().chain(pid).chain([users])",
        )],
        seen_by: &[Test("cellblock", "step_07_configuration", "an_ordinary_user_joins_a_container_of_his_own")],
    },
    Hole {
        name: "roots-of-others",
        package: "cellblock",
        edits: &[instead(FILES, "refuse_if_of_others", "if found.st_mode & 0o022 != 0 {", "if found.st_mode == 0 {")],
        seen_by: &[Test("cellblock", "step_07_strangers", "a_root_that_others_may_write_to")],
    },
    Hole {
        name: "groups-are-made-again",
        package: "cellblock",
        edits: &[instead(
            "steps/07-runtime/src/groups/making.rs",
            "leaf",
            "must_be_free(&directory)?;",
            "must_be_free(&directory)?; cgroup::remove(&directory)?; cgroup::make(&directory)?;",
        )],
        seen_by: &[Test("cellblock", "step_07_interrupted", "a_group_that_was_there")],
    },
    // What has come to its end.
    Hole {
        name: "an-end-is-a-start",
        package: "cellblock",
        edits: &[instead(
            "steps/02-namespaces/src/spawn.rs",
            "read_report",
            "None => self.refuse_if_killed(),",
            "None => Ok(()),",
        )],
        seen_by: &[
            Test("cellblock", "step_07_strangers", "killed_before_the_exec"),
            Test("cellblock", "step_07_interrupted", "killed_before_its_exec"),
            Test("cellblock", "step_07_interrupted", "exec_killed_before_its_exec"),
        ],
    },
    Hole {
        name: "delete-waits-for-the-lock",
        package: "cellblock",
        edits: &[instead(
            "steps/07-runtime/src/verbs/delete.rs",
            "remove",
            "self.force && container.process()",
            "false && container.process()",
        )],
        seen_by: &[Test("cellblock", "step_07_interrupted", "delete_force_comes_to_an_end")],
    },
    Hole {
        name: "damaged-is-not-there",
        package: "cellblock",
        edits: &[instead(
            "steps/07-runtime/src/verbs/delete.rs",
            "remove_unknown",
            "Some(damaged) => removal::remove_damaged(&self.id, damaged)?,",
            "Some(_) => {}",
        )],
        seen_by: &[Test("cellblock", "step_07_strangers", "damaged_records")],
    },
];
