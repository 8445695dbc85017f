//! The messages of D-Bus, byte by byte (dbus.freedesktop.org, D-Bus Specification, Message Protocol).
//!
//! A message is a head and a body. The head says whom it is for, and by its *signature* what the body is made of: `s` a
//! text, `u` a number, `a(sv)` a list of names with values of any kind. Everything begins at a multiple of its own size.
//! An answer names the serial number of the question.

use kernel::Failure;

const CALL: u8 = 1;
const ANSWER: u8 = 2;
const REFUSAL: u8 = 3;
/// No message to us is nearly so long.
const LONGEST: usize = 1 << 20;

/// A value that says itself what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `b`
    Bool(bool),
    /// `i`
    Int32(i32),
    /// `u`
    Uint32(u32),
    /// `x`
    Int64(i64),
    /// `t`
    Uint64(u64),
    /// `s`
    Text(String),
    /// `ay`
    Bytes(Vec<u8>),
    /// `au`
    Numbers(Vec<u32>),
    /// `as`
    Texts(Vec<String>),
}

/// A setting of a unit: its name in systemd's D-Bus interface (man 5 org.freedesktop.systemd1), and its value.
pub type Property = (String, Value);

impl Value {
    fn signature(&self) -> &'static str {
        match self {
            Value::Bool(_) => "b",
            Value::Int32(_) => "i",
            Value::Uint32(_) => "u",
            Value::Int64(_) => "x",
            Value::Uint64(_) => "t",
            Value::Text(_) => "s",
            Value::Bytes(_) => "ay",
            Value::Numbers(_) => "au",
            Value::Texts(_) => "as",
        }
    }

    fn write(&self, to: &mut Bytes) {
        match self {
            Value::Bool(yes) => to.number(&u32::from(*yes).to_le_bytes()),
            Value::Int32(number) => to.number(&number.to_le_bytes()),
            Value::Uint32(number) => to.number(&number.to_le_bytes()),
            Value::Int64(number) => to.number(&number.to_le_bytes()),
            Value::Uint64(number) => to.number(&number.to_le_bytes()),
            Value::Text(text) => to.text(text),
            Value::Bytes(bytes) => to.array(1, |to| to.0.extend(bytes)),
            Value::Numbers(all) => to.array(4, |to| all.iter().for_each(|number| to.number(&number.to_le_bytes()))),
            Value::Texts(all) => to.array(4, |to| all.iter().for_each(|text| to.text(text))),
        }
    }
}

// ANCHOR: bytes
/// Bytes of a message, being written, in the order of x86 and arm (the head says so: `l`, little).
#[derive(Debug, Default, Clone)]
struct Bytes(Vec<u8>);

impl Bytes {
    /// Up to where something of this size may begin.
    fn align(&mut self, size: usize) {
        self.0.resize(self.0.len().next_multiple_of(size), 0);
    }

    fn number(&mut self, bytes: &[u8]) {
        self.align(bytes.len());
        self.0.extend(bytes);
    }

    /// Its length, itself, and a NUL that does not count.
    fn text(&mut self, text: &str) {
        self.number(&(text.len() as u32).to_le_bytes());
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    /// The same for a signature, whose length is one byte.
    fn signature(&mut self, text: &str) {
        self.0.push(text.len() as u8);
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    /// The length counts neither itself nor what is left empty before the first element.
    fn array(&mut self, alignment: usize, fill: impl FnOnce(&mut Bytes)) {
        self.number(&[0; 4]);
        let length = self.0.len() - 4;
        self.align(alignment);
        let start = self.0.len();
        fill(self);
        let count = (self.0.len() - start) as u32;
        self.0[length..length + 4].copy_from_slice(&count.to_le_bytes());
    }
}
// ANCHOR_END: bytes

/// A body, being written, with its signature.
#[derive(Debug, Default, Clone)]
pub struct Body {
    signature: String,
    bytes: Bytes,
}

impl Body {
    /// Adds a value.
    pub fn with(mut self, value: &Value) -> Body {
        self.signature.push_str(value.signature());
        value.write(&mut self.bytes);
        self
    }

    /// Adds a text.
    pub fn text(self, text: &str) -> Body {
        self.with(&Value::Text(text.to_owned()))
    }

    /// Adds a list of properties.
    pub fn properties(mut self, properties: &[Property]) -> Body {
        self.signature.push_str("a(sv)");
        self.bytes.array(8, |to| {
            for (name, value) in properties {
                to.align(8);
                to.text(name);
                to.signature(value.signature());
                value.write(to);
            }
        });
        self
    }

    /// Adds an empty list of other units.
    pub fn no_units(mut self) -> Body {
        self.signature.push_str("a(sa(sv))");
        self.bytes.array(8, |_| {});
        self
    }
}

/// The service that is called, and the method.
#[derive(Debug, Clone, Copy)]
pub struct Method<'a> {
    /// The service's name on the bus.
    pub service: &'a str,
    /// Which of its objects.
    pub object: &'a str,
    /// Which of the object's interfaces.
    pub interface: &'a str,
    /// Which of its methods.
    pub name: &'a str,
}

/// A question, as it goes over the wire.
pub fn encode_call(serial: u32, method: &Method, body: &Body) -> Vec<u8> {
    let mut head = Bytes(vec![b'l', CALL, 0, 1]);
    head.number(&(body.bytes.0.len() as u32).to_le_bytes());
    head.number(&serial.to_le_bytes());
    head.array(8, |fields| {
        let all =
            [(1, "o", method.object), (2, "s", method.interface), (3, "s", method.name), (6, "s", method.service)];
        for (code, kind, text) in all {
            fields.align(8);
            fields.0.push(code);
            fields.signature(kind);
            fields.text(text);
        }
        if !body.signature.is_empty() {
            fields.align(8);
            fields.0.push(8);
            fields.signature("g");
            fields.signature(&body.signature);
        }
    });
    head.align(8);
    head.0.extend(&body.bytes.0);
    head.0
}

/// A message to us.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    kind: u8,
    /// The serial number of the question that it answers.
    answers: u32,
    /// A signal's name.
    pub name: String,
    /// A refusal's name.
    pub refusal: String,
    signature: String,
    body: Vec<u8>,
}

impl Message {
    /// The first message in what was heard; `None` until it is whole.
    ///
    /// # Errors
    /// It is none.
    pub fn first_of(heard: &mut Vec<u8>) -> Result<Option<Message>, Failure> {
        if heard.len() < 16 {
            return Ok(None);
        }
        let malformed = || Failure::new("systemd's answer is no D-Bus message");
        let mut head = Reader { bytes: heard, at: 4 };
        let length = head.uint32().ok_or_else(malformed)? as usize;
        head.at = 12;
        let fields = head.uint32().ok_or_else(malformed)? as usize;
        let start = fields.checked_add(16).ok_or_else(malformed)?.next_multiple_of(8);
        if heard[0] != b'l' || heard[3] != 1 || length > LONGEST || fields > LONGEST {
            return Err(malformed());
        }
        if heard.len() < start + length {
            return Ok(None);
        }
        let whole: Vec<u8> = heard.drain(..start + length).collect();
        let mut message = Message { kind: whole[1], body: whole[start..].to_vec(), ..Message::default() };
        message.read_fields(&whole[..16 + fields]).ok_or_else(malformed)?;
        Ok(Some(message))
    }

    /// A field is a code, and a value that says what it is; each begins at a multiple of eight.
    fn read_fields(&mut self, head: &[u8]) -> Option<()> {
        let mut reader = Reader { bytes: head, at: 16 };
        while reader.at < head.len() {
            reader.align(8);
            let code = reader.byte()?;
            match (reader.signature()?, code) {
                ("u", 5) => self.answers = reader.uint32()?,
                ("u", _) => drop(reader.uint32()?),
                ("g", 8) => self.signature = reader.signature()?.to_owned(),
                ("s", 3) => self.name = reader.text()?.to_owned(),
                ("s", 4) => self.refusal = reader.text()?.to_owned(),
                ("s" | "o", _) => drop(reader.text()?),
                _ => return None,
            }
        }
        Some(())
    }

    /// Whether it is the answer to this question, or its refusal.
    pub fn is_answer_to(&self, serial: u32) -> bool {
        self.answers == serial && [ANSWER, REFUSAL].contains(&self.kind)
    }

    /// The texts in its body, as far as it begins with texts and numbers.
    pub fn texts(&self) -> Vec<&str> {
        let mut reader = Reader { bytes: &self.body, at: 0 };
        let mut texts = Vec::new();
        for kind in self.signature.bytes() {
            let read = match kind {
                b's' | b'o' => reader.text().map(|text| texts.push(text)),
                b'u' | b'i' | b'b' => reader.uint32().map(drop),
                _ => None,
            };
            if read.is_none() {
                break;
            }
        }
        texts
    }
}

/// Bytes of a message, being read. `None`: they end too soon.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn align(&mut self, size: usize) {
        self.at = self.at.next_multiple_of(size);
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn uint32(&mut self) -> Option<u32> {
        self.align(4);
        self.take(4).map(|bytes| u32::from_le_bytes(bytes.try_into().expect("they are four")))
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = self.uint32()? as usize;
        let text = self.take(length)?;
        self.take(1)?;
        std::str::from_utf8(text).ok()
    }

    fn signature(&mut self) -> Option<&'a str> {
        let length = self.byte()?.into();
        let text = self.take(length)?;
        self.take(1)?;
        std::str::from_utf8(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METHOD: Method = Method { service: "a.b", object: "/a", interface: "a.b", name: "Do" };

    /// Field by field, as the specification has it.
    #[test]
    fn a_question_byte_by_byte() {
        let body = Body::default().text("hi").properties(&[("P".to_owned(), Value::Uint64(258))]);
        let parts: [&[u8]; 13] = [
            b"l\x01\0\x01",                         // little, a call, no flags, version 1
            b"\x28\0\0\0\x07\0\0\0",                // 40 bytes of body; the seventh question
            b"\x4c\0\0\0",                          // 76 bytes of fields:
            b"\x01\x01o\0\x02\0\0\0/a\0\0\0\0\0\0", // the object
            b"\x02\x01s\0\x03\0\0\0a.b\0\0\0\0\0",  // the interface
            b"\x03\x01s\0\x02\0\0\0Do\0\0\0\0\0\0", // the method
            b"\x06\x01s\0\x03\0\0\0a.b\0\0\0\0\0",  // the service
            b"\x08\x01g\0\x06sa(sv)\0\0\0\0\0",     // the signature
            b"\x02\0\0\0hi\0\0",                    // a text
            b"\x18\0\0\0\0\0\0\0",                  // a list of 24 bytes, which begin at a multiple of 8:
            b"\x01\0\0\0P\0",                       // a name,
            b"\x01t\0\0\0\0\0\0\0\0",               // what its value is,
            b"\x02\x01\0\0\0\0\0\0",                // and the value
        ];
        assert_eq!(encode_call(7, &METHOD, &body), parts.concat());
    }

    #[test]
    fn values_say_what_they_are() {
        let bytes = |value: Value| Body::default().with(&value).bytes.0;
        assert_eq!(bytes(Value::Bool(true)), [1, 0, 0, 0]);
        assert_eq!(bytes(Value::Int32(-1)), [255; 4]);
        assert_eq!(bytes(Value::Int64(-2))[..2], [254, 255]);
        assert_eq!(bytes(Value::Bytes(vec![7, 8])), [2, 0, 0, 0, 7, 8]);
        assert_eq!(bytes(Value::Numbers(vec![9])), [4, 0, 0, 0, 9, 0, 0, 0]);
        assert_eq!(bytes(Value::Texts(vec!["a".to_owned()])), *b"\x06\0\0\0\x01\0\0\0a\0");
        assert_eq!(Body::default().text("").no_units().signature, "sa(sa(sv))");
    }

    /// A signal such as systemd sends: like a question, but of another kind.
    fn signal() -> Vec<u8> {
        let body = Body::default().with(&Value::Uint32(3)).text("/job/3").text("x.scope").text("done");
        let mut bytes = encode_call(9, &Method { name: "JobRemoved", ..METHOD }, &body);
        bytes[1] = 4;
        bytes
    }

    #[test]
    fn messages_come_in_pieces() {
        let whole = [signal(), signal()].concat();
        let mut heard = Vec::new();
        let mut taken = Vec::new();
        for byte in whole {
            heard.push(byte);
            taken.extend(Message::first_of(&mut heard).unwrap());
        }
        assert!(heard.is_empty() && taken.len() == 2 && taken[0] == taken[1]);
        assert_eq!((taken[0].name.as_str(), taken[0].texts()), ("JobRemoved", vec!["/job/3", "x.scope", "done"]));
        assert!(!taken[0].is_answer_to(0));
    }

    #[test]
    fn nonsense_is_refused() {
        for at in 0..16 {
            let mut heard = signal();
            heard[at] = 0xff;
            let _ = Message::first_of(&mut heard); // whatever it is, it is no panic
        }
        for (at, byte) in [(0, b'B'), (3, 2), (7, 0xff), (15, 0xff), (17, 9), (18, b'v')] {
            let mut heard = signal();
            heard[at] = byte;
            assert!(Message::first_of(&mut heard).is_err(), "{at}");
        }
    }
}
