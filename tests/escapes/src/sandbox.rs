//! Where the checks run: namespaces of their own, folders in memory, and a cgroup that is theirs alone.
//!
//! A runtime that fails a check may well do harm. Here it is to a copy: of the runtime, of the root filesystem, and of
//! mounts, links and processes that end with the sandbox.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use classroom::init::below_an_init;
use classroom::lab::workspace;
use classroom::runtimes::Runtime;

use crate::groups;

/// Set inside: the folder.
const INSIDE: &str = "ESCAPES_FOLDER";

/// What the checks are given.
#[derive(Debug)]
pub struct Sandbox {
    /// Lies in memory, and is empty but for the runtime's copy.
    pub folder: PathBuf,
    /// The copy.
    pub runtime: Runtime,
    /// Below this cgroup all containers have theirs.
    pub parent: String,
}

/// Starts this program once more in a sandbox, and there does the work.
pub fn enter(runtime: &Path, work: impl FnOnce(&Sandbox) -> Result<()>) -> Result<ExitCode> {
    let Some(folder) = std::env::var_os(INSIDE).map(PathBuf::from) else { return start(runtime) };
    let mut result = Ok(());
    below_an_init(|| result = inside(folder, runtime, work));
    result.map(|()| ExitCode::SUCCESS)
}

fn start(runtime: &Path) -> Result<ExitCode> {
    ensure!(nix::unistd::geteuid().is_root(), "only root can try a runtime");
    ensure!(runtime.is_file(), "there is no runtime {}", runtime.display());
    let rootfs = workspace().join("target/rootfs/busybox/bin/inmate");
    ensure!(rootfs.exists(), "{} is missing: scripts/rootfs busybox && scripts/inmate", rootfs.display());
    let folder = workspace().join("target/escapes").join(std::process::id().to_string());
    fs::create_dir_all(&folder)?;
    // Private first, then shared: else these mounts would be peers of the machine's own, and leak.
    const NAMESPACES: &str = "--mount --propagation private --net --ipc --uts --pid --fork --kill-child";
    let script = "mount -t proc proc /proc; mount --make-rshared /; mount -t tmpfs none \"$ESCAPES_FOLDER\"; \
                  mount -t tmpfs none /run; hostname host; ip link set lo up; exec \"$@\"";
    let mut unshare = Command::new("unshare");
    unshare.args(NAMESPACES.split(' ')).args(["sh", "-ec", script, "sandbox"]);
    let status = unshare.arg(std::env::current_exe()?).args(std::env::args_os().skip(1)).env(INSIDE, &folder).status();
    groups::remove(&parent(&folder)?);
    fs::remove_dir(&folder).with_context(|| format!("{} is not empty", folder.display()))?;
    Ok(ExitCode::from(status.context("no unshare")?.code().unwrap_or(125) as u8))
}

fn inside(folder: PathBuf, runtime: &Path, work: impl FnOnce(&Sandbox) -> Result<()>) -> Result<()> {
    let parent = parent(&folder)?;
    let runtime = Runtime::at(runtime);
    let copy = folder.join("program").join(&runtime.name);
    fs::create_dir(folder.join("program"))?;
    fs::copy(&runtime.path, &copy).with_context(|| format!("cannot copy {}", runtime.path.display()))?;
    let sandbox = Sandbox { folder, runtime: Runtime { path: copy, ..runtime.clone() }, parent };
    runtime.among_its_cgroups(|| work(&sandbox))
}

/// A name for the group: the folder's number is its own on this machine, also once memory covers it.
fn parent(folder: &Path) -> Result<String> {
    let above = folder.parent().context("it lies in target")?;
    let pid = folder.file_name().unwrap_or_default().to_string_lossy();
    Ok(format!("/cellblock-escapes-{}-{pid}", fs::metadata(above)?.ino()))
}
