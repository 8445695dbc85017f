//! The members of nftables' sets, read and changed by messages of our own: that costs less than a program's start.

use std::collections::BTreeSet;

use anyhow::Result;
use kernel::Errno;
use kernel::sys::netlink::{Answer, Message, Netlink, every};

const BRIDGE: u8 = libc::NFPROTO_BRIDGE as u8;
const GENERIC_HEAD: usize = 4; // struct nfgenmsg
const TABLE: u16 = 1; // NFTA_SET_ELEM_LIST_TABLE
const SET: u16 = 2; // NFTA_SET_ELEM_LIST_SET
const ELEMENTS: u16 = 3; // NFTA_SET_ELEM_LIST_ELEMENTS
const ELEMENT: u16 = 1; // NFTA_LIST_ELEM
const KEY: u16 = 1; // NFTA_SET_ELEM_KEY
const VALUE: u16 = 1; // NFTA_DATA_VALUE

/// A member, as the kernel compares it: each part of it padded to four bytes.
pub type Key = Vec<u8>;

/// A set of a table for frames, with the members that it is to have.
#[derive(Debug)]
pub struct Set {
    /// Its name.
    pub name: &'static str,
    /// Its members.
    pub keys: BTreeSet<Key>,
}

/// Gives the sets of a table exactly these members: what is missing is added, what is too much is removed.
///
/// # Shell: `nft add element bridge TABLE SET { ... }; nft delete element bridge TABLE SET { ... }`
pub fn fill(table: &str, sets: &[Set]) -> Result<()> {
    let mut changes = Vec::new();
    for set in sets {
        let there = keys(table, set.name)?.unwrap_or_default();
        changes.extend(there.difference(&set.keys).cloned().map(|key| Change { set: set.name, add: false, key }));
        changes.extend(set.keys.difference(&there).cloned().map(|key| Change { set: set.name, add: true, key }));
    }
    // A socket takes about a thousand at once.
    for part in changes.chunks(500) {
        let text = format_args!("NFT_MSG_NEWSETELEM table={table}, {} members changed", part.len());
        Netlink::netfilter()?.ask_together(text, batch(table, part))?;
    }
    Ok(())
}

/// A member to add or to remove.
struct Change {
    set: &'static str,
    add: bool,
    key: Key,
}

/// The members of a set; `None` if there is no such set.
///
/// # Shell: `nft list set bridge TABLE NAME`
pub fn keys(table: &str, name: &str) -> Result<Option<BTreeSet<Key>>> {
    let question = Message::question(kind(libc::NFT_MSG_GETSETELEM), &head()).text(TABLE, table).text(SET, name);
    match Netlink::netfilter()?.ask(format_args!("NFT_MSG_GETSETELEM table={table} set={name}"), question) {
        Err(missing) if missing.errno() == Some(Errno::ENOENT) => Ok(None),
        answers => Ok(Some(answers?.iter().flat_map(read_keys).collect())),
    }
}

fn read_keys(answer: &Answer) -> Vec<Key> {
    let elements = answer.attribute(GENERIC_HEAD, ELEMENTS).unwrap_or_default();
    let value = |element| every(every(element, KEY).next()?, VALUE).next().map(<[u8]>::to_vec);
    every(elements, ELEMENT).filter_map(value).collect()
}

/// The orders of some changes, between a begin and an end that are messages too.
fn batch(table: &str, changes: &[Change]) -> Vec<Message> {
    let bound = |kind: i32| {
        let [high, low] = (libc::NFNL_SUBSYS_NFTABLES as u16).to_be_bytes();
        Message::part(kind as u16, 0, &[libc::AF_UNSPEC as u8, 0, high, low])
    };
    let mut batch = vec![bound(libc::NFNL_MSG_BATCH_BEGIN)];
    for (at, change) in changes.iter().enumerate() {
        let (order, flags) =
            if change.add { (libc::NFT_MSG_NEWSETELEM, libc::NLM_F_CREATE) } else { (libc::NFT_MSG_DELSETELEM, 0) };
        let is_last = at + 1 == changes.len();
        let message = if is_last { Message::order } else { Message::part };
        let key = |element: Message| element.nest(KEY, &[], |data| data.attribute(VALUE, &change.key));
        let message = message(kind(order), flags, &head()).text(TABLE, table).text(SET, change.set);
        batch.push(message.nest(ELEMENTS, &[], |list| list.nest(ELEMENT, &[], key)));
    }
    batch.push(bound(libc::NFNL_MSG_BATCH_END));
    batch
}

fn kind(message: i32) -> u16 {
    (libc::NFNL_SUBSYS_NFTABLES << 8 | message) as u16
}

/// The fixed part (struct nfgenmsg): the family, a version, and nothing.
fn head() -> [u8; GENERIC_HEAD] {
    [BRIDGE, 0, 0, 0]
}
