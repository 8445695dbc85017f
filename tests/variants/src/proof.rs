//! What must see a hole: an attack of the inmate by a launcher, a check of tests/escapes on the runtime, or a test of a lesson.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use classroom::lab::{INSTEAD, LOUD, Lab, World, workspace};

use crate::holes::{self, Hole};

/// What must see a hole.
#[derive(Debug, Clone, Copy)]
pub enum Probe {
    /// An attack of the inmate, in a cell that is made with these options.
    Attack(&'static str, &'static [&'static str]),
    /// A check of tests/escapes.
    Check(&'static str),
    /// A test that is red then: the package, the test binary and the test's name.
    Test(&'static str, &'static str, &'static str),
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = match self {
            Probe::Attack(name, _) => ("attack", name),
            Probe::Check(name) => ("check", name),
            Probe::Test(_, _, name) => ("test", name),
        };
        f.pad(&format!("{kind} {name}"))
    }
}

impl Probe {
    /// Tries it on a launcher or a runtime: the verdict, and its reason.
    pub fn try_on(&self, launcher: &str, program: &Path) -> Result<(String, String)> {
        let line = match self {
            Probe::Check(name) => check(name, program)?,
            Probe::Attack(name, options) => attack(name, options, launcher, program)?,
            Probe::Test(package, binary, name) => test(package, binary, name, program)?,
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
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| errors.clone())?;
    // A check that panics is not one that sees: why it did is not in its line.
    let panicked = errors.lines().skip_while(|line| !line.contains("panicked at")).nth(1);
    ensure!(panicked.is_none(), "{name} came to grief: {}", panicked.unwrap_or_default());
    Ok(line.trim().to_owned())
}

/// RED and the reason, or GREEN. The test finds the changed program where it would find the real one.
fn test(package: &str, binary: &str, name: &str, program: &Path) -> Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["test", "--quiet", "--package", package, "--test", binary, "--", "--exact", name]);
    let output = command.env(INSTEAD, program).env("INSTA_UPDATE", "no").current_dir(workspace()).output()?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if let Some(line) = text.lines().find(|line| line.contains(LOUD)) {
        return Ok(format!("n/a {line}"));
    }
    let is = |result: &str| text.contains(&format!("test result: {result}"));
    match (is("FAILED"), is("ok. 1 passed")) {
        (true, _) => Ok(format!("RED {}", why_red(&text))),
        (_, true) => Ok("GREEN".to_owned()),
        _ => bail!("{binary} {name} was not run: {text}"),
    }
}

/// What the test's own assertion says. The lab's, around it, says only that it failed.
fn why_red(text: &str) -> String {
    let panicked = text.lines().skip_while(|line| !line.contains("panicked at") || line.contains("lab.rs"));
    panicked.skip(1).find(|line| !line.trim().is_empty()).unwrap_or_default().to_owned()
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
    let every = holes::all().count().div_ceil(count.max(1));
    Ok(holes::all().skip(number % every).step_by(every).collect())
}
