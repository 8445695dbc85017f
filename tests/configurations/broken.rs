//! Broken configurations: valid ones in which some places have another value, are missing, or are there twice; and texts that are
//! damaged.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

/// What happens to one place of a configuration.
#[derive(Debug, Clone)]
pub enum Damage {
    /// It gets this value.
    Value(Value),
    /// It is gone.
    Gone,
    /// If it is in a list: it is there twice.
    Twice,
    /// If it has a name: that is written in capitals.
    Renamed,
}

/// A damage, and which of all places it is done to.
pub type Hit = (Index, Damage);

/// Values of every type, most of which fit nowhere.
pub fn values() -> Vec<Value> {
    let mut nested = json!([]);
    (0..40).for_each(|_| nested = json!([nested.take()]));
    vec![
        Value::Null,
        json!(true),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(1e300),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(1_u64 << 32),
        json!(""),
        json!("x"),
        json!("\0"),
        json!("/a\0b"),
        json!("A=\0"),
        json!("/nosuch/../.\n"),
        json!("\u{e4}\u{202e}"),
        json!("x".repeat(70_000)),
        json!([]),
        json!([""]),
        json!([null]),
        json!({}),
        json!({"": ""}),
        json!({"path": "x", "type": 3}),
        nested,
    ]
}

/// Damages at some places.
pub fn hits(most: usize) -> impl Strategy<Value = Vec<Hit>> {
    let damage = prop_oneof![
        6 => select(values()).prop_map(Damage::Value),
        2 => Just(Damage::Gone),
        1 => Just(Damage::Twice),
        1 => Just(Damage::Renamed),
    ];
    proptest::collection::vec((any::<Index>(), damage), 1..=most)
}

/// The configuration with these damages. `spares` tells by its pointer which place stays as it is.
pub fn damaged(config: &Value, hits: &[Hit], spares: impl Fn(&str) -> bool) -> Value {
    let mut config = config.clone();
    for (index, damage) in hits {
        let mut places = Vec::new();
        collect(&config, "", &mut places);
        places.retain(|place| !spares(place));
        if !places.is_empty() {
            hit(&mut config, &places[index.index(places.len())], damage);
        }
    }
    config
}

/// The pointers of all places below this one.
fn collect(value: &Value, at: &str, places: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(key, child)| (key.clone(), child)).collect(),
        Value::Array(entries) => entries.iter().enumerate().map(|(key, child)| (key.to_string(), child)).collect(),
        _ => return,
    };
    for (key, child) in children {
        let place = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
        collect(child, &place, places);
        places.push(place);
    }
}

fn hit(config: &mut Value, place: &str, damage: &Damage) {
    let (parent, key) = place.rsplit_once('/').expect("a pointer begins with a slash");
    let key = key.replace("~1", "/").replace("~0", "~");
    match (config.pointer_mut(parent), damage) {
        (Some(Value::Object(fields)), Damage::Value(value)) => drop(fields.insert(key, value.clone())),
        (Some(Value::Object(fields)), Damage::Gone) => drop(fields.remove(&key)),
        (Some(Value::Object(fields)), Damage::Renamed) => {
            let value = fields.remove(&key).expect("the place is there");
            fields.insert(key.to_uppercase(), value);
        }
        (Some(Value::Array(entries)), damage) => {
            let index: usize = key.parse().expect("an index");
            match damage {
                Damage::Value(value) => entries[index] = value.clone(),
                Damage::Gone => drop(entries.remove(index)),
                Damage::Twice | Damage::Renamed => entries.insert(index, entries[index].clone()),
            }
        }
        _ => {} // nothing is there twice in an object
    }
}

/// What happens to a text: it ends early, or these bytes take the place of others.
pub fn damaged_text(text: &str, end: Option<Index>, bytes: &[(Index, u8)]) -> Vec<u8> {
    let mut text = text.as_bytes().to_vec();
    for (index, byte) in bytes {
        let place = index.index(text.len());
        text[place] = *byte;
    }
    if let Some(end) = end {
        text.truncate(end.index(text.len()));
    }
    text
}
