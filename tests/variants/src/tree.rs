//! The copy of the repository in which walls are taken out, one at a time.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use classroom::lab::workspace;
use nix::fcntl::{Flock, FlockArg};

use crate::holes::{Change, Edit, Hole};

/// A hole of a script has its path for a package.
const SCRIPTS: &str = "scripts/";

/// A tree of sources.
#[derive(Debug)]
pub struct Tree {
    root: PathBuf,
    /// Held as long as the copy is used: there is one.
    _lock: Option<Flock<fs::File>>,
}

impl Tree {
    /// The repository itself: only to be looked at.
    pub fn here() -> Tree {
        Tree { root: workspace().to_owned(), _lock: None }
    }

    /// A copy of what git knows of, as it is now. What has not changed since the last copy is left, so that little is built.
    pub fn copy() -> Result<Tree> {
        let above = workspace().join("target/variants");
        let root = above.join("tree");
        fs::create_dir_all(&root)?;
        let lock = Flock::lock(fs::File::create(above.join("lock"))?, FlockArg::LockExclusive);
        let lock = lock.map_err(|(_, errno)| errno).context("cannot lock target/variants")?;
        for path in known_files()? {
            let (from, to) = (workspace().join(&path), root.join(&path));
            let Ok(now) = fs::read(&from) else { continue }; // a link that leads nowhere, or a file that was removed
            write_if_changed(&to, &now)?;
        }
        Ok(Tree { root, _lock: Some(lock) })
    }

    /// The files that a hole changes: where, and how they read then.
    ///
    /// # Errors
    /// A file, a function or a line is gone, or a line is there twice.
    pub fn changed(&self, hole: &Hole) -> Result<Vec<(PathBuf, String)>> {
        let mut files: Vec<(PathBuf, String)> = Vec::new();
        for edit in hole.edits {
            let path = self.root.join(edit.file);
            let known = files.iter().position(|(known, _)| *known == path);
            let text = match known {
                Some(at) => files.swap_remove(at).1,
                None => fs::read_to_string(&path).with_context(|| format!("{}: no file {}", hole.name, edit.file))?,
            };
            let text = apply(&text, edit)
                .with_context(|| format!("{}: {}, function {}", hole.name, edit.file, edit.function))?;
            files.push((path, text));
        }
        Ok(files)
    }

    /// Prints the change.
    pub fn show(&self, hole: &Hole) -> Result<()> {
        for (path, text) in self.changed(hole)? {
            let mut diff = Command::new("diff");
            diff.arg("--unified").arg("--label").arg("with the wall").arg("--label").arg(hole.name).arg(&path).arg("-");
            let mut diff = diff.stdin(Stdio::piped()).spawn().context("diff is missing")?;
            diff.stdin.take().context("it was piped")?.write_all(text.as_bytes())?;
            diff.wait()?;
        }
        Ok(())
    }

    /// Builds the hole's package with the wall taken out: where the launcher is. The copy is whole again afterwards.
    pub fn build(&self, hole: &Hole) -> Result<PathBuf> {
        let changed = self.changed(hole)?;
        let before = changed.iter().map(|(path, _)| fs::read(path)).collect::<std::io::Result<Vec<_>>>()?;
        for (path, text) in &changed {
            fs::write(path, text)?;
        }
        let built = self.make(hole.package);
        for ((path, _), text) in changed.iter().zip(before) {
            fs::write(path, text)?;
        }
        let built = built.with_context(|| format!("{} does not build", hole.name))?;
        let folder = workspace().join("target/variants/programs").join(hole.name);
        fs::create_dir_all(&folder)?;
        let program = folder.join(built.file_name().context("it is a file")?);
        let _ = fs::remove_file(&program);
        fs::rename(built, &program)?;
        Ok(program)
    }

    /// The changed program, in a place where it does not stay.
    fn make(&self, package: &str) -> Result<PathBuf> {
        let target = workspace().join("target/variants/target");
        let Some(script) = package.strip_prefix(SCRIPTS) else {
            self.cargo(package, &target)?;
            return Ok(target.join("debug").join(package));
        };
        fs::create_dir_all(&target)?;
        fs::copy(self.root.join(package), target.join(script))?;
        fs::set_permissions(target.join(script), fs::Permissions::from_mode(0o755))?;
        Ok(target.join(script))
    }

    fn cargo(&self, package: &str, target: &Path) -> Result<()> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--package", package, "--bin", package]).current_dir(&self.root);
        build.env("CARGO_TARGET_DIR", target);
        // One line changes from hole to hole: what was compiled of the same crate before is of use, whatever the caller has set.
        build.env("CARGO_INCREMENTAL", "1").env("CARGO_PROFILE_DEV_DEBUG", "0").env("RUSTFLAGS", "--cap-lints=allow");
        let output = build.output().context("cargo is missing")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}

fn known_files() -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"]).current_dir(workspace());
    let output = git.output().context("git is missing")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let needed = |path: &&str| ["steps/", "tests/", "Cargo.", SCRIPTS].iter().any(|start| path.starts_with(start));
    Ok(text.split('\0').filter(|path| !path.is_empty()).filter(needed).map(str::to_owned).collect())
}

fn write_if_changed(file: &Path, now: &[u8]) -> Result<()> {
    if fs::read(file).is_ok_and(|before| before == now) {
        return Ok(());
    }
    fs::create_dir_all(file.parent().context("it lies in the copy")?)?;
    Ok(fs::write(file, now)?)
}

/// The text with one line changed, within the function, or in the whole file where none is named. Two functions may have the
/// name: then the line says which.
fn apply(text: &str, edit: &Edit) -> Result<String> {
    let lines: Vec<&str> = text.lines().collect();
    let begins: Vec<usize> = (0..lines.len()).filter(|&at| begins(lines[at], edit.function)).collect();
    ensure!(!begins.is_empty() || edit.function.is_empty(), "the function is gone");
    let wanted = match edit.change {
        Change::Without(line) | Change::Instead(line, _) => line,
    };
    let inside = |at: &usize| begins.iter().any(|&begin| (begin..=begin + length(&lines[begin..])).contains(at));
    let searched = (0..lines.len()).filter(|at| edit.function.is_empty() || inside(at));
    let found: Vec<usize> = searched.filter(|&at| lines[at].contains(wanted)).collect();
    let &[at] = &found[..] else { bail!("{wanted:?} is there {} times", found.len()) };
    let mut changed: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    match edit.change {
        Change::Without(_) => drop(changed.remove(at)),
        Change::Instead(from, to) => changed[at] = changed[at].replacen(from, to, 1),
    }
    Ok(changed.join("\n") + "\n")
}

/// How many lines a function has after its first: up to the brace that stands as far to the left.
fn length(lines: &[&str]) -> usize {
    let indent = &lines[0][..lines[0].len() - lines[0].trim_start().len()];
    let is_end = |line: &&str| ["}", "];", "};"].iter().any(|end| **line == format!("{indent}{end}"));
    lines.iter().position(is_end).unwrap_or(0)
}

fn begins(line: &str, function: &str) -> bool {
    let line = line.trim_start();
    let starts = ["fn", "const", "pub fn", "pub const", "pub(crate) fn", "pub(super) fn", "pub const fn"];
    starts.iter().any(|start| {
        let rest = line.strip_prefix(start).and_then(|rest| rest.strip_prefix(' '));
        rest.and_then(|rest| rest.strip_prefix(function)).is_some_and(|rest| rest.starts_with(['(', '<', ':']))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::holes::all;

    const TEXT: &str = "fn one() {\n    a();\n    b();\n}\n\nfn two() {\n    a();\n}\n";

    fn edit(function: &'static str, change: Change) -> Edit {
        Edit { file: "", function, change }
    }

    #[test]
    fn a_line_of_a_function() {
        assert_eq!(
            apply(TEXT, &edit("two", Change::Without("a();"))).unwrap(),
            TEXT.replace("two() {\n    a();", "two() {")
        );
        let instead = apply(TEXT, &edit("one", Change::Instead("b()", "c()"))).unwrap();
        assert_eq!(instead, TEXT.replace("b()", "c()"));
        for (function, line) in [("three", "a();"), ("two", "b();"), ("one", "();")] {
            assert!(apply(TEXT, &edit(function, Change::Without(line))).is_err(), "{function} {line}");
        }
    }

    /// As `variants check`: code that moves takes its hole with it.
    #[test]
    fn every_hole_fits() {
        let tree = Tree::here();
        let wrong: Vec<String> = all().filter_map(|hole| tree.changed(hole).err()).map(|e| format!("{e:#}")).collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = all().map(|hole| hole.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all().count());
    }
}
