//! The metadata store: a small keyed store on disk for this node's metadata and Raft log.
//!
//! It is sled 0.34.7, kept on a short leash. sled writes back when it likes, so nothing counts as
//! written before [`MetaStore::flush`] has returned; sled's own flush doesn't reach through the
//! disk's cache, so a `sync_data` on its file follows. After a failed flush nobody knows what is on
//! disk: the store refuses everything from then on, and the node has to start anew and read what
//! is there.
//!
//! At open sled silently drops what follows a damaged message of its log. `mark` makes that show.
//!
//! Values stay far below sled's segment size of 512 KiB, because larger ones become files of their
//! own with other guarantees; whoever has more cuts it. Partition records never go here.

use std::fs::File;
use std::io;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use thiserror::Error;

use mark::{Found, Mark};

mod mark;
#[cfg(test)]
mod tests;

/// What sled may keep in memory.
const CACHE_BYTES: u64 = 4 << 20;
/// How long, and how often, a lock that another handle may be about to give up is asked for.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(1);
const RELEASE_POLL: Duration = Duration::from_millis(10);
/// Where the number of the last flush is kept.
const TREE_FLUSHES: &str = "flushes";
const KEY_FLUSHES: &[u8] = b"n";
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
    flushes: Mutex<Flushes>,
}

/// See [`mark`].
#[derive(Debug)]
struct Flushes {
    tree: sled::Tree,
    begun: u64,
    mark: Mark,
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
        let db = open_released(dir)?;
        let io_error = |source| MetaError::Io {
            dir: dir.into(),
            source,
        };
        let flushes = open_flushes(dir, &db)?;
        let file = File::options().read(true).write(true).open(dir.join("db"));
        let shared = Shared {
            db,
            file: file.map_err(io_error)?,
            dir: dir.into(),
            failed: AtomicBool::new(false),
            flushes: Mutex::new(flushes),
        };
        // The directory's own entries (`db`, `conf`, `mark`) must survive a power failure too.
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
        let number = {
            let mut flushes = self.flushes();
            flushes.begun += 1;
            let number = flushes.begun;
            let numbered = flushes.tree.insert(KEY_FLUSHES, &number.to_be_bytes());
            numbered.map_err(|error| self.fail(error))?;
            number
        };
        self.db.flush().map_err(|error| self.fail(error))?;
        self.file
            .sync_data()
            .map_err(|error| self.fail(error.into()))?;
        let marked = self.flushes().mark.raise(number);
        marked.map_err(|error| self.fail(error.into()))?;
        self.check()
    }

    fn flushes(&self) -> MutexGuard<'_, Flushes> {
        self.flushes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Compares what sled holds with what was acknowledged.
fn open_flushes(dir: &Path, db: &sled::Db) -> Result<Flushes, MetaError> {
    let corrupt = |reason| MetaError::Corrupt {
        dir: dir.into(),
        reason,
    };
    let io_error = |error: io::Error| open_error(dir, error.into());
    let sled_error = |error| open_error(dir, error);
    let tree = db.open_tree(TREE_FLUSHES).map_err(sled_error)?;
    let held = tree.get(KEY_FLUSHES).map_err(sled_error)?;
    let held = match held.as_deref().map(<[u8; 8]>::try_from) {
        None => 0,
        Some(Ok(bytes)) => u64::from_be_bytes(bytes),
        Some(Err(_)) => return Err(corrupt("the number of its last flush is strange".into())),
    };
    let mark = match Mark::open(dir).map_err(io_error)? {
        Found::Mark(mark) if mark.flushes() <= held => mark,
        Found::Mark(mark) => {
            let flushes = mark.flushes();
            let reason = format!("{flushes} flushes were acknowledged, and it holds {held}");
            return Err(corrupt(reason));
        }
        Found::Nothing if held == 0 => Mark::create(dir).map_err(io_error)?,
        Found::Nothing => return Err(corrupt(format!("its file {:?} is gone", mark::FILE_NAME))),
        Found::Damaged => {
            return Err(corrupt(format!(
                "its file {:?} can't be read",
                mark::FILE_NAME
            )))
        }
    };
    Ok(Flushes {
        tree,
        begun: held,
        mark,
    })
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

/// Opens sled. Its threads give up the lock of a store that was closed in this process a moment
/// after the last handle is dropped, so a lock that is held is asked for again for a while.
fn open_released(dir: &Path) -> Result<sled::Db, MetaError> {
    let deadline = Instant::now() + RELEASE_TIMEOUT;
    loop {
        match open_sled(dir) {
            Err(MetaError::InUse { .. }) if Instant::now() < deadline => {
                std::thread::sleep(RELEASE_POLL);
            }
            opened => return opened,
        }
    }
}

fn open_sled(dir: &Path) -> Result<sled::Db, MetaError> {
    let config = sled::Config::new()
        .path(dir)
        .cache_capacity(CACHE_BYTES)
        .flush_every_ms(None)
        .mode(sled::Mode::LowSpace);
    // sled panics on some damage instead of reporting it.
    match catch_unwind(AssertUnwindSafe(|| config.open())) {
        Ok(opened) => opened.map_err(|error| open_error(dir, error)),
        Err(_) => Err(MetaError::Corrupt {
            dir: dir.into(),
            reason: "sled can't read it".into(),
        }),
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
