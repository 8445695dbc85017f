//! A page of the book as a reader types it: its commands, block by block, and what is said of them in the source.
//!
//! An `sh` block holds lines with `$ ` or `# ` before them. A `console` block includes snapshots, which hold commands of
//! that form, what they print, and `[exit status N]` where that is not 0. An HTML comment before a block, which no reader
//! sees, says what the commands alone do not tell:
//!
//! ```text
//! <!-- typed: terminal 2; ends 0, 126 -->
//! ```
//!
//! - `terminal 2`: the page asks for a second terminal;
//! - `ends 0, 126`: the exit status of each command, where not all are 0;
//! - `stays until COMMAND`: the last command goes on running. It is up when COMMAND succeeds, and the next block at
//!   that terminal presses Ctrl-C first;
//! - `PID is COMMAND`: what a reader fills in for the word PID, as that command prints it;
//! - `needs WHAT`: on machines that have it (see [`Block::needs`]);
//! - `slow`: in `scripts/test --soak` only;
//! - `left out, REASON`: never typed by a test.

use std::fs;
use std::path::Path;

use crate::lab::workspace;

/// A block of commands.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Block {
    /// Where it stands: the line of its fence.
    pub line: usize,
    /// Its commands, without their prompts.
    pub commands: Vec<String>,
    /// At which terminal it is typed: 1, where nothing else is said.
    pub terminal: usize,
    /// The exit status of each command; empty: all are 0.
    pub ends: Vec<i32>,
    /// The last command goes on running, and this one tells when it is up.
    pub stays_until: Option<String>,
    /// This command prints what a reader fills in for the word PID.
    pub pid: Option<String>,
    /// What only some machines have: `debian` (that root filesystem, with python3), `podman`.
    pub needs: Option<String>,
    /// Takes longer than a reader of test results waits.
    pub is_slow: bool,
    /// The mark says how the commands end: what a snapshot says is from another moment.
    is_marked: bool,
    /// Why no test types it.
    pub left_out: Option<String>,
}

/// The blocks of a chapter, `book/src/NAME.md`.
///
/// # Panics
/// A mark is not in the list above, or stands before no block; a line of a block has no prompt.
pub fn blocks(name: &str) -> Vec<Block> {
    let file = Path::new("book/src").join(name).with_extension("md");
    let text =
        fs::read_to_string(workspace().join(&file)).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let include = |path: &str| fs::read_to_string(workspace().join("book/src").join(path)).unwrap_or_default();
    parse(&text, include).unwrap_or_else(|fault| panic!("{}:{fault}", file.display()))
}

/// The blocks in a text; `include` gives the text of a snapshot, by its path from book/src.
fn parse(text: &str, include: impl Fn(&str) -> String) -> Result<Vec<Block>, String> {
    let (mut found, mut mark, mut inside) = (Vec::new(), None, None::<Block>);
    for (line, text) in text.lines().enumerate().map(|(at, text)| (at + 1, text.trim_start_matches(['>', ' ']))) {
        let at = |fault: String| format!("{line}: {fault}");
        if let Some(block) = &mut inside {
            if text.starts_with("```") {
                found.extend(inside.take().filter(|block| !block.commands.is_empty()));
            } else if let Some(path) = text.strip_prefix("{{#include ") {
                block.take_snapshot(&include(path.split(':').next().unwrap_or_default()));
            } else if let Some(command) = command(text) {
                block.commands.push(command.to_owned());
            } else if !text.is_empty() {
                return Err(at(format!("neither $ nor # stands before it: {text}")));
            }
        } else if let Some(words) = text.strip_prefix("<!-- typed: ").and_then(|rest| rest.strip_suffix(" -->")) {
            mark = Some(read_mark(words).map_err(at)?);
        } else if text == "```sh" || text == "```console" {
            let known = mark.take().unwrap_or_else(|| Block { terminal: 1, ..Block::default() });
            inside = Some(Block { line, ..known });
        } else if mark.is_some() && !text.is_empty() {
            return Err(at("a mark stands right before its block".to_owned()));
        }
    }
    found.iter().try_for_each(|block: &Block| {
        let fits = block.ends.is_empty() || block.ends.len() == block.commands.len();
        if fits { Ok(()) } else { Err(format!("{}: `ends` has one number for each command", block.line)) }
    })?;
    Ok(found)
}

/// What stands behind a prompt.
fn command(line: &str) -> Option<&str> {
    line.strip_prefix("$ ").or_else(|| line.strip_prefix("# "))
}

impl Block {
    /// The commands of a snapshot, whose own head has three lines.
    fn take_snapshot(&mut self, text: &str) {
        let mut ends = Vec::new();
        for line in text.lines().skip(3) {
            if let Some(command) = command(line) {
                self.commands.push(command.to_owned());
                ends.push(0);
            } else if let Some(status) = line.strip_prefix("[exit status ").and_then(|rest| rest.strip_suffix(']'))
                && let (Some(last), Ok(status)) = (ends.last_mut(), status.parse())
            {
                *last = status;
            }
        }
        if !self.is_marked {
            self.ends.extend(ends);
        }
    }
}

fn read_mark(words: &str) -> Result<Block, String> {
    let mut block = Block { terminal: 1, ..Block::default() };
    for word in words.split("; ") {
        let (name, value) = word.split_once(' ').unwrap_or((word, ""));
        let number = |text: &str| text.parse().map_err(|_| format!("not a number: {text}"));
        match name.trim_end_matches(',') {
            "terminal" => block.terminal = number(value)? as usize,
            "ends" => {
                block.ends = value.split(", ").map(number).collect::<Result<_, _>>()?;
                block.is_marked = true;
            }
            "stays" => block.stays_until = Some(value.trim_start_matches("until ").to_owned()),
            "PID" => block.pid = Some(value.trim_start_matches("is ").to_owned()),
            "needs" => block.needs = Some(value.to_owned()),
            "slow" => block.is_slow = true,
            "left" => block.left_out = Some(value.trim_start_matches("out, ").to_owned()),
            _ => return Err(format!("no such mark: {word}")),
        }
    }
    Ok(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_and_what_is_said_of_it() {
        let text =
            "Words.\n\n<!-- typed: terminal 2; ends 0, 126; slow -->\n```sh\n$ one\n# two\n```\n```sh\n$ three\n```\n";
        let found = parse(text, |_| String::new()).unwrap();
        let [first, second] = &found[..] else { panic!("{found:?}") };
        assert_eq!((first.line, first.terminal, first.is_slow), (4, 2, true));
        assert_eq!((&first.commands[..], &first.ends[..]), (&["one".to_owned(), "two".to_owned()][..], &[0, 126][..]));
        assert_eq!((second.terminal, second.commands.len(), &second.ends[..]), (1, 1, &[][..]));
    }

    #[test]
    fn the_commands_of_a_snapshot() {
        let snapshot = "---\nsource: x\n---\n$ one\nwords\n$ two\nno\n[exit status 125]\n";
        let text = "```console\n{{#include ../a.snap:4:}}\n{{#include ../b.snap:4:}}\n```\n";
        let found = parse(text, |path| if path == "../a.snap" { snapshot.to_owned() } else { String::new() }).unwrap();
        assert_eq!(
            (&found[0].commands[..], &found[0].ends[..]),
            (&["one".to_owned(), "two".to_owned()][..], &[0, 125][..])
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, fault) in [
            ("```sh\necho\n```\n", "2: neither $ nor #"),
            ("<!-- typed: sometimes -->\n", "1: no such mark: sometimes"),
            ("<!-- typed: slow -->\nWords.\n", "2: a mark stands right before"),
            ("<!-- typed: ends 1 -->\n```sh\n$ a\n$ b\n```\n", "2: `ends` has one number"),
        ] {
            let found = parse(text, |_| String::new()).unwrap_err();
            assert!(found.starts_with(fault), "{found}");
        }
    }
}
