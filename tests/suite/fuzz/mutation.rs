//! What is done to valid inputs.

use proptest::{collection::vec, prelude::*, sample::Index};
use serde_json::{Value, json};

/// A change of bytes; places are taken modulo what is there.
#[derive(Debug, Clone)]
pub(super) enum Edit {
    Set(Index, u8),
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, u8),
    /// Copies some bytes to another place.
    Repeat(Index, u8, Index),
    Truncate(Index),
    /// Overwrites four bytes with a big-endian number: lengths are such.
    Length(Index, u32),
}

/// None, mostly, or a few.
pub(super) fn edits() -> impl Strategy<Value = Vec<Edit>> {
    prop_oneof![1 => Just(Vec::new()), 2 => vec(edit(), 1..5)]
}

fn edit() -> impl Strategy<Value = Edit> {
    let odd_length = prop_oneof![Just(0), Just(u32::MAX), Just(1 << 31), Just(16 << 20), any::<u32>(), 0_u32..64];
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        (any::<Index>(), 0_u8..8).prop_map(|(at, bit)| Edit::Flip(at, bit)),
        (any::<Index>(), vec(any::<u8>(), 1..12)).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, length)| Edit::Remove(at, length)),
        (any::<Index>(), any::<u8>(), any::<Index>()).prop_map(|(from, length, to)| Edit::Repeat(from, length, to)),
        any::<Index>().prop_map(Edit::Truncate),
        (any::<Index>(), odd_length).prop_map(|(at, length)| Edit::Length(at, length)),
    ]
}

pub(super) fn apply(edits: &[Edit], bytes: &mut Vec<u8>) {
    for edit in edits {
        if bytes.is_empty() {
            return;
        }
        let len = bytes.len();
        let end = |at: usize, length: u8| (at + usize::from(length)).min(len);
        match edit {
            Edit::Set(at, byte) => bytes[at.index(len)] = *byte,
            Edit::Flip(at, bit) => bytes[at.index(len)] ^= 1 << bit,
            Edit::Insert(at, more) => drop(bytes.splice(at.index(len)..at.index(len), more.iter().copied())),
            Edit::Remove(at, length) => drop(bytes.drain(at.index(len)..end(at.index(len), *length))),
            Edit::Repeat(from, length, to) => {
                let copy = bytes[from.index(len)..end(from.index(len), *length)].to_vec();
                drop(bytes.splice(to.index(len)..to.index(len), copy));
            }
            Edit::Truncate(at) => bytes.truncate(at.index(len)),
            Edit::Length(at, length) => {
                let at = at.index(len);
                let to = end(at, 4);
                bytes[at..to].copy_from_slice(&length.to_be_bytes()[..to - at]);
            }
        }
    }
}

/// A change of a tree of members.
#[derive(Debug, Clone)]
pub(super) enum Graft {
    Replace(Index, Value),
    Remove(Index),
    /// Puts one part of the tree in the place of another.
    Copy(Index, Index),
    /// Wraps it into so many lists.
    Nest(Index, u8),
}

pub(super) fn grafts() -> impl Strategy<Value = Vec<Graft>> {
    prop_oneof![1 => Just(Vec::new()), 3 => vec(graft(), 1..4)]
}

fn graft() -> impl Strategy<Value = Graft> {
    prop_oneof![
        4 => (any::<Index>(), odd_value()).prop_map(|(at, value)| Graft::Replace(at, value)),
        2 => any::<Index>().prop_map(Graft::Remove),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Graft::Copy(from, to)),
        1 => (any::<Index>(), any::<u8>()).prop_map(|(at, depth)| Graft::Nest(at, depth)),
    ]
}

/// What is allowed by the format, and seldom expected.
fn odd_value() -> impl Strategy<Value = Value> {
    let numbers = [0_i64, 1, -1, 2, 5, 24, 8760, 10_000, 10_001, i64::from(i32::MAX), i64::from(i32::MAX) + 1, i64::MAX, i64::MIN];
    let texts = [
        "",
        "0",
        "-1",
        "LATEST",
        "TRIM_HORIZON",
        "AT_TIMESTAMP",
        "AFTER_SEQUENCE_NUMBER",
        "clicks",
        "arn:aws:kinesis:us-east-1:000000000000:stream/clicks",
        "arn:aws:kinesis:us-east-1:000000000000:stream/clicks/consumer/shop:1795262400",
        "shardId-000000000000",
        "shardId-999999999999",
        "340282366920938463463374607431768211455",
        "340282366920938463463374607431768211456",
        "\u{0}",
        "\u{1f600}",
    ];
    prop_oneof![
        prop::sample::select(numbers.to_vec()).prop_map(|number| json!(number)),
        any::<f64>().prop_map(|number| json!(number)),
        prop::sample::select(texts.to_vec()).prop_map(|text| json!(text)),
        "\\PC{0,20}".prop_map(|text| json!(text)),
        (0_usize..300).prop_map(|length| json!("a".repeat(length))),
        (0_usize..60).prop_map(|digits| json!("9".repeat(digits))),
        Just(Value::Null),
        any::<bool>().prop_map(|truth| json!(truth)),
        Just(json!({})),
        Just(json!([])),
        Just(json!([{}, {}])),
    ]
}

pub(super) fn graft_all(grafts: &[Graft], tree: &mut Value) {
    for graft in grafts {
        let size = nodes(tree);
        match graft {
            Graft::Replace(at, value) => *node(tree, at.index(size)) = value.clone(),
            Graft::Remove(at) => remove(tree, at.index(size)),
            Graft::Copy(from, to) => {
                let copy = node(tree, from.index(size)).clone();
                *node(tree, to.index(size)) = copy;
            }
            Graft::Nest(at, depth) => {
                let inner = node(tree, at.index(size));
                for _ in 0..*depth {
                    *inner = Value::Array(vec![inner.take()]);
                }
            }
        }
    }
}

fn nodes(tree: &Value) -> usize {
    1 + match tree {
        Value::Array(items) => items.iter().map(nodes).sum(),
        Value::Object(members) => members.values().map(nodes).sum(),
        _ => 0,
    }
}

/// The node of this number, counted from the root down.
fn node(tree: &mut Value, number: usize) -> &mut Value {
    let Some(mut left) = number.checked_sub(1) else { return tree };
    let children: Vec<&mut Value> = match tree {
        Value::Array(items) => items.iter_mut().collect(),
        Value::Object(members) => members.values_mut().collect(),
        _ => unreachable!("a leaf has no nodes below it"),
    };
    for child in children {
        let size = nodes(child);
        if left < size {
            return node(child, left);
        }
        left -= size;
    }
    unreachable!("the number is that of a node")
}

/// Removes a member of an object; from a list or a leaf there is nothing to remove.
fn remove(tree: &mut Value, number: usize) {
    if let Value::Object(members) = node(tree, number)
        && let Some(name) = members.keys().next_back().cloned()
    {
        members.remove(&name);
    }
}
