//! The state machine: the image, and up to which entry of the log it goes.
//!
//! async-raft skips entries or applies them twice when the leader changes. So what it asks to be
//! applied is taken for nothing but a position, up to which everything is committed: the entries
//! themselves come from this node's own log, in order, each once, under one lock. The image lives
//! in memory; a restart builds it from the snapshot and the log.
//!
//! async-raft swallows a panic in here and goes on behind what it left half done. So a panic is caught, and is
//! a fault like a damaged log: the node stops, and what is half done is neither published nor kept.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_raft::raft::EntryPayload;
use tokio::sync::watch;

use super::codec::{check_version, decode_commands, LogBatch};
use super::log::{Log, LogPosition};
use super::RaftError;
use crate::engine::metadata::{MetadataImage, Proposal};

#[derive(Debug)]
struct Inner {
    image: MetadataImage,
    applied: LogPosition,
    /// An entry was replayed by half.
    is_broken: bool,
}

impl Inner {
    fn check(&self) -> Result<(), RaftError> {
        match self.is_broken {
            true => Err(RaftError::Damaged("the image is half changed".into())),
            false => Ok(()),
        }
    }
}

#[derive(Debug)]
pub(super) struct StateMachine {
    inner: Mutex<Inner>,
    /// The latest metadata version that this node knows.
    metadata_version_max: u16,
    published: watch::Sender<Arc<MetadataImage>>,
    /// The entry at which replay panics, in tests.
    #[cfg(test)]
    pub panics_at: std::sync::atomic::AtomicU64,
}

impl StateMachine {
    /// From a snapshot's image and position. Errs if the image is of a later metadata version than this node knows.
    pub fn new(
        image: MetadataImage,
        applied: LogPosition,
        metadata_version_max: u16,
    ) -> Result<StateMachine, RaftError> {
        check_image(&image, metadata_version_max)?;
        let (published, _) = watch::channel(Arc::new(image.clone()));
        Ok(StateMachine {
            inner: Mutex::new(Inner {
                image,
                applied,
                is_broken: false,
            }),
            metadata_version_max,
            published,
            #[cfg(test)]
            panics_at: Default::default(),
        })
    }

    /// The latest image, whenever there is a new one.
    pub fn images(&self) -> watch::Receiver<Arc<MetadataImage>> {
        self.published.subscribe()
    }

    /// The last entry that is applied.
    pub fn applied(&self) -> u64 {
        self.inner().applied.index
    }

    /// Takes another voter's image, together with what is replaced meanwhile: nothing is applied in between.
    pub fn install(
        &self,
        image: MetadataImage,
        applied: LogPosition,
        replace: impl FnOnce() -> Result<(), RaftError>,
    ) -> Result<(), RaftError> {
        let mut inner = self.inner();
        inner.check()?;
        replace()?;
        inner.image = image;
        inner.applied = applied;
        self.published.send_replace(Arc::new(inner.image.clone()));
        Ok(())
    }

    /// Errs if another node's image is of a later metadata version than this node knows.
    pub fn check(&self, image: &MetadataImage) -> Result<(), RaftError> {
        check_image(image, self.metadata_version_max)
    }

    /// The image and the position that it stands for.
    pub fn image_and_position(&self) -> Result<(MetadataImage, LogPosition), RaftError> {
        let inner = self.inner();
        inner.check()?;
        Ok((inner.image.clone(), inner.applied))
    }

    /// Applies everything up to an entry that is committed. Nothing happens if it is applied
    /// already.
    pub fn apply_up_to(&self, committed: u64, log: &Log) -> Result<(), RaftError> {
        let mut inner = self.inner();
        inner.check()?;
        let before = inner.image.version();
        while inner.applied.index < committed {
            let entry = log.entry(inner.applied.index + 1)?;
            let applied = LogPosition {
                index: entry.index,
                term: entry.term,
            };
            if let EntryPayload::Normal(normal) = entry.payload {
                let replayed = caught(applied, || {
                    #[cfg(test)]
                    self.panic_if_told(applied);
                    replay(&mut inner.image, &normal.data, self.metadata_version_max)
                });
                inner.is_broken = replayed.is_err();
                replayed?;
            }
            inner.applied = applied;
        }
        if inner.image.version() != before {
            self.published.send_replace(Arc::new(inner.image.clone()));
        }
        Ok(())
    }

    #[cfg(test)]
    fn panic_if_told(&self, entry: LogPosition) {
        let told = self.panics_at.load(std::sync::atomic::Ordering::Relaxed);
        assert!(told != entry.index, "replay panics, as it was told");
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An image that isn't bootstrapped is of no version yet.
fn check_image(image: &MetadataImage, metadata_version_max: u16) -> Result<(), RaftError> {
    match image.cluster_id() {
        Some(_) => check_version(image.metadata_version(), metadata_version_max),
        None => Ok(()),
    }
}

/// Changes the image by an entry. After an error it is rubbish.
fn replay(
    image: &mut MetadataImage,
    batch: &LogBatch,
    metadata_version_max: u16,
) -> Result<(), RaftError> {
    for logged in &batch.proposals {
        let proposal = Proposal {
            id: logged.id,
            commands: decode_commands(&logged.commands, metadata_version_max)?,
        };
        image.replay_proposal(&proposal);
    }
    Ok(())
}

fn caught(
    entry: LogPosition,
    replay: impl FnOnce() -> Result<(), RaftError>,
) -> Result<(), RaftError> {
    let panicked = |_| {
        let what = format!("entry {} can't be applied: it panics", entry.index);
        Err(RaftError::Damaged(what))
    };
    catch_unwind(AssertUnwindSafe(replay)).unwrap_or_else(panicked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_fault() {
        let entry = LogPosition { index: 7, term: 1 };
        assert!(caught(entry, || Ok(())).is_ok());
        let panicked = caught(entry, || panic!("of the test"));
        let error = panicked.unwrap_err().to_string();
        assert!(error.contains("entry 7 can't be applied"), "{error}");
    }
}
