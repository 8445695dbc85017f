//! From a position in a JSON text to the path of what stands there: `process.rlimits[2].soft`.
//!
//! The parser tells line and column of what it could not take. One walk over the text up to there is all that the path
//! needs; it is made for failures only, so a good configuration does not pay for it.

use std::fmt::Write;

/// Where in an object or a list the walk is.
enum Step {
    /// At this field; `None` before its name was read.
    Field(Option<String>),
    /// At this element.
    Element(usize),
}

/// The path of what ends at `offset`; empty for the whole text.
pub fn path_at(text: &[u8], offset: usize) -> String {
    let end = offset.min(text.len());
    let mut steps = Vec::new();
    let mut at = 0;
    while at < end {
        match text[at] {
            b'{' => steps.push(Step::Field(None)),
            b'[' => steps.push(Step::Element(0)),
            b'}' | b']' => drop(steps.pop()),
            b',' => next(&mut steps),
            b'"' => {
                let length = string_length(&text[at..]);
                note_field(&mut steps, &text[at..at + length]);
                at += length - 1;
            }
            _ => {}
        }
        at += 1;
    }
    render(&steps)
}

/// The position in bytes of a line, counted from 1, and a column.
pub fn offset(text: &[u8], line: usize, column: usize) -> usize {
    let before: usize = text.split_inclusive(|&byte| byte == b'\n').take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    before + column
}

/// One more step of a path: a dot and a name, or a name in quotes where dots in it could mislead.
pub fn push_field(path: &mut String, name: &str) {
    let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    let written = match plain {
        true if path.is_empty() => write!(path, "{name}"),
        true => write!(path, ".{name}"),
        false => write!(path, "[{name:?}]"),
    };
    written.expect("a string takes all");
}

fn next(steps: &mut [Step]) {
    match steps.last_mut() {
        Some(Step::Element(index)) => *index += 1,
        Some(Step::Field(name)) => *name = None,
        None => {}
    }
}

/// Bytes of the string that starts here, both quotes counted.
fn string_length(text: &[u8]) -> usize {
    let mut at = 1;
    while at < text.len() {
        match text[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

/// A string in an object is a field's name, unless the field has one.
fn note_field(steps: &mut [Step], quoted: &[u8]) {
    if let Some(Step::Field(name @ None)) = steps.last_mut() {
        let unescaped = serde_json::from_slice(quoted);
        *name = Some(unescaped.unwrap_or_else(|_| String::from_utf8_lossy(quoted).into_owned()));
    }
}

fn render(steps: &[Step]) -> String {
    let mut path = String::new();
    for step in steps {
        match step {
            Step::Field(Some(name)) => push_field(&mut path, name),
            Step::Field(None) => {}
            Step::Element(index) => write!(path, "[{index}]").expect("a string takes all"),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The path at the mark in the text.
    fn path(marked: &str) -> String {
        let offset = marked.find('@').expect("a mark");
        path_at(marked.replace('@', "").as_bytes(), offset)
    }

    #[test]
    fn paths() {
        assert_eq!(path(r#"{"process": {"rlimits": [{"soft": 1}, {"soft": "x"@}]}}"#), "process.rlimits[1].soft");
        assert_eq!(path(r#"{"process": {"args": []}@}"#), "process");
        assert_eq!(path(r#"{"process": {@"args": []}}"#), "process");
        assert_eq!(path(r#"{"a": [[1, 2], [3, 4@]]}"#), "a[1][1]");
        assert_eq!(path(r#"{"a": "},]{\"[", "b": "x"@}"#), "b");
        assert_eq!(path(r#"{"net.a": {"b": "x"@}}"#), r#"["net.a"].b"#);
        assert_eq!(path("@"), "");
    }

    #[test]
    fn any_offset_of_any_text() {
        let text = br#"{"a": ["\"}", {"b\\": [1, {}]}], "c": "unended \"#;
        for offset in 0..text.len() + 3 {
            path_at(text, offset);
            path_at(&text[offset.min(text.len())..], offset);
        }
    }

    #[test]
    fn offsets() {
        assert_eq!(offset(b"ab\ncd\n", 2, 1), 4);
        assert_eq!(offset(b"", 1, 0), 0);
        assert_eq!(offset(b"ab", 9, 9), 11);
    }
}
