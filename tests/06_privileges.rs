//! Step 6, handcuffs: what root may still do in a cell, and who it is outside.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use classroom::attacks::COLUMNS;
use classroom::lab::{FIGURES, LOUD, binary, not_run, workspace};
use classroom::run::{SEIZE_MOUNTED_NODES, SEIZE_NODES, assert_not_seized};
use classroom::world::sh;
use classroom::{Lab, Output, World, check, every_step, lab};
use kernel::sys::seccomp::{Flags, Instruction, set_filter};
use privileges::seccomp::{calls, first, listing};

const STEP: &str = "privileges";

/// Runs a command in a cell without a network, which these tests do not need.
fn run(lab: &Lab, arguments: &[&str]) -> Output {
    lab.run(STEP, &[&["--net", "none"], arguments].concat())
}

/// What came of an attack, and the reason.
fn attack(lab: &Lab, options: &[&str], name: &str) -> String {
    let mut words = vec![binary(STEP).display().to_string(), "--net".into(), "none".into()];
    words.extend(options.iter().map(|option| (*option).to_owned()));
    words.extend(["inmate", "attack", name].map(str::to_owned));
    lab.verdict_of(name, words)
}

/// Which slot of ids a cell has depends on what else runs on this machine: the same text as if it were the first.
fn as_in_the_first_slot(story: &str) -> String {
    let map = |line: &str| {
        let (begin, rest) = line.split_once("id_map\", \"0 ")?;
        let (first, count) = rest.split_once(" 65536\") = ")?;
        assert_eq!(count.trim().parse(), Ok(first.len() + 8), "{line}");
        Some(format!("{begin}id_map\", \"0 2013265920 65536\") = 18\n"))
    };
    story.lines().map(|line| map(line).unwrap_or_else(|| format!("{line}\n"))).collect()
}

/// The map of a cell's users as a cell prints it: the first id on the host, and how many.
fn first_and_count(map: &str) -> (u32, u32) {
    let numbers: Vec<u32> = map.split_whitespace().map(|number| number.parse().expect("a number")).collect();
    assert!(numbers.len() == 3 && numbers[0] == 0, "{map}");
    (numbers[1], numbers[2])
}

#[test]
fn explained() {
    lab!(World::Root, |lab| {
        let story = run(lab, &["--explain", "true"]).to_string();
        const PURPOSES: [&str; 13] = [
            "a channel",
            "who is who",
            "shown with",
            "send them to the child",
            "root of this user",
            "look into",
            "parent has sent",
            "keys of its own",
            "can ever have",
            "the user that",
            "that are left",
            "gets more rights",
            "a program of ours",
        ];
        const CALLS: [&str; 16] = [
            "clone3(",
            "socketpair(",
            "id_map",
            "ns/user",
            "IDMAP",
            "sendmsg(",
            "recvmsg(",
            "groups(",
            "setres",
            "keyctl(",
            "umask(",
            "CAP",
            "capset(",
            "PDEATHSIG",
            "SET_DUMPABLE",
            "NO_NEW_PRIVS",
        ];
        let shown = |line: &&str| {
            let word = PURPOSES.iter().chain(&CALLS).any(|word| line.contains(word));
            line.starts_with('$') || word || line.contains("die with the parent") || line.contains("seccomp(")
        };
        let story: String = story.lines().filter(shown).map(|line| format!("{line}\n")).collect();
        check!("privileges_explained", as_in_the_first_slot(&story));
    });
}

#[test]
fn report() {
    lab!(World::Root, |lab| {
        check!("privileges_report", run(lab, &["--hostname", "cell", "inmate", "report"]));
        let options =
            ["--user", "1000:100", "--cap-add", "net_raw", "--cap-drop", "mknod", "--ulimit", "nofile=64:128"];
        let output = run(lab, &[&options[..], &["--seccomp", "unconfined", "--init", "inmate", "report"]].concat());
        for line in [
            "process       pid 2, parent 1",
            "user          uid 1000, gid 100",
            "capabilities  effective 2000, permitted 2000, inheritable 2000, bounding a00425fb, ambient 2000",
            "keyring       empty",
            "no new privs  1",
        ] {
            assert!(output.text.replace("uid N, gid N", "uid 1000, gid 100").contains(line), "{line}: {output}");
        }
        assert_eq!(run(lab, &[&options[..], &["sh", "-c", "ulimit -n; ulimit -Hn"]].concat()).text, "64\n128\n");
    });
}

/// An ordinary user starts the same launcher, with no help from anybody.
#[test]
fn report_rootless() {
    lab!(World::User, |lab| {
        check!("privileges_report@rootless", run(lab, &["--hostname", "cell", "inmate", "report"]));
    });
}

#[test]
fn calls() {
    lab!(World::Root, |lab| {
        check!("privileges_calls", run(lab, &["inmate", "calls"]));
        check!("privileges_calls_unconfined", run(lab, &["--seccomp", "unconfined", "inmate", "calls"]));
    });
}

/// What a 32-bit program asks of `socketcall` lies in memory: the rule that refuses AF_ALG and AF_VSOCK to `socket` cannot see
/// it, as the chapter says. `native` shuts the door.
#[test]
fn sockets_of_32_bit_programs() {
    if cfg!(not(target_arch = "x86_64")) {
        return not_run("sockets_of_32_bit_programs", "only x86 has socketcall");
    }
    lab!(World::Root, |lab| {
        const KILLED: i32 = 128 + 31; // SIGSYS
        for family in ["38", "40", "1"] {
            let unconfined = run(lab, &["--seccomp", "unconfined", "inmate", "socket32", family]);
            if unconfined.code != 0 {
                return not_run("sockets_of_32_bit_programs", "this kernel runs no 32-bit programs");
            }
            let by_default = run(lab, &["inmate", "socket32", family]);
            assert_eq!((by_default.code, &by_default.text), (0, &unconfined.text), "the chapter says: a hole");
            let native = run(lab, &["--seccomp", "native", "inmate", "socket32", family]);
            assert_eq!(native.code, KILLED, "{family}: {native}");
            if family == "40" {
                let calls = run(lab, &["--seccomp", "native", "inmate", "calls"]).text;
                assert!(
                    calls.lines().any(|line| line.starts_with("socket(AF_VSOCK)") && line.ends_with("EPERM")),
                    "{calls}"
                );
            }
        }
        assert_eq!(run(lab, &["--seccomp", "native", "sh", "-c", "echo $((6 * 7))"]).text, "42\n");
    });
}

// Each attack, and which handcuff holds it.

/// Which options let an attack out again: all of these together, and no fewer. The chapter has this table, too.
const UNDONE: [(&str, &[&[&str]]); 6] = [
    ("mount", &[&["--userns", "host"], &["--cap-add", "SYS_ADMIN"]]),
    ("remount", &[&["--userns", "host"], &["--cap-add", "SYS_ADMIN"]]),
    ("file-handle", &[&["--userns", "host"], &["--cap-add", "DAC_READ_SEARCH"]]),
    ("tiocsti", &[&["--seccomp", "unconfined"]]),
    ("keyring", &[&["--no-new-keyring"], &["--seccomp", "unconfined"]]),
    ("setuid", &[&["--allow-new-privs"]]),
];

/// Take the handcuffs off that hold an attack, and it gets out again; leave one of them on, and it doesn't. (Harmless:
/// the attacks prove reach only.)
#[test]
fn without_handcuffs_the_attacks_work_again() {
    lab!(World::Root, |lab| {
        for (name, options) in UNDONE {
            let escaped = attack(lab, &options.concat(), name);
            if escaped.starts_with("n/a") {
                eprintln!("{LOUD}: {name}: {escaped}");
                continue;
            }
            assert!(escaped.starts_with("ESCAPED"), "{name} with {options:?}: {escaped}");
            for kept in 0..options.len() {
                let others = options.iter().enumerate().filter(|(at, _)| *at != kept).map(|(_, option)| *option);
                let others: Vec<&[&str]> = others.collect();
                let held = attack(lab, &others.concat(), name);
                assert!(held.starts_with("HELD"), "{name} with no more than {others:?}: {held}");
            }
        }
    });
}

/// What was held before is held with all of these handcuffs off: by the covers, the devices, the view of the groups.
#[test]
fn what_earlier_steps_hold_stays_held() {
    lab!(World::Root, |lab| {
        let off = ["--userns", "host", "--cap-add", "ALL", "--seccomp", "unconfined", "--no-new-keyring"];
        for name in ["mknod", "proc-sys", "release-agent", "chroot"] {
            let verdict = attack(lab, &off, name);
            assert!(verdict.starts_with("HELD") || verdict.starts_with("n/a"), "{name}: {verdict}");
        }
    });
}

/// One pair of handcuffs is enough for most attacks: with each of them taken off alone, the others still hold.
#[test]
fn one_handcuff_less_still_holds() {
    lab!(World::Root, |lab| {
        for options in [&["--userns", "host"][..], &["--cap-add", "SYS_ADMIN"], &["--seccomp", "unconfined"]] {
            for name in ["mount", "remount", "mknod", "file-handle", "proc-sys"] {
                let verdict = attack(lab, options, name);
                assert!(
                    verdict.starts_with("HELD") || verdict.starts_with("n/a"),
                    "{name} with {options:?}: {verdict}"
                );
            }
        }
    });
}

/// An ordinary user's cell holds every attack as well.
#[test]
fn attacks_rootless() {
    lab!(World::User, |lab| {
        let column = COLUMNS.into_iter().find(|column| column.name == STEP).unwrap();
        for name in ["mount", "remount", "mknod", "file-handle", "keyring", "setuid", "proc-sys", "chroot", "tiocsti"] {
            let verdict = lab.attack(column, name);
            assert!(["HELD", "n/a"].contains(&&*verdict.word), "{name}: {verdict:?}");
        }
    });
}

#[test]
fn a_setuid_program() {
    lab!(World::Root, |lab| {
        let program = lab.rootfs.join("bin/setuid-report");
        fs::copy(lab.rootfs.join("bin/inmate"), &program).unwrap();
        fs::set_permissions(&program, PermissionsExt::from_mode(0o4755)).unwrap();
        let script = "setuid-report report | grep '^user'";
        let with = run(lab, &["--user", "1000", "--allow-new-privs", "sh", "-c", script]);
        let without = run(lab, &["--user", "1000", "sh", "-c", script]);
        assert!(with.text.contains("uid 0"), "{with}");
        assert!(!without.text.contains("uid 0"), "{without}");
        check!("privileges_setuid", format!("{with}\n{without}"));
        fs::remove_file(program).unwrap();
    });
}

// Who is who.

#[test]
fn users() {
    lab!(World::Root, |lab| {
        let passwd = lab.rootfs.join("etc/passwd");
        let before = fs::read_to_string(&passwd).unwrap();
        fs::write(&passwd, format!("{before}web:x:33:33::/var/www:/bin/sh\n")).unwrap();
        let who = |user: &str| run(lab, &["--user", user, "sh", "-c", "echo $(id -u) $(id -g) $HOME"]).text;
        assert_eq!(who("0"), "0 0 /root\n");
        assert_eq!(who("web"), "33 33 /var/www\n");
        assert_eq!(who("33"), "33 33 /var/www\n");
        assert_eq!(who("web:7"), "33 7 /var/www\n");
        assert_eq!(who("4321"), "4321 0 /\n");
        let mut in_groups = Command::new("setpriv");
        in_groups.args(["--groups", "20,27"]).arg(binary(STEP)).args(["--net", "none"]);
        in_groups.args(["sh", "-c", "grep Groups /proc/self/status"]).env("CELLBLOCK_ROOTFS", &lab.rootfs);
        let groups = lab.output(String::new(), in_groups);
        assert_eq!(groups.text.trim(), "Groups:", "none of the caller's come along");
        fs::write(passwd, before).unwrap();
    });
}

/// What root of the cell writes into a volume belongs to the host's root; what a cell's user owns, to the same number.
#[test]
fn files_have_the_owners_that_one_expects() {
    lab!(World::Root, |lab| {
        let shared = lab.folder.join("shared");
        fs::create_dir(&shared).unwrap();
        fs::set_permissions(&shared, PermissionsExt::from_mode(0o777)).unwrap();
        let volume = format!("{}:/mnt", shared.display());
        let touch = |options: &[&str], name: &str| {
            let script = format!("touch /mnt/{name}; stat -c '%u:%g' /mnt/{name}");
            let output = run(lab, &[options, &["-v", &volume, "sh", "-c", &script]].concat());
            let file = shared.join(name).metadata().unwrap();
            (output.text.trim().to_owned(), format!("{}:{}", file.uid(), file.gid()))
        };
        let equal = |owner: &str| (owner.to_owned(), owner.to_owned());
        assert_eq!(touch(&[], "by-root"), equal("0:0"));
        assert_eq!(touch(&["--user", "1000:100"], "by-user"), equal("1000:100"));
        assert_eq!(touch(&["--userns", "host"], "by-the-hosts-root"), equal("0:0"));
        // A folder that belongs to the cell's ids already is left as it is.
        let map = ["--userns", "0:2000000000:65536"];
        std::os::unix::fs::chown(&shared, Some(2_000_000_000), Some(2_000_000_000)).unwrap();
        assert_eq!(touch(&map, "theirs"), ("0:0".to_owned(), "2000000000:2000000000".to_owned()));
        fs::remove_dir_all(shared).unwrap();
    });
}

/// A line as one types it, in which `privileges` is the launcher; in the lab's folder, whose `target/tmp` is the reader's.
fn typed(lab: &Lab, line: &str) -> Output {
    let mut command = Command::new("sh");
    let launcher = binary(STEP);
    command.args(["-c", &line.replace("cargo run -q -p privileges --", &format!("'{}'", launcher.display()))]);
    command.current_dir(&lab.folder).env("CELLBLOCK_ROOTFS", &lab.rootfs).stdin(std::process::Stdio::null());
    lab.output(format!("$ {line}"), command)
}

const OWNERS: &str = "cargo run -q -p privileges -- --net none -v \"$PWD/target/tmp:/mnt\"";

/// What the book shows of owners: the same file outside, in root's cell, and what is written in there, outside again.
#[test]
fn owners_shown() {
    lab!(World::Root, |lab| {
        fs::create_dir_all(lab.folder.join("target/tmp")).unwrap();
        let lines = [
            "echo hello >target/tmp/letter".to_owned(),
            "stat -c %u:%g target/tmp/letter".to_owned(),
            format!("{OWNERS} stat -c %u:%g /mnt/letter"),
            format!("{OWNERS} touch /mnt/answer"),
            "stat -c %u:%g target/tmp/answer".to_owned(),
        ];
        check!("privileges_owners", lines.map(|line| typed(lab, &line).to_string()).concat());
        fs::remove_dir_all(lab.folder.join("target")).unwrap();
    });
}

/// The same without the mount that shows other owners, for an ordinary user cannot make one: root's file is nobody's.
#[test]
fn owners_shown_rootless() {
    lab!(World::User, |lab| {
        let lines = [
            "stat -c %u:%g /etc/passwd",
            "cargo run -q -p privileges -- -v /etc:/mnt:ro stat -c %u:%g /mnt/passwd",
            "cargo run -q -p privileges -- -v /etc:/mnt:ro cat /mnt/shadow",
        ];
        check!("privileges_owners@rootless", lines.map(|line| typed(lab, line).to_string()).concat());
    });
}

/// Root in the cell, somebody without a name outside.
#[test]
fn nobody_outside() {
    lab!(World::Root, |lab| {
        let mut cell = lab.start(STEP, &["--net", "none", "sleep", "77"]);
        let sleeper = "ps -eo uid,args | grep '^ *[0-9]* sleep 77'";
        let seen = (0..100).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            Some(typed(lab, sleeper)).filter(|seen| seen.code == 0)
        });
        cell.kill().unwrap();
        cell.wait().unwrap();
        let seen = seen.expect("it sleeps").text;
        let owner: u32 = seen.trim().strip_suffix(" sleep 77").and_then(|owner| owner.parse().ok()).expect(&seen);
        assert!(owner > 100_000, "{owner} may be a user of this machine");
        lab.run(STEP, &["--prune"]);
    });
}

#[test]
fn a_map_of_ones_own() {
    lab!(World::Root, |lab| {
        let map =
            run(lab, &["--userns", "0:2000000000:10,10:2000100000:1", "--user", "10", "cat", "/proc/self/uid_map"]);
        let numbers: Vec<&str> = map.text.split_whitespace().collect();
        assert_eq!(numbers, ["0", "2000000000", "10", "10", "2000100000", "1"]);
        let outside = run(lab, &["--userns", "0:2000000000:10", "--user", "10", "true"]);
        assert!(outside.code == 125 && outside.text.contains("no such id"), "{outside}");
    });
}

/// Files over the machine's own /etc/subuid and /etc/subgid, in the lab's mount namespace only.
fn set_aside(lab: &Lab, users: &str, groups: &str) {
    for (place, text) in [("/etc/subuid", users), ("/etc/subgid", groups)] {
        let file = lab.folder.join(Path::new(place).file_name().unwrap());
        fs::write(&file, text).unwrap();
        if !Path::new(place).exists() {
            fs::write(place, "").unwrap();
        }
        sh(&format!("mount --bind '{}' {place}", file.display()));
    }
}

fn forget_set_aside(lab: &Lab) {
    for name in ["subuid", "subgid"] {
        sh(&format!("umount /etc/{name}"));
        fs::remove_file(lab.folder.join(name)).unwrap();
    }
}

const SHOW_MAPS: &[&str] = &["sh", "-c", "cat /proc/self/uid_map /proc/self/gid_map; exec sleep 60"];

/// Starts a cell that lives on, and reads where its users and groups lie.
fn cell_with_maps(lab: &Lab, options: &[&str]) -> (std::process::Child, u32, u32) {
    let words = [&["--net", "none"], options, SHOW_MAPS].concat();
    let mut command = lab.launcher(STEP, &words);
    let mut cell = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(cell.stdout.take().unwrap()));
    let mut first = || first_and_count(&lines.next().expect("two lines").unwrap()).0;
    let (users, groups) = (first(), first());
    (cell, users, groups)
}

fn end(mut cell: std::process::Child) {
    cell.kill().unwrap();
    cell.wait().unwrap();
}

/// Ids that no user has, and no other cell: also when the launcher of one was killed just now.
#[test]
fn two_cells_never_share_an_id() {
    lab!(World::Root, |lab| {
        set_aside(lab, "alice:2013265920:65536\n", "bob:2013331456:65536\n");
        let cells: Vec<_> = (0..3).map(|_| cell_with_maps(lab, &[])).collect();
        let mut firsts: Vec<u32> = cells.iter().map(|(_, users, _)| *users).collect();
        assert!(cells.iter().all(|(_, users, groups)| users == groups), "{firsts:?}");
        assert!(firsts.iter().all(|first| *first >= 2_013_265_920 + 2 * 65_536), "another user's: {firsts:?}");
        firsts.sort_unstable();
        assert!(firsts.windows(2).all(|pair| pair[1] - pair[0] >= 65_536), "{firsts:?}");
        let typed = run(lab, &["--userns", &format!("0:{}:1", firsts[1] + 65_535), "true"]);
        assert!(typed.code == 125 && typed.text.contains("promised them alone"), "{typed}");
        cells.into_iter().for_each(|(cell, ..)| end(cell));
        for _ in 0..20 {
            let (cell, before, _) = cell_with_maps(lab, &[]);
            let process = fs::read_to_string(format!("/proc/{0}/task/{0}/children", cell.id())).unwrap();
            let pid: i32 = process.trim().parse().unwrap();
            end(cell);
            let (cell, after, _) = cell_with_maps(lab, &[]);
            let lives = kernel::sys::clone::begin_of(pid).is_some();
            assert!(!lives || before != after, "{pid} lives, and another cell has its ids: {before}");
            end(cell);
        }
        forget_set_aside(lab);
    });
}

/// What is set aside for `cellblock` is taken, and nothing else; a range that is another user's, too, is refused.
#[test]
fn ids_set_aside_for_the_cells() {
    lab!(World::Root, |lab| {
        set_aside(lab, "alice:100000:65536\ncellblock:1990000000:131072\n", "cellblock:1995000000:131072\n");
        let (one, users, groups) = cell_with_maps(lab, &[]);
        assert_eq!((users, groups), (1_990_000_000, 1_995_000_000));
        let (two, users, groups) = cell_with_maps(lab, &[]);
        assert_eq!((users, groups), (1_990_065_536, 1_995_065_536));
        let third = run(lab, &["true"]);
        assert!(third.code == 125 && third.text.contains("each of 2 slots"), "{third}");
        let typed = run(lab, &["--userns", "0:165535:10", "true"]);
        assert!(typed.code == 125 && typed.text.contains("set aside for alice"), "{typed}");
        end(one);
        // Its launcher was killed: its slot is free again as soon as its process has ended.
        let is_free = |_| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            run(lab, &["true"]).code == 0
        };
        assert!((0..100).any(is_free), "its slot is free again");
        end(two);
        fs::write("/etc/subuid", "alice:1990065536:65536\ncellblock:1990000000:131072\n").unwrap();
        let shared = run(lab, &["true"]);
        assert!(shared.code == 125 && shared.text.contains("alice") && shared.text.contains("hint: "), "{shared}");
        fs::write("/etc/subuid", "").unwrap();
        let half = run(lab, &["true"]);
        assert!(half.code == 125 && half.text.contains("/etc/subuid does not"), "{half}");
        forget_set_aside(lab);
    });
}

/// Root of this cell is the host's root by number, and the nodes in its /dev are the host's.
#[test]
fn the_hosts_device_nodes_cannot_be_changed() {
    lab!(World::Root, |lab| {
        for map in ["0:0:65536", "auto"] {
            let cell = lab.launcher(STEP, &["--net", "none", "--userns", map, "sh", "-c", SEIZE_NODES]);
            assert_not_seized(&lab.output(format!("# --userns {map}"), lab.on_own_dev(&cell)));
            let may_mount = ["--cap-add", "SYS_ADMIN", "--seccomp", "unconfined"];
            let words =
                [&["--net", "none", "--userns", map], &may_mount[..], &["sh", "-c", SEIZE_MOUNTED_NODES]].concat();
            let cell = lab.launcher(STEP, &words);
            assert_not_seized(&lab.output(format!("# --userns {map}, and it may mount"), lab.on_own_dev(&cell)));
        }
    });
}

/// An ordinary user, known to this machine, with ids set aside for him: as a fresh account is.
struct Account {
    files: Vec<PathBuf>,
}

impl Account {
    /// The files lie over the machine's own, in the lab's mount namespace only.
    fn new(lab: &Lab, ids_set_aside: bool) -> Account {
        let ids = if ids_set_aside { "learner:200000:65536\n" } else { "" };
        let passwd = fs::read_to_string("/etc/passwd").unwrap();
        let files = [
            ("/etc/passwd", format!("{passwd}learner:x:4242:4242::/tmp:/bin/sh\n")),
            ("/etc/subuid", ids.to_owned()),
            ("/etc/subgid", ids.to_owned()),
        ];
        let places = files.iter().map(|(place, text)| {
            let file = lab.folder.join(Path::new(place).file_name().unwrap());
            fs::write(&file, text).unwrap();
            if !Path::new(place).exists() {
                fs::write(place, "").unwrap();
            }
            sh(&format!("mount --bind '{}' {place}", file.display()));
            PathBuf::from(place)
        });
        let account = Account { files: places.collect() };
        sh(&format!("chown -R 4242:4242 '{}'", lab.rootfs.display()));
        account
    }

    fn run(&self, lab: &Lab, arguments: &[&str]) -> Output {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "4242", "--regid", "4242", "--clear-groups"]).arg(binary(STEP)).args(arguments);
        command.env("CELLBLOCK_ROOTFS", &lab.rootfs).stdin(std::process::Stdio::null());
        lab.output(String::new(), command)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.files.iter().for_each(|file| sh(&format!("umount {0}", file.display())));
    }
}

#[test]
fn an_ordinary_user() {
    lab!(World::Root, |lab| {
        let script =
            "echo $(id -u) $(cat /proc/self/setgroups) $(cat /proc/self/uid_map); touch /tmp/mine && echo writes";
        let account = Account::new(lab, false);
        let alone = account.run(lab, &["sh", "-c", script]);
        assert_eq!(alone.text, "0 deny 0 4242 1\nwrites\n", "{alone}");
        assert!(account.run(lab, &["--user", "1", "true"]).text.contains("no such id"));
        assert!(account.run(lab, &["--userns", "host", "true"]).text.contains("hint: --userns auto"));
        assert_eq!(account.run(lab, &["--net", "host", "true"]).code, 0);
        assert!(account.run(lab, &["--net", "bridge", "true"]).code == 125);
        drop(account);
        if !Path::new("/usr/bin/newuidmap").exists() {
            return not_run("an_ordinary_user", "newuidmap is not installed: scripts/bootstrap --with rootless");
        }
        let account = Account::new(lab, true);
        let lent = account.run(lab, &["sh", "-c", script]);
        assert_eq!(lent.text, "0 allow 0 4242 1 1 200000 65536\nwrites\n", "{lent}");
        assert_eq!(account.run(lab, &["--user", "1000:1000", "sh", "-c", "id -u; id -g"]).text, "1000\n1000\n");
        let file = lab.rootfs.join("tmp/mine");
        assert_eq!(file.metadata().unwrap().uid(), 4242);
        fs::remove_file(file).unwrap();
        drop(account);
        lab.restore();
        ["passwd", "subuid", "subgid"].iter().for_each(|name| fs::remove_file(lab.folder.join(name)).unwrap());
    });
}

// Programs must still work.

#[test]
fn threads_and_the_shell() {
    lab!(World::Root, |lab| {
        assert_eq!(run(lab, &["inmate", "threads"]).text, "four threads have counted to 30\n");
        assert_eq!(
            run(lab, &["--init", "sh", "-c", "seq 3 | while read n; do (echo $n); done | tr '\\n' ' '"]).text,
            "1 2 3\n"
        );
    });
}

/// Debian's programs under the default filter.
#[test]
fn debian() {
    lab!(World::Root, |lab| {
        let debian = workspace().join("target/rootfs/debian");
        if !["python3", "ssh"].iter().all(|program| debian.join("usr/bin").join(program).exists()) {
            return not_run(
                "debian",
                "no python3 or ssh in target/rootfs/debian: scripts/rootfs debian --with python3-minimal,openssh-client",
            );
        }
        let threads = "import threading, subprocess, sys, time\n\
                       threads = [threading.Thread(target=time.sleep, args=(0.01,)) for _ in range(8)]\n\
                       [thread.start() for thread in threads]; [thread.join() for thread in threads]\n\
                       sys.stdout.write(subprocess.run(['echo', 'a child of python'], capture_output=True, text=True).stdout)";
        for (command, expected) in [
            (&["apt-get", "--version"][..], "apt "),
            (&["python3", "-c", threads], "a child of python"),
            (&["bash", "-c", "diff <(echo 1) <(echo 1) && echo same"], "same"),
            (&["ssh", "-V"], "OpenSSH"),
            (&["dpkg", "--print-architecture"], "64"),
        ] {
            let options = ["--rootfs", debian.to_str().unwrap(), "--read-only", "--tmpfs", "/tmp"];
            let output = run(lab, &[&options[..], command].concat());
            assert!(output.code == 0 && output.text.contains(expected), "{command:?}: {output}");
        }
    });
}

// What every launcher must show.

#[test]
fn exit_codes() {
    lab!(World::Root, |lab| {
        lab.run(STEP, &["true"]); // says that forwarding was off
        every_step::exit_codes(lab, STEP, &["--init"]);
        std::thread::sleep(std::time::Duration::from_millis(300)); // killed cells' networks go in the background
        lab.run(STEP, &["--prune"]);
    });
}

#[test]
fn no_descriptor_leads_out() {
    lab!(World::User, |lab| every_step::no_descriptor_leads_out(lab, STEP));
}

#[test]
fn started_anyhow() {
    lab!(World::User, |lab| every_step::started_anyhow(lab, STEP));
}

#[test]
fn killed_at_every_moment() {
    lab!(World::Root, |lab| {
        every_step::killed_at_every_moment(lab, STEP, &["--net", "none"]);
        every_step::killed_at_every_moment(lab, STEP, &["--net", "none", "--user", "1000"]); // forgotten with root
        lab.run(STEP, &["--prune"]);
    });
}

/// With an init of our own in it, a cell must not lead to the launcher's file (CVE-2019-5736), nor be looked into.
#[test]
fn the_init_is_shut() {
    lab!(World::Root, |lab| {
        let script =
            "readlink /proc/1/exe || echo shut; readlink /proc/1/fd/0 || echo shut; grep Seccomp: /proc/1/status";
        // With the host's user namespace, no change of user shuts it: there it is our own line that does.
        for options in [&["--init"][..], &["--init", "--userns", "host"]] {
            let output = run(lab, &[options, &["sh", "-c", script]].concat());
            assert_eq!(output.text.matches("shut").count(), 2, "{options:?}: {output}");
            assert!(output.text.contains("Seccomp:\t2"), "{options:?}: {output}");
        }
    });
}

#[test]
fn failures() {
    lab!(World::Root, |lab| {
        let put = |name: &str, text: &str| {
            let file = lab.folder.join(name);
            fs::write(&file, text).unwrap();
            file.display().to_string()
        };
        let (no_json, no_action) = (put("no-json", "{"), put("no-action", r#"{"defaultAction": "SCMP_ACT_FORBID"}"#));
        let foreign = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": ["arm_fadvise64_64", "no_such_call"], "action": "SCMP_ACT_ERRNO"}]}"#;
        let foreign = put("foreign", foreign);
        let wrong: &[&[&str]] = &[
            &["--user", "nosuch", "true"],
            &["--user", "", "true"],
            &["--user", "70000", "true"],
            &["--userns", "nosuch", "true"],
            &["--userns", "1:100000:10", "true"],
            &["--userns", "0:100000:10,5:200000:10", "true"],
            &["--userns", "0:4294967295:2", "true"],
            &["--cap-add", "nosuch", "true"],
            &["--cap-drop", "CAP_NOSUCH", "true"],
            &["--seccomp", "/nosuch", "true"],
            &["--seccomp", &no_json, "true"],
            &["--seccomp", &no_action, "true"],
            &["--ulimit", "nosuch=1", "true"],
            &["--ulimit", "nofile=2:1", "true"],
            &["--umask", "999", "true"],
        ];
        let said: String = wrong.iter().map(|arguments| format!("{}\n", run(lab, arguments))).collect();
        check!("privileges_failures", lab.normalise(&said));
        // Calls of other machines, or that nobody knows, are passed over, as runc does: a profile is written for many.
        assert_eq!(run(lab, &["--seccomp", &foreign, "true"]).code, 0);
        ["no-json", "no-action", "foreign"].iter().for_each(|name| fs::remove_file(lab.folder.join(name)).unwrap());
    });
}

#[test]
fn the_cost() {
    lab!(World::Root, |lab| {
        let time = |launcher: &str| {
            let begin = Instant::now();
            assert_eq!(lab.run(launcher, &["--net", "none", "true"]).code, 0);
            begin.elapsed().as_secs_f64() * 1000.0
        };
        let mut times: [Vec<f64>; 2] = [Vec::new(), Vec::new()];
        for _ in 0..30 {
            times[0].push(time("cgroups"));
            times[1].push(time(STEP));
        }
        let [rations, handcuffs] = times.map(|mut all| {
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        });
        eprintln!(
            "{FIGURES}: a launch of step 5 {rations:.1} ms, of step 6 {handcuffs:.1} ms, ratio {:.2} (medians, not optimised)",
            handcuffs / rations
        );
        assert!(handcuffs < 4.0 * rations, "{handcuffs} against {rations}");
    });
}

fn first_filter() -> [Instruction; 7] {
    let machine = &calls::of_this_machine()[0];
    first::refuse(machine, machine.number("chdir").expect("every machine has it"))
}

#[test]
fn the_first_filter_as_the_chapter_shows_it() {
    check!("privileges_first_filter", listing(&first_filter()));
}

#[test]
fn the_first_filter_in_force() {
    lab!(World::User, |_| {
        let filter = first_filter();
        let refused = || {
            std::env::set_current_dir("/").expect("there is no filter yet");
            kernel::sys::privilege::no_new_privileges().unwrap();
            set_filter(&filter, Flags::default()).unwrap();
            std::env::set_current_dir("/").expect_err("it is refused").raw_os_error()
        };
        // A filter is for the thread that sets it, and for all that this thread starts.
        assert_eq!(std::thread::scope(|scope| scope.spawn(refused).join().unwrap()), Some(1));
        std::env::set_current_dir("/").expect("another thread has no filter");
    });
}

/// Another user makes a keyring of the name that a launcher could take, open to all, and looks into it while the cell runs.
#[test]
fn a_keyring_cannot_be_prepared() {
    lab!(World::Root, |lab| {
        if inmate::sys::session_keys().is_err() {
            return not_run("a_keyring_cannot_be_prepared", "this kernel keeps no keys");
        }
        for name in [c"cell", c"cellblock", c"_ses"] {
            inmate::sys::join_session_keyring(Some(name)).expect("keys are kept here");
            inmate::sys::open_session_keyring().expect("it is ours");
            inmate::sys::fill_session_keyring(c"planted").expect("it is ours");
            let options = ["--userns", "host", "--seccomp", "unconfined"];
            let output = run(lab, &[&options[..], &["inmate", "report"]].concat());
            assert!(output.text.contains("keyring       empty"), "{name:?}: {output}");
        }
    });
}
