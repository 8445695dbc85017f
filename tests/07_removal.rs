//! Step 7, removal: a name and a number are no identity. Whatever the root, the environment and the namespaces, nothing goes that
//! is not ours; and what is ours can always be removed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cellblock::groups::Cgroup;
use cgroups::Directories;
use classroom::desk::{runtime, wait_until};
use classroom::groups::directories;
use classroom::lab::binary;
use classroom::{Desk, Lab, Output, World, lab};
use serde_json::json;

/// What it says and how it ends, in time.
fn say(lab: &Lab, root: &Path, words: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", "30"]).arg(binary("cellblock")).arg("--root").arg(root).args(words);
    lab.output(format!("# cellblock {}", words.join(" ")), command)
}

/// All that is below a directory, with what the files say.
fn tree(directory: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            all.extend(tree(&path));
        }
        let text = if kind.is_file() { fs::read_to_string(&path).unwrap() } else { format!("{kind:?}") };
        all.insert(path, text);
    }
    all
}

/// A process that belongs to no container. It is ended when dropped, and must live until then.
struct Stranger(Child);

impl Stranger {
    fn new() -> Stranger {
        Stranger(Command::new("sleep").arg("1000").spawn().unwrap())
    }

    /// One in a group of its own, or in that of a container.
    fn in_group(group: &str) -> Stranger {
        let stranger = Stranger::new();
        for directory in directories(group) {
            fs::write(directory.join("cgroup.procs"), stranger.0.id().to_string()).unwrap();
        }
        stranger
    }

    fn lives(&mut self, after: &str) {
        assert_eq!(self.0.try_wait().unwrap(), None, "{after} has ended a stranger");
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Makes the directories of a group as an administrator would.
fn make_group(path: &str) -> Cgroup {
    let made = Cgroup::make(path, &["pids"]).unwrap();
    made.directories.all().for_each(kernel::sys::group_owner::clear);
    made
}

/// Directories of other runtimes and of a user, some with files that are called like ours.
fn fill_with_others(root: &Path, world: World) {
    let write = |file: &str, text: &str| {
        let file = root.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    };
    write("src/main.rs", "fn main() {}");
    write("Documents/letters/one.txt", "dear");
    write("app/state.json", "{\"id\": \"app\", \"window\": 1}");
    write("app/config.json", "{\"ociVersion\": \"1.0.2\"}");
    write(
        "of-runc/state.json",
        "{\"id\":\"of-runc\",\"init_process_pid\":1,\"init_process_start\":1,\"created\":\"now\"}",
    );
    write("of-crun/status", "{\"pid\": 1}");
    write("half-of-crun/config.json", "{}");
    write("theirs/.cellblock", "0123456789abcdef");
    write("theirs/state.json", "{}");
    write("state.json", "{}");
    write("config.json", "{}");
    if world == World::Root {
        chown(root.join("theirs"), Some(12345), Some(12345)).unwrap();
    } else {
        fs::remove_dir_all(root.join("theirs")).unwrap(); // another user's cannot be made here
    }
    fs::create_dir(root.join("empty")).unwrap();
    symlink("Documents", root.join("link")).unwrap();
}

/// Another runtime's root, a user's home: what is not ours is ignored by every verb, and never removed.
#[test]
fn entries_that_are_not_ours() {
    lab!(World::Root, others_stay);
}

#[test]
fn entries_that_are_not_ours_as_a_user() {
    lab!(World::Rootless, others_stay);
}

fn others_stay(lab: &Lab) {
    let desk = Desk::new(lab, "entries");
    fs::create_dir(&desk.root).unwrap();
    fs::set_permissions(&desk.root, fs::Permissions::from_mode(0o755)).unwrap();
    fill_with_others(&desk.root, lab.world);
    let before = tree(&desk.root);
    let names: Vec<String> =
        fs::read_dir(&desk.root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    for id in &names {
        for verb in [&["state"][..], &["kill"], &["delete"], &["start"], &["ps"], &["pause"], &["update"]] {
            desk.fail(&[verb, &[id.as_str()]].concat(), "does not exist");
        }
        desk.succeed(&["delete", "--force", id]);
        desk.fail(&["create", "--bundle", "target/bundle", id], "already exists");
        assert_eq!(tree(&desk.root), before, "{id}");
    }
    assert_eq!(desk.succeed(&["list", "--quiet"]), "");
    assert_eq!(desk.succeed(&["prune"]), "");
    assert_eq!(tree(&desk.root), before);
    if lab.world == World::Root {
        ours_is_found(&desk);
        assert_eq!(tree(&desk.root), before);
    }
    fs::remove_dir_all(&desk.root).unwrap();
}

/// Among the entries of others, a container of ours is found and removed, but not with a file that is not ours in it.
fn ours_is_found(desk: &Desk) {
    desk.start("sleep 1000");
    assert_eq!(desk.succeed(&["list", "--quiet"]), "one\n");
    desk.kill();
    fs::write(desk.root.join("one/notes.txt"), "of an administrator").unwrap();
    desk.fail(&["delete", "--force", "one"], "\"notes.txt\" in it is not ours");
    fs::remove_file(desk.root.join("one/notes.txt")).unwrap();
    desk.succeed(&["prune"]);
}

/// What lies in a directory that others own or may write to decides nothing: not what is killed, and no hook is run.
#[test]
fn roots_that_are_not_ours() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "roots");
        desk.start("sleep 1000");
        let pid = desk.state()["pid"].as_i64().unwrap();
        for (owner, mode, says) in
            [(12345, 0o700, "belongs to another user"), (0, 0o770, "others may write"), (0, 0o777, "others may write")]
        {
            chown(&desk.root, Some(owner), None).unwrap();
            fs::set_permissions(&desk.root, fs::Permissions::from_mode(mode)).unwrap();
            let words: [&[&str]; 6] = [
                &["prune"],
                &["list"],
                &["delete", "--force", "one"],
                &["kill", "one"],
                &["state", "one"],
                &["start", "one"],
            ];
            words.iter().for_each(|words| desk.fail(words, says));
        }
        chown(&desk.root, Some(0), None).unwrap();
        fs::set_permissions(&desk.root, fs::Permissions::from_mode(0o700)).unwrap();
        let link = lab.folder.join("link");
        symlink(&desk.root, &link).unwrap();
        for (root, says) in
            [(link.as_path(), "this is none"), (Path::new("/etc/passwd"), "this is none"), (Path::new(""), "--root")]
        {
            let said = say(lab, root, &["prune"]);
            assert!(said.code == 125 && said.text.contains(says), "{root:?}: {said}");
        }
        fs::remove_file(link).unwrap();
        assert!(Path::new(&format!("/proc/{pid}/exe")).exists());
        desk.succeed(&["delete", "--force", "one"]);
    });
}

/// An environment variable that is set, but empty or relative: `cellblock` below the working directory may be a checkout.
#[test]
fn a_runtime_directory_that_is_none() {
    lab!(World::User, |lab| {
        let here = lab.folder.join("here");
        fs::create_dir_all(here.join("cellblock/src")).unwrap();
        fs::create_dir_all(here.join("cellblock/empty")).unwrap();
        fs::write(here.join("cellblock/src/main.rs"), "fn main() {}").unwrap();
        let before = tree(&here);
        for value in ["", ".", "./", "here", "../here"] {
            for words in [&["prune"][..], &["list"], &["delete", "--force", "src"], &["delete", "--force", "empty"]] {
                let mut command = Command::new(binary("cellblock"));
                command.args(words).current_dir(&here).env("XDG_RUNTIME_DIR", value);
                let said = lab.output(format!("# XDG_RUNTIME_DIR={value} cellblock {}", words.join(" ")), command);
                assert_eq!(tree(&here), before, "{said}");
            }
        }
        // Nor is one that is another user's.
        let mut command = Command::new(binary("cellblock"));
        command.args(["delete", "--force", "one"]).env("XDG_RUNTIME_DIR", "/proc/1");
        lab.output(String::new(), command);
        fs::remove_dir_all(here).unwrap();
    });
}

/// A container that has stopped, and another one in the group of the same path: below another root, and made by hand.
#[test]
fn the_group_of_another() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "group");
        let other = lab.folder.join("other");
        let group = format!("{}/one", desk.parent);
        let bundle = desk.bundle.display().to_string();
        for by_hand in [false, true] {
            desk.start("sleep 1000");
            desk.kill();
            let mut stranger = if by_hand {
                directories(&group).into_iter().for_each(|directory| fs::remove_dir(directory).unwrap());
                make_group(&group);
                Some(Stranger::in_group(&group))
            } else {
                let made = runtime(&other, &["run", "--detach", "--bundle", &bundle, "two"]).status().unwrap();
                assert!(made.success());
                None
            };
            let mut is_well = |after: &str| match &mut stranger {
                Some(stranger) => stranger.lives(after),
                None => {
                    assert!(say(lab, &other, &["state", "two"]).text.contains("\"running\""), "{after} has ended it")
                }
            };
            let limit =
                directories(&group).iter().map(|tree| tree.join("pids.max")).find(|file| file.exists()).unwrap();
            for words in [
                &["kill", "--all", "one", "KILL"][..],
                &["update", "--pids-limit", "7", "one"],
                &["pause", "one"],
                &["events", "--stats", "one"],
                &["exec", "one", "true"],
            ] {
                let said = desk.run(words);
                assert_eq!(said.code, 125, "{said}");
                is_well(words[0]);
            }
            assert_ne!(fs::read_to_string(limit).unwrap(), "7\n");
            desk.succeed(if by_hand { &["prune"] } else { &["delete", "one"] });
            is_well("removal");
            desk.fail(&["create", "--bundle", "target/bundle", "one"], "is there already");
            match stranger.take() {
                Some(stranger) => {
                    drop(stranger);
                    wait_until("it is empty", || {
                        directories(&group).into_iter().all(|directory| fs::remove_dir(directory).is_ok())
                    });
                }
                None => assert_eq!(say(lab, &other, &["delete", "--force", "two"]).code, 0),
            }
        }
        fs::remove_dir_all(other).unwrap();
    });
}

/// Processes that were moved into the group that a stopped container has left empty, as another runtime would.
#[test]
fn strangers_in_its_group() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "strangers");
        let group = format!("{}/one", desk.parent);
        desk.start("sleep 1000");
        desk.kill();
        let mut stranger = Stranger::in_group(&group);
        for words in [&["delete", "one"][..], &["prune"], &["kill", "--all", "one", "KILL"]] {
            desk.fail(words, "in its group are others' processes");
            stranger.lives(words[0]);
        }
        let said = desk.succeed(&["delete", "--force", "one"]);
        assert!(said.contains("the group stays as it is"), "{said}");
        stranger.lives("delete --force");
        assert!(!desk.root.join("one").exists());
        drop(stranger);
        wait_until("its group is empty", || {
            directories(&group).into_iter().all(|directory| fs::remove_dir(directory).is_ok())
        });
        // Without a pid namespace a container's own processes can outlive its first: they are ended.
        desk.configure(|config| {
            config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "pid");
            config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/proc");
            config["linux"]["maskedPaths"] = json!([]);
            config["linux"]["readonlyPaths"] = json!([]);
        });
        desk.start("sleep 1000 & exec sleep 1000");
        desk.succeed(&["kill", "one", "TERM"]); // KILL would be for both
        desk.wait_for("stopped");
        let left: Vec<i32> = serde_json::from_str(desk.succeed(&["ps", "--format", "json", "one"]).trim()).unwrap();
        assert_eq!(left.len(), 1, "{left:?}");
        desk.succeed(&["delete", "one"]);
    });
}

/// A record that cannot be read names a group by its path alone: another's processes are in it.
#[test]
fn a_damaged_record_and_the_group_of_another() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "damaged");
        let group = format!("{}/one", desk.parent);
        desk.start("sleep 1000");
        desk.kill();
        fs::write(desk.root.join("one/state.json"), "{").unwrap();
        directories(&group).into_iter().for_each(|directory| fs::remove_dir(directory).unwrap());
        let theirs = make_group(&group);
        let mut stranger = Stranger::in_group(&group);
        desk.succeed(&["delete", "--force", "one"]);
        stranger.lives("delete --force");
        assert!(!directories(&group).is_empty());
        drop(stranger);
        wait_until("it is empty", || theirs.remove().is_ok());
    });
}

/// What other people have on the machine, some of it called like ours: groups, one with a process in it, links, firewall tables.
fn things_of_others(parent: &str) -> Stranger {
    for group in [parent.to_owned(), format!("{parent}/cell-deadbeef"), format!("{parent}/empty")] {
        for directory in directories("/") {
            fs::create_dir(format!("{}{group}", directory.display())).unwrap();
        }
    }
    let script = "ip link add br-theirs type bridge && ip link add cb01234567 type veth peer name theirs1 && \
                  ip link add cellblock0 type bridge && nft add table inet theirs && nft add table inet cellblock9";
    assert!(Command::new("sh").args(["-c", script]).status().unwrap().success());
    let stranger = Stranger::new();
    let first = directories(&format!("{parent}/cell-deadbeef")).remove(0);
    fs::write(first.join("cgroup.procs"), stranger.0.id().to_string()).unwrap();
    stranger
}

/// What is there of it.
fn seen_of_others(lab: &Lab, parent: &str) -> String {
    let mut look = Command::new("sh");
    look.args(["-c", "ip -o link | cut -d: -f2 | sort; nft list tables"]);
    let groups: Vec<PathBuf> =
        ["", "/cell-deadbeef", "/empty"].iter().flat_map(|group| directories(&format!("{parent}{group}"))).collect();
    format!("{}{groups:?}", lab.output(String::new(), look).text)
}

/// `prune` and a launch of every step that makes something with a name, among other people's things.
#[test]
fn things_of_others_stay() {
    lab!(World::Root, |lab| {
        let parent = "/cellblock-others";
        let mut stranger = things_of_others(parent);
        let before = seen_of_others(lab, parent);
        let in_parent = ["--net", "none", "--cgroup-parent", parent];
        for step in ["network", "cgroups", "privileges"] {
            let limits: &[&str] = if step == "network" { &[] } else { &in_parent };
            for words in [&["--prune"][..], &["true"], &["--prune"]] {
                let words = if words == ["true"] && step == "network" { &["--net", "none", "true"] } else { words };
                let said = lab.run(step, &[limits, words].concat());
                assert_eq!((said.code, said.text.as_str()), (0, ""), "{step} {words:?}");
                assert_eq!(seen_of_others(lab, parent), before, "{step} {words:?}");
                stranger.lives(step);
            }
        }
        assert_eq!(say(lab, &lab.folder.join("none"), &["prune"]).text, "");
        assert_eq!(seen_of_others(lab, parent), before);
        stranger.lives("cellblock prune");
        // From other namespaces, in which the same names may mean other things, or the processes are not seen.
        for namespaces in [&["--net"][..], &["--pid", "--fork"], &["--pid", "--fork", "--mount-proc"], &["--cgroup"]] {
            for step in ["network", "cgroups", "privileges", "cellblock"] {
                let mut prune = Command::new("unshare");
                prune.args(namespaces).arg(binary(step));
                match step {
                    "cellblock" => prune.arg("--root").arg(lab.folder.join("none")).arg("prune"),
                    "network" => prune.arg("--prune"),
                    _ => prune.args(in_parent).arg("--prune"),
                };
                let said = lab.output(format!("# unshare {namespaces:?} {step}: prune"), prune);
                assert_eq!(seen_of_others(lab, parent), before, "{said}");
                stranger.lives(&said.to_string());
            }
        }
        drop(stranger);
        let script = "ip link del br-theirs; ip link del cb01234567; ip link del cellblock0; nft delete table inet theirs; nft delete table inet cellblock9";
        assert!(Command::new("sh").args(["-c", script]).status().unwrap().success());
        for group in ["/empty", "/cell-deadbeef", ""] {
            let gone =
                || directories(&format!("{parent}{group}")).into_iter().all(|group| fs::remove_dir(group).is_ok());
            wait_until("nobody is in it", gone);
        }
    });
}

/// systemd removes the group of a scope as soon as it is empty, also between two calls of ours.
#[test]
fn a_group_that_goes_meanwhile() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "goes");
        let path = format!("{}/one", desk.parent);
        let made = make_group(&path);
        let unified = made.directories.unified.clone().expect("this machine has a tree of v2");
        let group = Cgroup {
            directories: Directories { unified: Some(unified.clone()), legacy: Vec::new() },
            ..Cgroup::default()
        };
        let is_over = AtomicBool::new(false);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    fs::remove_dir(&unified).unwrap();
                    fs::create_dir(&unified).unwrap();
                }
            });
            let end = Instant::now() + Duration::from_secs(2);
            let mut ended = Ok(());
            while ended.is_ok() && Instant::now() < end {
                ended = group.kill_all().and_then(|()| group.wait_until_empty()).and_then(|()| group.signal_all(15));
            }
            is_over.store(true, Ordering::Relaxed);
            ended.unwrap();
        });
        wait_until("it goes", || made.remove().is_ok());
    });
}
