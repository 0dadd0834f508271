//! The state machine: the image, and up to which entry of the log it goes.
//!
//! async-raft skips entries or applies them twice when the leader changes. So what it asks to be
//! applied is taken for nothing but a position, up to which everything is committed: the entries
//! themselves come from this node's own log, in order, each once, under one lock. The image lives
//! in memory; a restart builds it from the snapshot and the log.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_raft::raft::EntryPayload;
use tokio::sync::watch;

use super::codec::decode;
use super::log::{Log, LogPosition};
use super::RaftError;
use crate::engine::metadata::{MetadataImage, Proposal};

#[derive(Debug)]
struct Inner {
    image: MetadataImage,
    applied: LogPosition,
}

#[derive(Debug)]
pub(super) struct StateMachine {
    inner: Mutex<Inner>,
    published: watch::Sender<Arc<MetadataImage>>,
}

impl StateMachine {
    /// From a snapshot's image and position.
    pub fn new(image: MetadataImage, applied: LogPosition) -> StateMachine {
        let (published, _) = watch::channel(Arc::new(image.clone()));
        StateMachine {
            inner: Mutex::new(Inner { image, applied }),
            published,
        }
    }

    /// The latest image, whenever there is a new one.
    pub fn images(&self) -> watch::Receiver<Arc<MetadataImage>> {
        self.published.subscribe()
    }

    /// The last entry that is applied.
    pub fn applied(&self) -> u64 {
        self.inner().applied.index
    }

    /// The image and the position that it stands for.
    pub fn image_and_position(&self) -> (MetadataImage, LogPosition) {
        let inner = self.inner();
        (inner.image.clone(), inner.applied)
    }

    /// Applies everything up to an entry that is committed. Nothing happens if it is applied
    /// already.
    pub fn apply_up_to(&self, committed: u64, log: &Log) -> Result<(), RaftError> {
        let mut inner = self.inner();
        let before = inner.image.version();
        while inner.applied.index < committed {
            let entry = log.entry(inner.applied.index + 1)?;
            if let EntryPayload::Normal(normal) = entry.payload {
                for logged in normal.data.proposals {
                    let commands = decode("a metadata command", &logged.commands)?;
                    let proposal = Proposal {
                        id: logged.id,
                        commands,
                    };
                    inner.image.replay_proposal(&proposal);
                }
            }
            inner.applied = LogPosition {
                index: entry.index,
                term: entry.term,
            };
        }
        if inner.image.version() != before {
            self.published.send_replace(Arc::new(inner.image.clone()));
        }
        Ok(())
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
