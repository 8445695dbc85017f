//! What must see a hole: an attack of the inmate by a launcher, or a check of tests/escapes on the runtime.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use classroom::lab::{Lab, World, workspace};

use crate::holes::{HOLES, Hole};

/// What must see a hole.
#[derive(Debug, Clone, Copy)]
pub enum Probe {
    /// An attack of the inmate, in a cell that is made with these options.
    Attack(&'static str, &'static [&'static str]),
    /// A check of tests/escapes.
    Check(&'static str),
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Probe::Attack(name, _) | Probe::Check(name)) = self;
        let kind = if matches!(self, Probe::Check(_)) { "check" } else { "attack" };
        f.pad(&format!("{kind} {name}"))
    }
}

impl Probe {
    /// Tries it on a launcher or a runtime: the verdict, and its reason.
    pub fn try_on(&self, launcher: &str, program: &Path) -> Result<(String, String)> {
        let line = match self {
            Probe::Check(name) => check(name, program)?,
            Probe::Attack(name, options) => attack(name, options, launcher, program)?,
        };
        let (word, why) = line.split_once(' ').unwrap_or((&line, ""));
        Ok((word.to_owned(), why.trim().to_owned()))
    }
}

/// The programs that cargo has built beside this one.
fn beside(name: &str) -> Result<std::path::PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.ancestors().find(|folder| folder.join(name).is_file());
    Ok(folder.with_context(|| format!("{name} is not built: cargo build --workspace --bins"))?.join(name))
}

fn check(name: &str, runtime: &Path) -> Result<String> {
    let output = Command::new(beside("escapes")?).arg("--runtime").arg(runtime).arg(name).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    Ok(line.with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?.trim().to_owned())
}

/// In namespaces as a test's lab has them, and a root filesystem that is a copy.
fn attack(name: &str, options: &[&str], launcher: &str, program: &Path) -> Result<String> {
    const NAMESPACES: &str = "--mount --propagation private --net --ipc --uts --pid --fork --kill-child";
    // A launcher that does not change its root must find the inmate all the same.
    const SETTLE: &str = "mount -t proc proc /proc; mount --make-rshared /; hostname host; ip link set lo up
        mount -t tmpfs none /usr/local/bin; cp \"$CELLBLOCK_ROOTFS/bin/inmate\" /usr/local/bin; exec \"$@\"";
    let folder = workspace().join("target/variants/lab");
    let rootfs = folder.join("rootfs");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let copied = Command::new("cp").arg("-ax").arg(workspace().join("target/rootfs/busybox")).arg(&rootfs).status()?;
    ensure!(copied.success(), "the root filesystem cannot be copied");
    let mut unshare = Command::new("timeout");
    unshare.args(["--signal=KILL", "60", "unshare"]).args(NAMESPACES.split(' ')).args(["sh", "-ec", SETTLE, "lab"]);
    unshare.arg(beside("variants")?).args(["inside", name, "--"]).arg(program);
    if launcher == "cellblock" {
        unshare.arg("--root").arg(folder.join("state")).arg("run").arg("--rootfs").arg(&rootfs);
    }
    unshare.args(options).args(["inmate", "attack", name]).env("CELLBLOCK_ROOTFS", &rootfs);
    let output = unshare.output()?;
    let _ = fs::remove_dir_all(&folder);
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().last().with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?.to_owned())
}

/// In there: has the inmate try, and prints the verdict.
pub fn inside(attack: &str, command: &[String]) -> Result<()> {
    let folder = workspace().join("target/variants/lab");
    let lab = Lab { world: World::Root, rootfs: folder.join("rootfs"), folder };
    println!("{}", lab.verdict_of(attack, command.to_vec()));
    Ok(())
}

/// Some of the holes, as the commit chooses: each comes in turn.
pub fn sample(count: usize) -> Result<Vec<&'static Hole>> {
    let output = Command::new("git").args(["rev-parse", "--short=8", "HEAD"]).current_dir(workspace()).output()?;
    let commit = String::from_utf8(output.stdout)?;
    let number = usize::from_str_radix(commit.trim(), 16).unwrap_or(0);
    let every = HOLES.len().div_ceil(count.max(1));
    Ok(HOLES.iter().skip(number % every).step_by(every).collect())
}
