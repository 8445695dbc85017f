//! The book's commands, typed: each page in a lab of its own, from top to bottom, at terminals, as a reader does it.
//!
//! `cargo test -p classroom --test pages` types what is quick, and `scripts/test --soak` the rest (`--ignored`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use classroom::lab::{FIGURES, enter_for, workspace};
use classroom::page::{Block, blocks};
use classroom::terminal::Terminal;
use classroom::world::sh;
use classroom::{Lab, World};

/// What a page's commands may take, in seconds: those that are slow, with some hundred tests among them, most of it.
const PATIENCE: u32 = 3000;
/// A reader has `sudo`, and an empty `target` but for what is built and made in it.
const SHELL: &str = "CARGO_TERM_COLOR=never CARGO_NET_OFFLINE=true bash --norc --noediting -c 'sudo() { \"$@\"; }; export -f sudo; exec bash --norc --noediting'";

/// The lab's own `target`, in memory: what was built is the machine's, and what a page makes goes with the lab.
fn own_target(lab: &Lab, needs_debian: bool) {
    let (own, real) = (lab.folder.join("target"), workspace().join("target"));
    fs::create_dir(&own).expect("the lab is ours");
    sh(&format!("mount -t tmpfs -o mode=755 tmpfs '{}'", own.display()));
    fs::create_dir(own.join("rootfs")).expect("it is ours");
    for entry in fs::read_dir(real.join("rootfs")).expect("it was made") {
        let from = entry.expect("it is readable").path();
        if let Some(name) = from.file_name().filter(|_| from.is_file()) {
            fs::copy(&from, own.join("rootfs").join(name)).map(drop).expect("it is ours"); // how each was made
        }
    }
    let built = ["debug", "release", "tools", "inmate", "launches"].into_iter();
    let debian = needs_debian.then_some("rootfs/debian"); // for a page on mounts, one less is to be seen
    for (name, from) in built.chain(debian).map(|name| (name, real.join(name))).filter(|(_, from)| from.is_dir()) {
        fs::create_dir_all(own.join(name)).expect("it is ours");
        sh(&format!("mount --bind '{}' '{}/{name}'", from.display(), own.display()));
    }
    sh(&format!("cp -ax '{}' '{}/rootfs/busybox'", lab.rootfs.display(), own.display()));
    sh(&format!("mount --rbind '{}' '{}'", own.display(), real.display()));
    for place in of_engines() {
        sh(&format!("mount -t tmpfs -o mode=755 tmpfs '{}'", place.display()));
    }
}

/// Takes the lab's own `target` away again.
fn give_back_target(lab: &Lab) {
    let own = lab.folder.join("target");
    for folder in of_engines().chain([workspace().join("target"), own.clone()]) {
        let _ = Command::new("umount").args(["--recursive", "--lazy"]).arg(folder).stderr(Stdio::null()).status();
    }
    fs::remove_dir(own).expect("nothing but mounts was in it");
}

/// Where containers and images of the machine's own are: a page sees none of them, and adds none.
fn of_engines() -> impl Iterator<Item = PathBuf> {
    ["/run", "/var/lib/containers"].into_iter().map(PathBuf::from).filter(|place| place.is_dir())
}

fn is_here(what: &str) -> bool {
    match what {
        "debian" => Path::new("target/rootfs/debian/usr/bin/python3").exists(),
        "podman" => shell("podman --version").0 == 0,
        _ => panic!("a page needs {what}, and this test cannot tell whether it is there"),
    }
}

/// Types a block, and says what did not end as the page says.
fn type_block(terminals: &mut BTreeMap<usize, Terminal>, block: &Block) -> Vec<String> {
    let terminal = terminals.entry(block.terminal).or_insert_with(|| Terminal::open(SHELL));
    terminal.interrupt();
    let pid = block.pid.as_ref().map(|command| shell(command).1);
    let mut faults = Vec::new();
    for (at, command) in block.commands.iter().enumerate() {
        let command = pid.as_ref().map_or(command.clone(), |pid| command.replace("PID", pid.trim()));
        if let Some(up) = block.stays_until.as_ref().filter(|_| at + 1 == block.commands.len()) {
            terminal.leave_running(&command);
            let end = Instant::now() + Duration::from_secs(60);
            while shell(up).0 != 0 {
                assert!(Instant::now() < end, "{command}: it is not up: {up}\n{}", terminal.shown());
                std::thread::sleep(Duration::from_millis(100));
            }
            continue;
        }
        let (status, shown) = terminal.type_line(&command);
        if status != block.ends.get(at).copied().unwrap_or(0) {
            faults.push(format!("line {}: {command}: ended with {status}:\n{shown}", block.line));
        }
    }
    faults
}

fn shell(command: &str) -> (i32, String) {
    let output = Command::new("bash").args(["-c", command]).output().expect("bash is there");
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Types all blocks of a page that the choice is for; the others have their reason.
fn type_page(lab: &Lab, page: &str, is_chosen: impl Fn(&Block) -> bool) {
    let all = blocks(page);
    own_target(lab, all.iter().flat_map(|block| &block.commands).any(|command| command.contains("debian")));
    let (mut terminals, mut faults, mut typed) = (BTreeMap::new(), Vec::new(), 0);
    for block in &all {
        let is_possible = block.left_out.is_none() && block.needs.as_deref().is_none_or(is_here);
        if is_possible && is_chosen(block) {
            faults.extend(type_block(&mut terminals, block));
            typed += 1;
        }
    }
    terminals.values_mut().for_each(Terminal::interrupt);
    if all.iter().any(|block| block.needs.as_deref() == Some("podman")) {
        shell("nft flush ruleset"); // podman's chains stay until the machine, here the lab, ends
    }
    drop(terminals);
    give_back_target(lab);
    println!("{FIGURES}: {page}: {typed} of {} blocks typed", all.len());
    assert!(
        faults.is_empty(),
        "{page}: {} commands did not end as the page says:\n\n{}",
        faults.len(),
        faults.join("\n\n")
    );
}

macro_rules! pages {
    ($($test:ident $page:literal)*) => {
        /// The pages that let the reader type.
        const PAGES: &[&str] = &[$($page),*];

        $(
            #[test]
            fn $test() {
                enter_for(PATIENCE, World::Root, stringify!($test), |lab| type_page(lab, $page, |block| !block.is_slow));
            }
        )*

        /// The same pages with the blocks that are slow.
        mod whole {
            use super::*;
            $(
                #[test]
                #[ignore = "takes minutes: scripts/test --soak"]
                fn $test() {
                    let test = concat!("whole::", stringify!($test));
                    enter_for(PATIENCE, World::Root, test, |lab| type_page(lab, $page, |_| true));
                }
            )*
        }
    };
}

pages! {
    introduction "introduction"
    kernel "00-kernel"
    chroot "01-chroot"
    namespaces "02-namespaces"
    pivot_root "03-pivot-root"
    network "04-network"
    cgroups "05-cgroups"
    privileges "06-privileges"
    runtime "07-runtime"
    containers_and_vms "containers-and-vms"
}

/// What no test types is known by number, and each block has its reason.
#[test]
fn few_blocks_are_left_out() {
    let left_out: Vec<String> = PAGES
        .iter()
        .flat_map(|page| blocks(page).into_iter().map(move |block| (page, block)))
        .filter_map(|(page, block)| block.left_out.map(|reason| format!("{page}:{}: {reason}", block.line)))
        .collect();
    assert!(left_out.len() <= 10, "{left_out:#?}");
    assert!(
        left_out.iter().all(|line| line.split(": ").nth(1).is_some_and(|reason| reason.len() > 10)),
        "{left_out:#?}"
    );
}

/// An exercise's mark, which stands before it: `<!-- exercise: FILE, FUNCTION: what is to be changed -->`.
fn exercises(page: &str) -> Vec<(String, [String; 3])> {
    let text = fs::read_to_string(workspace().join(format!("book/src/{page}.md"))).expect("a chapter");
    let lines: Vec<&str> = text.lines().collect();
    let mark = |line: &str| {
        let (place, changed) = line.strip_prefix("<!-- exercise: ")?.strip_suffix(" -->")?.split_once(": ")?;
        let (file, function) = place.split_once(", ").unwrap_or((place, ""));
        Some([file, function, changed].map(str::to_owned))
    };
    let is_exercise = |line: &str| line.get(2..6).is_some_and(|mark| line.starts_with("**") && mark.ends_with(".**"));
    let numbered = lines.iter().enumerate().filter(|(_, line)| is_exercise(line));
    numbered
        .map(|(at, line)| {
            let marked = mark(lines[at - 1]).unwrap_or_else(|| panic!("{page}:{}: an exercise without a mark", at + 1));
            (format!("{page}:{}: {line}", at + 1), marked)
        })
        .collect()
}

/// The text of a function, to the brace that ends it: `rules`, or a method, `Lock::wait`. No name: the whole file.
fn function<'a>(source: &'a str, name: &str) -> Option<&'a str> {
    if name.is_empty() {
        return Some(source);
    }
    let (kind, name) = name.split_once("::").unwrap_or(("", name));
    let kind = source.find(&format!("impl {kind}")).filter(|_| !kind.is_empty()).unwrap_or(0);
    let begin = kind + ['(', '<'].iter().find_map(|open| source[kind..].find(&format!("fn {name}{open}")))?;
    let mut depth = 0;
    let end = source[begin..].find(|letter| {
        depth += i32::from(letter == '{') - i32::from(letter == '}');
        letter == '}' && depth == 0
    })?;
    Some(&source[begin..begin + end])
}

/// What an exercise has the reader change must be where it says, and be there once.
#[test]
fn each_exercise_names_what_is_there() {
    let chapters = PAGES.iter().filter(|page| page.starts_with('0'));
    let all: Vec<_> = chapters.flat_map(|page| exercises(page).into_iter().map(move |found| (page, found))).collect();
    let fault = |(page, (place, [file, name, changed])): &(&&str, (String, [String; 3]))| {
        let source =
            fs::read_to_string(workspace().join("steps").join(page).join("src").join(file)).unwrap_or_default();
        let times = function(&source, name).map(|body| body.matches(changed.as_str()).count());
        (times != Some(1)).then(|| format!("{place}: {changed:?} is {times:?} times in {name} in {file}"))
    };
    let faults: Vec<_> = all.iter().filter_map(fault).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(all.len() >= 23, "the exercises were not found: {}", all.len());
}
