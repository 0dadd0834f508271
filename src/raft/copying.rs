//! All that a voter has, on its way to another node, in parts.
//!
//! It goes to whoever can't be brought up to date by entries: a voter's new copy of the metadata, a voter that
//! was away while the others have cut their logs, and a node without a vote that is as far behind. The image
//! stands for all that was committed up to its position; one entry goes along, because async-raft wants to see
//! the one after which it appends.

use std::sync::Arc;

use async_raft::NodeId;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::codec::{decode, encode};
use super::log::LogPosition;
use super::network::Speaker;
use super::rpc::{LogEntry, Part, Reply, Request};
use super::storage::Storage;
use super::RaftError;
use crate::engine::metadata::MetadataImage;

/// How many bytes of a copy go into one message.
const PART_BYTES: usize = 512 * 1024;
/// A copy isn't larger: the metadata of a million partitions are a few hundred megabytes.
const COPY_BYTES_MAX: u64 = 1 << 30;

/// What is committed, as another node takes it over.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StateCopy {
    pub image: MetadataImage,
    /// Of the image, and of the last entry.
    pub position: LogPosition,
    /// After which the entries come.
    pub beginning: LogPosition,
    pub entries: Vec<LogEntry>,
}

/// Whose state is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A leader's, with all that was committed before it was asked for.
    Latest,
    /// Anybody's, after which there are entries to go on with.
    Committed,
}

/// Brings a copy from a voter. `None` if it has none to give now, or doesn't answer; errs if what it gives can't
/// be read.
pub(super) async fn fetch(
    speaker: &Speaker,
    voter: NodeId,
    wanted: Wanted,
) -> Result<Option<StateCopy>, RaftError> {
    match parts(speaker, voter, wanted).await {
        Some(bytes) => decode("another voter's metadata", &bytes).map(Some),
        None => Ok(None),
    }
}

async fn parts(speaker: &Speaker, voter: NodeId, wanted: Wanted) -> Option<Vec<u8>> {
    let mut bytes: Vec<u8> = Vec::new();
    let mut copy = None;
    loop {
        let part = Part {
            offset: bytes.len() as u64,
            of: copy,
        };
        let asked = match wanted {
            Wanted::Latest => Request::Copy(part),
            Wanted::Committed => Request::State(part),
        };
        let Ok(Reply::Copied { total, chunk, of }) = speaker.call(voter, asked).await else {
            return None;
        };
        let is_strange = chunk.is_empty() && total > bytes.len() as u64;
        let is_another = copy.is_some_and(|copy| copy != of);
        if total > COPY_BYTES_MAX || is_strange || is_another {
            log::error!(
                "voter {voter} has {total} bytes of metadata to copy, and sends other ones"
            );
            return None;
        }
        copy = Some(of);
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 >= total {
            return Some(bytes);
        }
    }
}

/// A copy that is being handed out.
#[derive(Clone, Debug)]
pub(super) struct Copying {
    /// The position's index, by which its parts are told from those of another one.
    of: u64,
    bytes: Bytes,
}

impl Copying {
    pub fn new(copy: &StateCopy) -> Result<Copying, RaftError> {
        Ok(Copying {
            of: copy.position.index,
            bytes: encode(copy)?.into(),
        })
    }

    /// The part from there on.
    fn part(&self, offset: u64) -> Reply {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let from = from.min(self.bytes.len());
        let to = (from + PART_BYTES).min(self.bytes.len());
        Reply::Copied {
            total: self.bytes.len() as u64,
            chunk: self.bytes.slice(from..to),
            of: self.of,
        }
    }

    fn is_over(&self, offset: u64) -> bool {
        offset.saturating_add(PART_BYTES as u64) >= self.bytes.len() as u64
    }
}

/// The copies that this voter hands out: one at a time, which all get who come while it is there.
#[derive(Debug)]
pub(super) struct Copies {
    storage: Arc<Storage>,
    current: Mutex<Option<Copying>>,
}

impl Copies {
    pub fn new(storage: Arc<Storage>) -> Copies {
        Copies {
            storage,
            current: Mutex::default(),
        }
    }

    /// A part of a copy, which is made if it is the first one. All parts are of the same moment: one of a copy
    /// that isn't there any more is refused.
    pub async fn part(&self, part: Part, wanted: Wanted) -> anyhow::Result<Reply> {
        let mut current = self.current.lock().await;
        if part.of.is_none() {
            let floor = self.storage.log().floor().index;
            let serves = |copying: &Copying| wanted == Wanted::Committed && copying.of >= floor;
            if !current.as_ref().is_some_and(serves) {
                *current = Some(self.storage.copy().await?);
            }
        }
        let is_meant = |copying: &&Copying| part.of.is_none_or(|of| of == copying.of);
        let Some(copying) = current.as_ref().filter(is_meant) else {
            return Ok(Reply::NotNow);
        };
        let reply = copying.part(part.offset);
        if copying.is_over(part.offset) {
            *current = None;
        }
        Ok(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_goes_in_parts() {
        let copying = Copying {
            of: 7,
            bytes: vec![7; PART_BYTES + 1].into(),
        };
        let part = |offset| match copying.part(offset) {
            Reply::Copied { total, chunk, of } => (total, chunk.len(), of),
            other => panic!("{other:?}"),
        };
        let total = PART_BYTES as u64 + 1;
        assert_eq!(part(0), (total, PART_BYTES, 7));
        assert_eq!(part(PART_BYTES as u64), (total, 1, 7));
        assert_eq!(part(u64::MAX), (total, 0, 7));
        assert!(!copying.is_over(0) && copying.is_over(PART_BYTES as u64));
    }
}
