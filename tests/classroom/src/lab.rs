//! A lab for each test: mount, network, ipc, uts and pid namespaces of its own, with `/` shared as systemd makes it.
//!
//! A test binary has many threads, and a process of many threads cannot enter most namespaces. So the test starts
//! itself once more, alone, inside the lab, by `unshare`; the outer half only waits.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use crate::delegate;
use crate::trace::{Trace, orphans_end_within};

/// As which user the test runs in its lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum World {
    /// Root. Tests run by an ordinary user cannot be that, and say so.
    Root,
    /// Root of a user namespace, an ordinary user outside of it: what scripts/as-root gives to one without sudo.
    Rootless,
    /// The same, in a cgroup of v2 that was given to that user.
    Delegated,
    /// An ordinary user, in no user namespace yet.
    User,
}

/// The lab, from inside.
#[derive(Debug)]
pub struct Lab {
    /// As which user this test runs.
    pub world: World,
    /// A copy of the busybox root filesystem, for this test alone.
    pub rootfs: PathBuf,
    /// A folder for this test alone; the root filesystem lies in it.
    pub folder: PathBuf,
}

/// The user id of an ordinary user, when root has to play one.
const ORDINARY: u32 = 1000;
/// Set inside: the test that the lab is for.
const INSIDE: &str = "CELLBLOCK_LAB";
/// How a line begins that must be seen even when all tests pass.
pub const LOUD: &str = "NOT RUN";
/// How a line begins that tells what was measured.
pub const FIGURES: &str = "MEASURED";
/// No test takes longer than this, in seconds, unless it asks for more.
const PATIENCE: u32 = 600;

/// The repository.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("this crate lies two folders below")
}

/// Set by tests/variants: a launcher or a script with a wall taken out, which the test is given instead of the real one.
pub const INSTEAD: &str = "CELLBLOCK_INSTEAD";

fn instead(name: &str) -> Option<PathBuf> {
    std::env::var_os(INSTEAD).map(PathBuf::from).filter(|program| program.file_name().is_some_and(|file| file == name))
}

/// One of the repository's scripts.
pub fn script(name: &str) -> PathBuf {
    instead(name).unwrap_or_else(|| workspace().join("scripts").join(name))
}

/// Where cargo has put the launchers: beside the `deps` in which this test lies.
pub fn binary(name: &str) -> PathBuf {
    if let Some(program) = instead(name) {
        return program;
    }
    let test = std::env::current_exe().expect("/proc is there");
    test.ancestors().nth(2).expect("target/PROFILE/deps/TEST").join(name)
}

/// Runs `body` in a lab: starts this test once more inside of it, or, if we are inside already, does it.
pub fn enter(world: World, test: &str, body: impl FnOnce(&Lab)) {
    enter_for(PATIENCE, world, test, body);
}

/// The same for a test that takes long: it may take that many seconds.
pub fn enter_for(seconds: u32, world: World, test: &str, body: impl FnOnce(&Lab)) {
    if std::env::var_os(INSIDE).is_some_and(|inside| inside == test) {
        return run_inside(world, test, body);
    }
    wait_for_our_turn();
    build_once();
    if matches!(world, World::Root | World::Delegated) && !nix::unistd::geteuid().is_root() {
        return not_run(test, "it needs root");
    }
    let folder = folder(test);
    prepare(&folder, world);
    let inside = start_inside(world, test, seconds).output().expect("timeout and unshare are there");
    remove(&folder);
    if world == World::Delegated {
        delegate::remove(test);
    }
    let said = [inside.stdout, inside.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let said: String =
        said.lines().filter(|line| !line.contains("cargo insta")).map(|line| format!("{line}\n")).collect();
    said.lines().filter(|line| [LOUD, FIGURES].iter().any(|word| line.contains(word))).for_each(loudly);
    assert!(inside.status.success(), "{test} failed in its lab ({}):\n{said}", inside.status);
    assert!(said.contains("1 passed"), "{test} was not found in its lab:\n{said}");
}

/// Says loudly that a test cannot run on this machine, and counts it. In CI that is a failure.
pub fn not_run(test: &str, why: &str) {
    assert!(std::env::var_os("CI").is_none(), "{test} cannot run, but in CI every test must: {why}");
    loudly(&format!("{LOUD}: {test}: {why}"));
    let list = workspace().join("target/not-run.txt");
    let line = format!("{test}: {why}\n");
    let known = fs::read_to_string(&list).unwrap_or_default();
    fs::write(list, known + &line).expect("target is ours");
}

impl Lab {
    /// Throws away what the test has done to the root filesystem, on purpose.
    pub fn restore(&self) {
        let busybox = workspace().join("target/rootfs/busybox");
        remove(&self.rootfs);
        succeed(Command::new("cp").arg("-ax").arg(busybox).arg(&self.rootfs));
    }
}

/// Says something that the test runner's capturing does not swallow.
fn loudly(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn run_inside(world: World, test: &str, body: impl FnOnce(&Lab)) {
    let folder = folder(test);
    let lab = Lab { world, rootfs: folder.join("rootfs"), folder };
    if world != World::User {
        nix::unistd::sethostname("host").expect("this uts namespace is ours");
        inmate::sys::loopback_up().expect("this network namespace is ours");
    }
    let _ = inmate::sys::add_session_key(c"visitor"); // so that the caller has keys; some kernels keep none
    std::env::set_current_dir(workspace()).expect("it is there");
    let before = Trace::take(&lab);
    body(&lab);
    orphans_end_within(Duration::from_secs(2)); // we are PID 1; a process that is left after that shows in the trace
    // A network namespace is taken down in the background, some milliseconds after its last process.
    let settled = || {
        (0..40).any(|_| {
            Trace::take(&lab) == before || {
                std::thread::sleep(Duration::from_millis(50));
                false
            }
        })
    };
    if !settled() {
        Trace::take(&lab).assert_same_as(&before);
    }
}

/// Two runs in one checkout would use the same labs: a test binary holds a lock in `target` until it ends.
fn wait_for_our_turn() {
    static LOCK: OnceLock<Option<Flock<fs::File>>> = OnceLock::new();
    LOCK.get_or_init(|| {
        if std::env::var_os("CELLBLOCK_PREBUILT").is_some() {
            return None; // in scripts/vm, whose labs lie on a disk of its own
        }
        let path = workspace().join("target/tests.lock");
        let create = || fs::OpenOptions::new().append(true).create(true).open(&path);
        // To lock it, reading suffices: it may be another user's.
        let file = fs::File::open(&path).or_else(|_| create()).expect("target is ours");
        let locked = Flock::lock(file, FlockArg::LockExclusiveNonblock).or_else(|(file, _)| {
            loudly("waiting for another test run in this checkout to end");
            Flock::lock(file, FlockArg::LockExclusive)
        });
        Some(locked.map_err(|(_, errno)| errno).expect("a file can be locked"))
    });
}

/// Everything that tests run is built once per test binary: the launchers, the inmate, the root filesystem.
pub fn build_once() {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        if std::env::var_os("CELLBLOCK_PREBUILT").is_some() {
            return; // in scripts/vm there is no cargo
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--workspace", "--bins"]);
        if binary("").ends_with("release") {
            build.arg("--release");
        }
        succeed(build.current_dir(workspace()));
        succeed(Command::new(workspace().join("scripts/rootfs")).arg("busybox").stdout(Stdio::null()));
        succeed(Command::new(workspace().join("scripts/inmate")).stdout(Stdio::null()));
    });
}

fn folder(test: &str) -> PathBuf {
    let exe = std::env::current_exe().expect("/proc is there");
    let step = exe.file_name().expect("a file").to_string_lossy().split('-').next().unwrap_or_default().to_owned();
    workspace().join("target/lab").join(format!("{step}.{}", test.replace("::", ".")))
}

/// A fresh copy of the root filesystem, owned by the user that is root in the lab.
fn prepare(folder: &Path, world: World) {
    remove(folder);
    fs::create_dir_all(folder).expect("target is ours");
    let rootfs = workspace().join("target/rootfs/busybox");
    succeed(Command::new("cp").arg("-ax").arg(rootfs).arg(folder.join("rootfs")));
    if world != World::Root && nix::unistd::geteuid().is_root() {
        succeed(Command::new("chown").arg("-hR").arg(format!("{ORDINARY}:{ORDINARY}")).arg(folder));
    }
}

fn remove(folder: &Path) {
    if folder.exists() {
        fs::remove_dir_all(folder).expect("nothing is mounted in it outside of the lab");
    }
}

fn succeed(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(status.success(), "{command:?} failed ({status})");
}

/// The command that makes the lab and starts this test in it, as its PID 1.
///
/// Private first, then shared: else the lab's mounts would be peers of the machine's own, and leak.
fn start_inside(world: World, test: &str, seconds: u32) -> Command {
    const NAMESPACES: &str = "--mount --propagation private --net --ipc --uts --pid --fork --kill-child";
    const SETTLE: &str = "mount -t proc proc /proc && mount --make-rshared /";
    let drop = format!("setpriv --reuid {ORDINARY} --regid {ORDINARY} --clear-groups");
    let root = nix::unistd::geteuid().is_root();
    let script = match world {
        World::Root => format!("unshare {NAMESPACES} sh -c '{SETTLE} && exec \"$@\"' lab \"$@\""),
        World::Rootless | World::Delegated => {
            let inner =
                format!("unshare --user --map-root-user {NAMESPACES} sh -c '{SETTLE} && exec \"$@\"' lab \"$@\"");
            let given = if world == World::Delegated { delegate::script(test, ORDINARY) } else { String::new() };
            if root { format!("{given}{}{drop} {inner}", let_in()) } else { inner }
        }
        World::User if root => {
            format!("{}unshare {NAMESPACES} sh -c '{SETTLE} && exec {drop} \"$@\"' lab \"$@\"", let_in())
        }
        World::User => "exec \"$@\"".to_owned(),
    };
    let script = if root {
        format!("unshare --mount --propagation private sh -ec '{}' lab \"$@\"", script.replace('\'', r"'\''"))
    } else {
        script
    };
    let exe = std::env::current_exe().expect("/proc is there");
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", &seconds.to_string(), "sh", "-ec", &script, "lab"]).arg(exe);
    command.args(["--exact", test, "--include-ignored", "--nocapture", "--test-threads=1"]);
    command
        .env("RUST_BACKTRACE", "0")
        .env(INSIDE, test)
        .env("INSTA_WORKSPACE_ROOT", workspace())
        .current_dir(workspace());
    command
}

/// Lets an ordinary user reach the repository where it lies behind a closed folder (/root, say): the way is made anew
/// in memory, in this mount namespace only.
fn let_in() -> String {
    let closed = |folder: &&Path| fs::metadata(folder).is_ok_and(|found| found.permissions().mode() & 0o001 == 0);
    let ancestors: Vec<&Path> = workspace().ancestors().collect();
    let Some(closed) = ancestors.into_iter().rev().find(closed) else { return String::new() };
    let (closed, workspace) = (closed.display(), workspace().display());
    format!(
        "mount --bind \"{workspace}\" /mnt; mount -t tmpfs -o mode=755 tmpfs \"{closed}\"; \
         mkdir -p \"{workspace}\"; mount --move /mnt \"{workspace}\"; cd \"{workspace}\"; "
    )
}
