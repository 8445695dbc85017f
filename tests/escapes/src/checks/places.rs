//! Places: where something is mounted, when the image has put a symbolic link there first.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::{Check, Unsafe, Verdict, judge, must_refuse, worst};
use crate::bundle::Bundle;
use crate::case::Case;

pub const CHECKS: [Check; 7] = [
    Check {
        name: "link-above-mount",
        known_as: "CVE-2021-30465",
        tries: "mount below a symbolic link to a folder of the host",
        run: link_above_mount,
    },
    Check {
        name: "link-as-mount",
        known_as: "CVE-2024-45310",
        tries: "mount on a symbolic link that leads to nothing yet, and so have it made on the host",
        run: link_as_mount,
    },
    Check {
        name: "dots-above-mount",
        known_as: "CVE-2021-30465",
        tries: "mount on a path that climbs",
        run: dots_above_mount,
    },
    Check {
        name: "link-exchanged",
        known_as: "CVE-2021-30465",
        tries: "exchange the directory for a link, over and over, while it is being mounted on",
        run: link_exchanged,
    },
    Check {
        name: "dev-is-link",
        known_as: "CVE-2026-41579, CVE-2026-47766",
        tries: "have /dev, with and without a mount on it, lead to a folder of the host",
        run: dev_is_link,
    },
    Check {
        name: "rootfs-is-link",
        known_as: "runtime-spec root.path",
        tries: "have the mounts follow links to the root's own parents",
        run: rootfs_is_link,
    },
    Check {
        name: "source-is-missing",
        known_as: "crun #2262",
        tries: "bind what is not there, or can't be reached: it must fail, and mount nothing else",
        run: source_is_missing,
    },
];

/// What a script looks for behind a mount that went where it should not.
fn in_place(path: &str) -> String {
    format!("[ -e {path}/mark ] && echo ESCAPED to the host by {path}; echo tried")
}

fn link_above_mount(case: &Case) -> Verdict {
    let mut bundle = case.bundle();
    symlink(&case.canary, bundle.rootfs("/jump")).expect("it is ours");
    bundle.mount("/jump/inside", "tmpfs", "tmpfs", &["nosuid"]);
    worst([judge(&case.run(bundle.script(&in_place("/jump")))), below_three_links(case)])
}

/// The same, one link behind another, the last one relative.
fn below_three_links(case: &Case) -> Verdict {
    let mut bundle = case.bundle();
    symlink("/b", bundle.rootfs("/a")).expect("it is ours");
    symlink("c/d", bundle.rootfs("/b")).expect("it is ours");
    fs::create_dir(bundle.rootfs("/c")).expect("it is ours");
    let climb = format!("../../../../../../../../../..{}", case.canary.display());
    symlink(climb, bundle.rootfs("/c/d")).expect("it is ours");
    bundle.mount("/a/inside", "bind", "/etc/passwd", &["bind", "ro"]);
    judge(&case.run(bundle.script(&in_place("/a"))))
}

fn link_as_mount(case: &Case) -> Verdict {
    worst(["/etc", "/etc/passwd"].map(|source| {
        let mut bundle = case.bundle();
        symlink(case.canary.join("new"), bundle.rootfs("/dangling")).expect("it is ours");
        bundle.mount("/dangling", "bind", source, &["rbind", "ro"]);
        judge(&case.run(bundle.script("echo tried")))
    }))
}

fn dots_above_mount(case: &Case) -> Verdict {
    let canary = case.canary.display();
    worst([format!("/../../../../../../../..{canary}/new"), format!("../../../../../../..{canary}/new")].map(|place| {
        let mut bundle = case.bundle();
        bundle.mount(&place, "tmpfs", "tmpfs", &["nosuid"]);
        judge(&case.run(bundle.script("echo tried")))
    }))
}

fn link_exchanged(case: &Case) -> Verdict {
    const STARTS: usize = 150;
    let mut bundle = case.bundle();
    let (place, trap) = (bundle.rootfs("/place"), bundle.rootfs("/trap"));
    fs::create_dir(&place).expect("it is ours");
    symlink(&case.canary, &trap).expect("it is ours");
    bundle.mount("/place/inside", "tmpfs", "tmpfs", &["nosuid"]);
    bundle.script("[ -e /place/mark ] && echo ESCAPED; [ -e /trap/mark ] && echo ESCAPED; echo tried");
    let enough = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !enough.load(Ordering::Relaxed) {
                let _ = renameat2(AT_FDCWD, &place, AT_FDCWD, &trap, RenameFlags::RENAME_EXCHANGE);
            }
        });
        let verdict = worst((0..STARTS).map(|_| once(case, &mut bundle)));
        enough.store(true, Ordering::Relaxed);
        verdict
    })
}

fn once(case: &Case, bundle: &mut Bundle) -> Verdict {
    let verdict = judge(&case.run(bundle));
    let clean = fs::read_dir(&case.canary).is_ok_and(|entries| entries.count() == 1);
    if clean { verdict } else { Unsafe("something was made in the host's folder".to_owned()) }
}

fn dev_is_link(case: &Case) -> Verdict {
    worst([false, true].map(|with_mounts| {
        let mut bundle = case.bundle();
        fs::remove_dir_all(bundle.rootfs("/dev")).expect("it is ours");
        symlink(&case.canary, bundle.rootfs("/dev")).expect("it is ours");
        if !with_mounts {
            bundle.unmount("/dev");
        }
        judge(&case.run(bundle.script("echo tried")))
    }))
}

fn rootfs_is_link(case: &Case) -> Verdict {
    let mut bundle = case.bundle();
    symlink("/", bundle.rootfs("/up")).expect("it is ours");
    symlink("..", bundle.rootfs("/above")).expect("it is ours");
    bundle.mount("/up/new", "tmpfs", "tmpfs", &[]).mount("/above/new2", "tmpfs", "tmpfs", &[]);
    let outside = [Path::new("/new").to_owned(), bundle.folder.join("new2")];
    if outside.iter().any(|place| place.exists()) {
        return Unsafe("what would show an escape is there already: remove /new".to_owned());
    }
    let output = case.run(bundle.script("[ -d /new ] && [ -d /new2 ] && echo tried"));
    // One that was made goes again: the host is not the runtime's to change, nor ours.
    if outside.iter().filter(|place| std::fs::remove_dir(place).is_ok()).count() > 0 {
        return Unsafe("a directory was made outside of the root filesystem".to_owned());
    }
    judge(&output)
}

fn source_is_missing(case: &Case) -> Verdict {
    let bundle = case.bundle();
    let (one, other) = (bundle.folder.join("one"), bundle.folder.join("other"));
    symlink(&one, &other).expect("it is ours");
    symlink(&other, &one).expect("it is ours");
    let looped = one.display().to_string();
    worst(["/nosuch/folder", &looped, "relative/nosuch"].map(|source| {
        let mut bundle = case.bundle();
        bundle.mount("/mnt", "bind", source, &["rbind", "ro"]);
        let output = case.run(bundle.script(&in_place("/mnt")));
        must_refuse(&output, format!("it ran, with nothing to bind from {source:?}"))
    }))
}
