//! Names that callers pass on from people: ids, cgroups, users.

use std::fs;
use std::path::Path;

use super::{Check, Safe, Unsafe, Verdict, judge, safe_if, worst};
use crate::case::{Case, text};

pub const CHECKS: [Check; 4] = [
    Check {
        name: "id-climbs",
        known_as: "runc validateID",
        tries: "be called ../x, a/b, . or four thousand letters, and have the state written elsewhere",
        run: id_climbs,
    },
    Check {
        name: "cgroup-climbs",
        known_as: "crun 1.28",
        tries: "be put into a cgroup beside or above one's own by a path with .. in it",
        run: cgroup_climbs,
    },
    Check {
        name: "exec-cgroup-climbs",
        known_as: "crun 1.28",
        tries: "the same by exec --cgroup",
        run: exec_cgroup_climbs,
    },
    Check {
        name: "exec-user-is-misread",
        known_as: "CVE-2026-30892",
        tries: "name the user so that it is taken for another, for root",
        run: exec_user_is_misread,
    },
];

fn id_climbs(case: &Case) -> Verdict {
    let mut bundle = case.bundle();
    case.place(bundle.script("echo ESCAPED: it runs"));
    let long = "x".repeat(4096);
    let ids = ["../x", "a/b", ".", "..", "", &long, "a\nb", "/etc/x", "a b", "x\u{1b}[31m"];
    worst(ids.map(|id| {
        let output = case.call(&["run", "--bundle", &text(&bundle.folder), "--", id]);
        let shown = &id[..id.len().min(12)];
        case.call(&["delete", "--force", "--", id]);
        match judge(&output) {
            Unsafe(why) => Unsafe(format!("{shown:?}: {why}")),
            verdict => verdict,
        }
    }))
}

/// A path may be tidied up, or refused; it must not lead out of the trees of cgroups.
fn cgroup_climbs(case: &Case) -> Verdict {
    let group = case.sandbox.parent.trim_start_matches('/');
    worst(["/../../", "../../", "/x/../../../"].map(|climb| {
        let mut bundle = case.bundle();
        bundle.set("/linux/cgroupsPath", format!("{climb}{group}"));
        let output = case.run(bundle.script("cat /proc/self/cgroup; echo tried"));
        let outside = ["/sys", "/sys/fs", "/sys/fs/cgroup"].map(|folder| Path::new(folder).join(group));
        let strays = outside.iter().filter(|path| path.exists() && !path.join("cgroup.procs").exists());
        let strays: Vec<_> = strays.inspect(|path| drop(fs::remove_dir_all(path))).collect();
        match () {
            () if !strays.is_empty() => Unsafe(format!("{strays:?} was made")),
            () if output.code == 0 && output.text.contains("/../") => Unsafe(format!("it is in {}", output.line())),
            () => judge(&output),
        }
    }))
}

fn exec_cgroup_climbs(case: &Case) -> Verdict {
    let container = match case.boot(case.bundle().args(&["sleep", "60"])) {
        Ok(container) => container,
        Err(output) => return Unsafe(output.text),
    };
    let own = format!("{}/{}", case.sandbox.parent, container.id);
    worst(["..", "../..", "/..", "a/../.."].map(|path| {
        let output = container.call("exec", &["--cgroup", path, "--", "cat", "/proc/self/cgroup"]);
        if output.code != 0 {
            return Safe(format!("refused: {}", output.line()));
        }
        // Trees in which the runtime makes no groups tell nothing.
        let mut groups = output.text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
        safe_if(groups.all(|group| group.starts_with(&own) || group == "/"), "inside its own", output.text.clone())
    }))
}

fn exec_user_is_misread(case: &Case) -> Verdict {
    let container = match case.boot(case.bundle().args(&["sleep", "60"])) {
        Ok(container) => container,
        Err(output) => return Unsafe(output.text),
    };
    // Each may be refused; if it is taken, then as these ids.
    let users = [
        ("1", "1 0"),
        ("1:2", "1 2"),
        ("1000:1000", "1000 1000"),
        ("0123", "123 0"),
        (" 1", "1 0"),
        ("-1", "refused"),
        ("4294967295", "refused"),
        ("4294967296", "refused"),
        ("1:", "1 0"),
        ("1:-1", "refused"),
        ("1:4294967296", "refused"),
        ("99999999999999999999", "refused"),
    ];
    worst(users.map(|(user, expected)| {
        let option = format!("--user={user}");
        let output = container.call("exec", &[&option, "--", "sh", "-c", "echo $(id -u) $(id -g)"]);
        let found = output.text.trim();
        match output.code {
            0 => safe_if(found == expected, "as named", format!("{user:?} runs as {found}, not {expected}")),
            _ => Safe(format!("refused: {}", output.line())),
        }
    }))
}
