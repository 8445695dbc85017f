//! A machine with systemd, for step 7: systemd itself as PID 1 of a few namespaces more.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cgroups::hierarchies::Hierarchies;
use kernel::sys::cgroup;

use crate::lab::{Lab, workspace};
use crate::run::code;

/// Whether a systemd is installed that could be started; on a machine that runs another init, too.
pub fn is_installed() -> bool {
    ["/lib/systemd/systemd", "/usr/bin/systemctl", "/usr/bin/dbus-daemon"].iter().all(|file| Path::new(file).exists())
}

/// Whose own systemd can be started in there.
pub const USER: u32 = 1000;

/// systemd, as PID 1. Dropped, all of it goes.
#[derive(Debug)]
pub struct Machine {
    unshare: Child,
    init: i32,
    group: PathBuf,
}

impl Machine {
    /// Boots it. Its controllers are those that this machine's v2 tree has: none where they are v1's.
    pub fn boot(lab: &Lab) -> Machine {
        let tree = Hierarchies::read().expect("/proc is there").unified.expect("a tree of v2");
        let number = std::os::unix::fs::MetadataExt::ino(&fs::metadata(&lab.folder).expect("it is ours"));
        let top = PathBuf::from(&tree.point);
        let group = top.join(format!("cellblock-systemd-{number}"));
        remove_all(&group); // what a failed test has left
        for controller in cgroup::read(&top, "cgroup.controllers").split_whitespace() {
            let _ = fs::write(top.join("cgroup.subtree_control"), format!("+{controller}"));
        }
        fs::create_dir_all(group.join("session")).expect("we are root");
        let mut boot = Command::new("bash");
        boot.arg(workspace().join("tests/systemd/boot.sh")).env("GROUP", &group).env("USER_ID", USER.to_string());
        boot.stdin(Stdio::null()).stdout(Stdio::null());
        let unshare = boot.spawn().expect("bash is there");
        let mut machine = Machine { unshare, init: 0, group };
        let is_up = |machine: &mut Machine| {
            let children = format!("/proc/{0}/task/{0}/children", machine.unshare.id());
            machine.init = fs::read_to_string(children).unwrap_or_default().trim().parse().unwrap_or_default();
            machine.init != 0 && machine.sh("systemctl is-system-running").1.trim() == "running"
        };
        let begin = Instant::now();
        while !is_up(&mut machine) {
            assert!(begin.elapsed() < Duration::from_secs(60), "systemd does not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
        machine
    }

    /// A shell script in there, as root: its exit code, and all that it has said.
    pub fn sh(&self, script: &str) -> (i32, String) {
        let enter = format!(
            "echo 0 >{}/session/cgroup.procs; exec nsenter --target {} --mount --uts --ipc --net --pid --cgroup \
             bash -c 'cd \"$1\"; exec 2>&1; eval \"$0\"' \"$0\" \"$1\"",
            self.group.display(),
            self.init
        );
        let output = Command::new("sh")
            .args(["-c", &enter, script])
            .arg(workspace())
            .stdin(Stdio::null())
            .output()
            .expect("sh is there");
        let said = [output.stdout, output.stderr].concat();
        (code(output.status), String::from_utf8_lossy(&said).into_owned())
    }

    /// A script that must succeed: what it has said.
    pub fn succeed(&self, script: &str) -> String {
        let (code, said) = self.sh(script);
        assert_eq!(code, 0, "{script}: {said}");
        said
    }

    /// Properties of a unit, a line each, as `systemctl show` sorts them.
    pub fn properties(&self, unit: &str, names: &str) -> String {
        self.succeed(&format!("systemctl show --property {names} '{unit}'"))
    }

    /// Whether the machine has this controller.
    pub fn has(&self, controller: &str) -> bool {
        cgroups::hierarchies::has(&cgroup::read(&self.group, "cgroup.controllers"), controller)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        let _ = fs::write(self.group.join("cgroup.kill"), "1");
        let _ = cgroup::wait_until_empty(&self.group);
        remove_all(&self.group);
    }
}

/// A group, with all groups in it.
fn remove_all(group: &Path) {
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    entries.filter(|entry| entry.path().is_dir()).for_each(|entry| remove_all(&entry.path()));
    let _ = fs::remove_dir(group);
}
