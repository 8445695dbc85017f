//! What the default profile lets through.

use super::super::profile::Architecture::{Aarch64, Arm, X32, X86, X86_64};
use super::super::{Filter, default_profile};
use super::*;

/// What Docker lets a container keep.
const DOCKER: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

fn default(machine: &'static [Abi], holds: &[&str]) -> Compiled {
    Compiled::new(&default_profile(|name| holds.contains(&name)), machine, holds)
}

// ANCHOR: verdicts
#[test]
fn what_the_default_lets_through() {
    let (yes, no, no_such) = (Answer::ALLOW, Answer::error(1), Answer::NO_SUCH_CALL);
    const NEW_USER: u64 = 0x1000_0000;
    let (docker, admin) = (default(&calls::X86_64, &DOCKER), default(&calls::X86_64, &["CAP_SYS_ADMIN"]));
    for (name, arguments, with_dockers, with_sys_admin) in [
        ("read", [0, 0], yes, yes),
        ("execve", [0, 0], yes, yes),
        ("chroot", [0, 0], yes, no),
        ("ptrace", [0, 0], yes, yes),
        ("mount", [0, 0], no, yes),
        ("unshare", [NEW_USER, 0], no, yes),
        ("setns", [0, 0], no, yes),
        ("bpf", [0, 0], no, yes),
        ("keyctl", [0, 0], no, no),
        ("add_key", [0, 0], no, no),
        ("io_uring_setup", [0, 0], no, no),
        ("userfaultfd", [0, 0], no, no),
        ("open_by_handle_at", [0, 0], no, no),
        ("reboot", [0, 0], no, no),
        ("clone", [17, 0], yes, yes), // fork
        ("clone", [17 | NEW_USER, 0], no, yes),
        ("clone3", [0, 0], no_such, yes),
        ("socket", [2, 0], yes, yes), // IPv4
        ("socket", [40, 0], no, no),  // the hypervisor
        ("socket", [38, 0], no, no),  // the kernel's ciphers
        ("socket", [(1 << 32) + 40, 0], no, no),
        ("socket", [46, 0], no, no),
        ("personality", [0, 0], yes, yes),
        ("personality", [0x0004_0000, 0], no, no), // no random addresses
        ("ioctl", [0, 0x5401], yes, yes),          // the terminal's settings
        ("ioctl", [0, 0x5412], no, no),            // TIOCSTI
        ("ioctl", [0, 0x541c], no, no),            // TIOCLINUX
        ("ioctl", [0, (7 << 32) + 0x5412], no, no),
        ("listns", [0, 0], no_such, no_such), // newer than the profile
    ] {
        let arguments = &arguments[..];
        assert_eq!(ask(&docker, name, arguments), with_dockers, "{name} {arguments:x?}");
        assert_eq!(ask(&admin, name, arguments), with_sys_admin, "{name} {arguments:x?} with CAP_SYS_ADMIN");
    }
}
// ANCHOR_END: verdicts

fn ask(compiled: &Compiled, name: &str, arguments: &[u64]) -> Answer {
    match name {
        "listns" => compiled.ask_number(X86_64, 470, arguments), // newer than our table, too
        _ => compiled.ask(X86_64, name, arguments),
    }
}

#[test]
fn all_ways_in_are_guarded() {
    let (intel, arm) = (default(&calls::X86_64, &DOCKER), default(&calls::AARCH64, &DOCKER));
    for (compiled, ways) in [(&intel, &[X86_64, X32, X86][..]), (&arm, &[Aarch64, Arm][..])] {
        for way_in in ways {
            for (name, first, expected) in [
                ("read", 0, Answer::ALLOW),
                ("execve", 0, Answer::ALLOW),
                ("mount", 0, Answer::error(1)),
                ("kexec_load", 0, Answer::error(1)),
                ("clone", 0x1000_0000, Answer::error(1)),
                ("clone3", 0, Answer::NO_SUCH_CALL),
            ] {
                assert_eq!(compiled.ask(*way_in, name, &[first]), expected, "{way_in:?} {name}");
            }
            assert_eq!(compiled.ask(*way_in, "ioctl", &[0, 0x5412]), Answer::error(1), "{way_in:?}");
            let beyond = way(compiled.machine, *way_in).blocks[0].0 + 9999;
            assert_eq!(compiled.ask_number(*way_in, beyond, &[]), Answer::NO_SUCH_CALL, "{way_in:?}");
        }
    }
    assert_eq!(arm.ask(Arm, "set_tls", &[]), Answer::ALLOW);
    assert_eq!(arm.ask(Aarch64, "newfstatat", &[]), Answer::ALLOW);
}

#[test]
fn the_list_is_sorted_and_each_name_is_known_somewhere() {
    let profile = default_profile(|_| true);
    let list = &profile.syscalls.last().unwrap().names;
    assert!(list.is_sorted(), "as in default.json");
    let all: Vec<&[u8]> = calls::X86_64
        .iter()
        .chain(&calls::AARCH64)
        .flat_map(|abi| abi.blocks.iter().flat_map(|(_, names)| names.iter()))
        .collect();
    // Names of other machines, which Docker's list has too.
    const ELSEWHERE: [&str; 3] = ["recv", "send", "sync_file_range2"];
    for name in profile.syscalls.iter().flat_map(|rule| &rule.names) {
        assert!(all.contains(&name.as_bytes()) || ELSEWHERE.contains(&name.as_str()), "{name}");
    }
}

/// The kernel itself, for once: a filter counts for the thread that sets it, and this one ends with the test.
#[test]
fn the_kernel_takes_it() {
    let filter = Filter::new(&default_profile(|_| false), |_| false).unwrap();
    std::thread::spawn(move || {
        nix::sys::prctl::set_no_new_privs().expect("anybody may");
        assert!(filter.apply().expect("the kernel takes the program").is_none());
        let status = std::fs::read_to_string("/proc/thread-self/status").expect("it may still read");
        assert!(status.contains("\nSeccomp:\t2\n"), "{status}");
        assert_eq!(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUTS), Err(kernel::Errno::EPERM));
    })
    .join()
    .expect("the thread ends well");
}
