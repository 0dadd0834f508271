//! The metadata store: a small keyed store on disk for this node's metadata and Raft log.
//!
//! It is sled 0.34.7, kept on a short leash. sled writes back when it likes, so nothing counts as
//! written before [`MetaStore::flush`] has returned; sled's own flush doesn't reach through the
//! disk's cache, so a `sync_data` on its file follows. After a failed flush nobody knows what is on
//! disk: the store refuses everything from then on, and the node has to start anew and read what
//! is there.
//!
//! Values stay far below sled's segment size of 512 KiB, because larger ones become files of their
//! own with other guarantees: [`MetaTree::put_chunked`] and [`MetaTree::chunks`] cut and join.
//! Partition records never go here.

use std::fs::File;
use std::io;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use thiserror::Error;

/// What sled may keep in memory.
const CACHE_BYTES: u64 = 4 << 20;
/// The largest value that is accepted, in bytes: an eighth of a segment of sled's.
pub const VALUE_BYTES_MAX: usize = 64 << 10;

/// What can go wrong with the store.
#[derive(Debug, Error)]
pub enum MetaError {
    #[error(
        "the metadata store in {} is corrupt ({reason}): this node's copy of the cluster's metadata \
         is lost, and with it which topics its log directories belong to; the records are untouched. \
         Restore the directory from a backup, or let the node copy the metadata of the other voters; \
         don't just delete it",
        dir.display()
    )]
    Corrupt { dir: PathBuf, reason: String },
    #[error("the metadata store in {} is in use by another process", dir.display())]
    InUse { dir: PathBuf },
    #[error("the metadata store in {}: {source}", dir.display())]
    Io { dir: PathBuf, source: io::Error },
    #[error("a value of {bytes} bytes is larger than the metadata store takes")]
    ValueTooLarge { bytes: usize },
    #[error("the metadata store has failed before and takes nothing until it is opened anew")]
    Failed,
}

/// An open store; clones share it. It is released when the last clone and the last of its trees
/// is dropped.
#[derive(Clone, Debug)]
pub struct MetaStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    db: sled::Db,
    /// The file that sled writes, for syncing it.
    file: File,
    dir: PathBuf,
    failed: AtomicBool,
}

/// One named set of keys in a store.
#[derive(Clone, Debug)]
pub struct MetaTree {
    tree: sled::Tree,
    shared: Arc<Shared>,
}

/// Changes of one tree that are made together or not at all, also in a crash.
#[derive(Debug, Default)]
pub struct MetaBatch {
    batch: sled::Batch,
    bytes: usize,
    largest: usize,
}

impl MetaStore {
    /// Opens the store in the directory, or makes one.
    pub fn open(dir: &Path) -> Result<MetaStore, MetaError> {
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None)
            .mode(sled::Mode::LowSpace);
        // sled panics on some damage instead of reporting it.
        let opened = catch_unwind(AssertUnwindSafe(|| config.open()));
        let db = match opened {
            Ok(Ok(db)) => db,
            Ok(Err(error)) => return Err(open_error(dir, error)),
            Err(_) => {
                return Err(MetaError::Corrupt {
                    dir: dir.into(),
                    reason: "sled can't read it".into(),
                })
            }
        };
        let io_error = |source| MetaError::Io {
            dir: dir.into(),
            source,
        };
        let file = File::options().read(true).write(true).open(dir.join("db"));
        let shared = Shared {
            db,
            file: file.map_err(io_error)?,
            dir: dir.into(),
            failed: AtomicBool::new(false),
        };
        // The directory's own entries (`db`, `conf`) must survive a power failure too.
        let synced = File::open(dir).and_then(|d| d.sync_all());
        synced.map_err(io_error)?;
        Ok(MetaStore {
            shared: Arc::new(shared),
        })
    }

    /// Opens the tree of that name, or makes one.
    pub fn tree(&self, name: &str) -> Result<MetaTree, MetaError> {
        self.shared.check()?;
        let tree = self.shared.db.open_tree(name);
        Ok(MetaTree {
            tree: tree.map_err(|error| self.shared.fail(error))?,
            shared: self.shared.clone(),
        })
    }

    /// Returns when everything that was applied before is on disk. Blocks for as long as the disk
    /// takes.
    pub fn flush(&self) -> Result<(), MetaError> {
        self.shared.flush()
    }

    /// What the store takes on disk, in bytes.
    pub fn size_on_disk(&self) -> Result<u64, MetaError> {
        let size = self.shared.db.size_on_disk();
        size.map_err(|error| self.shared.fail(error))
    }

    /// From now on everything fails, as if the disk had.
    #[cfg(test)]
    pub fn break_for_test(&self) {
        self.shared.failed.store(true, Ordering::SeqCst);
    }
}

impl Shared {
    fn check(&self) -> Result<(), MetaError> {
        if self.failed.load(Ordering::SeqCst) {
            return Err(MetaError::Failed);
        }
        Ok(())
    }

    fn fail(&self, error: sled::Error) -> MetaError {
        self.failed.store(true, Ordering::SeqCst);
        open_error(&self.dir, error)
    }

    fn flush(&self) -> Result<(), MetaError> {
        self.check()?;
        self.db.flush().map_err(|error| self.fail(error))?;
        self.file.sync_data().map_err(|source| {
            self.failed.store(true, Ordering::SeqCst);
            MetaError::Io {
                dir: self.dir.clone(),
                source,
            }
        })?;
        self.check()
    }
}

/// sled's errors in our words.
fn open_error(dir: &Path, error: sled::Error) -> MetaError {
    let dir = dir.to_path_buf();
    match error {
        sled::Error::Io(source) if source.to_string().contains("could not acquire lock") => {
            MetaError::InUse { dir }
        }
        sled::Error::Io(source) => MetaError::Io { dir, source },
        other => MetaError::Corrupt {
            dir,
            reason: other.to_string(),
        },
    }
}

impl MetaBatch {
    pub fn put(&mut self, key: &[u8], value: Vec<u8>) {
        self.bytes += key.len() + value.len();
        self.largest = self.largest.max(value.len());
        self.batch.insert(key, value);
    }

    pub fn remove(&mut self, key: &[u8]) {
        self.batch.remove(key);
    }

    /// How many bytes of keys and values it puts.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl MetaTree {
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, MetaError> {
        self.shared.check()?;
        let value = self
            .tree
            .get(key)
            .map_err(|error| self.shared.fail(error))?;
        Ok(value.map(|value| value.to_vec()))
    }

    /// The keys that begin with the prefix and their values, in order.
    pub fn scan_prefix(
        &self,
        prefix: &[u8],
    ) -> impl DoubleEndedIterator<Item = Result<(Vec<u8>, Vec<u8>), MetaError>> + '_ {
        let entries = self.tree.scan_prefix(prefix);
        entries.map(|entry| self.entry(entry))
    }

    /// The keys from one to below another and their values, in order.
    pub fn range(
        &self,
        from: &[u8],
        to: &[u8],
    ) -> impl DoubleEndedIterator<Item = Result<(Vec<u8>, Vec<u8>), MetaError>> + '_ {
        let entries = self.tree.range(from..to);
        entries.map(|entry| self.entry(entry))
    }

    fn entry(
        &self,
        entry: sled::Result<(sled::IVec, sled::IVec)>,
    ) -> Result<(Vec<u8>, Vec<u8>), MetaError> {
        self.shared.check()?;
        let (key, value) = entry.map_err(|error| self.shared.fail(error))?;
        Ok((key.to_vec(), value.to_vec()))
    }

    /// Makes the changes together. They are on disk only after [`MetaTree::flush`].
    pub fn apply(&self, batch: MetaBatch) -> Result<(), MetaError> {
        self.shared.check()?;
        if batch.largest > VALUE_BYTES_MAX {
            return Err(MetaError::ValueTooLarge {
                bytes: batch.largest,
            });
        }
        let applied = self.tree.apply_batch(batch.batch);
        applied.map_err(|error| self.shared.fail(error))
    }

    /// As [`MetaStore::flush`].
    pub fn flush(&self) -> Result<(), MetaError> {
        self.shared.flush()
    }
}
