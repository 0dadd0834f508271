//! How an entry lies in the store: cut into parts under keys of its own, since the store takes small values only.

use std::collections::BTreeMap;

use async_raft::raft::Entry;

use crate::raft::codec::{encode, LogBatch};
use crate::raft::RaftError;
use crate::storage::meta::{MetaBatch, VALUE_BYTES_MAX};

/// Followed by index (8 bytes) and part (2 bytes).
pub(super) const PREFIX_ENTRY: u8 = b'l';

/// What is known of an entry without reading it.
#[derive(Clone, Copy, Debug)]
pub(super) struct EntryInfo {
    pub term: u64,
    pub parts: u16,
    pub bytes: u32,
}

/// Has a batch put entries, which must follow each other from an index on.
pub(super) fn put_entries(
    batch: &mut MetaBatch,
    first: u64,
    entries: &[Entry<LogBatch>],
) -> Result<BTreeMap<u64, EntryInfo>, RaftError> {
    let mut added = BTreeMap::new();
    for (expected, entry) in (first..).zip(entries) {
        if entry.index != expected {
            let what = format!("entry {} stands where {expected} belongs", entry.index);
            return Err(RaftError::Damaged(what));
        }
        let bytes = encode(entry)?;
        let mut parts = 0;
        for (part, chunk) in (0..).zip(bytes.chunks(VALUE_BYTES_MAX)) {
            batch.put(&entry_key(entry.index, part), chunk.to_vec());
            parts = part + 1;
        }
        let info = EntryInfo {
            term: entry.term,
            parts,
            bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
        };
        added.insert(entry.index, info);
    }
    Ok(added)
}

pub(super) fn bytes_of<'a>(entries: impl Iterator<Item = &'a EntryInfo>) -> u64 {
    entries.map(|info| u64::from(info.bytes)).sum()
}

pub(super) fn entry_key(index: u64, part: u16) -> Vec<u8> {
    let mut key = vec![PREFIX_ENTRY];
    key.extend_from_slice(&index.to_be_bytes());
    key.extend_from_slice(&part.to_be_bytes());
    key
}

pub(super) fn parse_key(key: &[u8]) -> Result<(u64, u16), RaftError> {
    let strange = || RaftError::Damaged(format!("the key {key:02x?} is strange"));
    let (index, part) = key
        .get(1..)
        .and_then(|k| k.split_first_chunk::<8>())
        .ok_or_else(strange)?;
    let part: [u8; 2] = part.try_into().map_err(|_| strange())?;
    Ok((u64::from_be_bytes(*index), u16::from_be_bytes(part)))
}

pub(super) fn keys_of(entries: &BTreeMap<u64, EntryInfo>) -> Vec<Vec<u8>> {
    let keys = |(index, info): (&u64, &EntryInfo)| {
        let index = *index;
        (0..info.parts).map(move |part| entry_key(index, part))
    };
    entries.iter().flat_map(keys).collect()
}
