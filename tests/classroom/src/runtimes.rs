//! The OCI runtimes of step 7's tests: ours, and its peers as the control. What fails with a peer as well is not ours.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::lab::binary;

/// Which one is ours, instead of the `cellblock` that cargo has built: a path.
const OURS: &str = "CELLBLOCK_RUNTIME";
/// Those to compare with.
const PEERS: [&str; 2] = ["runc", "crun"];
/// Where cgroup v2 is mounted beside v1 (man 7 cgroups).
const UNIFIED: &str = "/sys/fs/cgroup/unified";

/// A runtime.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// How a table calls it.
    pub name: String,
    /// The program.
    pub path: PathBuf,
}

impl Runtime {
    /// The one at this path, called as its file is.
    pub fn at(path: &Path) -> Runtime {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Runtime { name, path: path.to_owned() }
    }

    /// Does something with cgroups mounted as this runtime can stand them: crun refuses v1 with v2 beside it. Only in a
    /// mount namespace of one's own.
    pub fn among_its_cgroups<T>(&self, work: impl FnOnce() -> T) -> T {
        let hide = self.name == "crun" && Path::new(UNIFIED).join("cgroup.procs").exists();
        if hide {
            let flags = nix::mount::MsFlags::empty();
            nix::mount::mount(Some("none"), UNIFIED, Some("tmpfs"), flags, None::<&str>)
                .expect("these mounts are ours");
        }
        let result = work();
        if hide {
            nix::mount::umount(UNIFIED).expect("nothing is open in there");
        }
        result
    }
}

/// Those of the peers that this machine has.
pub fn peers() -> Vec<Runtime> {
    PEERS.iter().filter_map(|name| installed(name)).map(|path| Runtime::at(&path)).collect()
}

/// Ours, if it is built.
pub fn ours() -> Option<Runtime> {
    let path = std::env::var_os(OURS).map_or_else(|| binary("cellblock"), PathBuf::from);
    path.exists().then(|| Runtime::at(&path))
}

/// Where a program is, also one that only root has on the PATH.
pub fn installed(program: &str) -> Option<PathBuf> {
    let script = format!("PATH=$PATH:/usr/sbin:/sbin; command -v {program}");
    let output = Command::new("sh").args(["-c", &script]).output().expect("sh is there");
    output.status.success().then(|| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}
