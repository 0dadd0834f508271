//! Snapshots: the image on disk as of an entry, so that the log below it can be cut.
//!
//! A snapshot is written in chunks under a generation of its own; a small record that names the
//! generation and the position makes it count. So state and position change together, and a crash
//! at any moment leaves the old snapshot or the new one.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use super::codec::{decode, encode};
use super::log::LogPosition;
use super::RaftError;
use crate::engine::metadata::MetadataImage;
use crate::storage::meta::{MetaBatch, MetaTree, VALUE_BYTES_MAX};

const KEY_CURRENT: &[u8] = b"c";
/// Followed by generation (8 bytes) and chunk (4 bytes).
const PREFIX_CHUNK: u8 = b's';

/// The record that makes a snapshot count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Current {
    generation: u64,
    index: u64,
    term: u64,
    chunks: u32,
    bytes: u64,
}

/// A snapshot, read back.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub image: MetadataImage,
    pub position: LogPosition,
    /// Its size on disk.
    pub bytes: u64,
}

/// A snapshot that is on disk and doesn't count yet.
#[derive(Debug)]
pub(super) struct Prepared(Current);

impl Prepared {
    /// Has it count, once the batch is on disk.
    pub fn count(&self, batch: &mut MetaBatch) -> Result<(), RaftError> {
        batch.put(KEY_CURRENT, encode(&self.0)?);
        Ok(())
    }
}

#[derive(Debug)]
pub(super) struct Snapshots {
    tree: MetaTree,
}

impl Snapshots {
    pub fn new(tree: MetaTree) -> Snapshots {
        Snapshots { tree }
    }

    /// The latest snapshot; the empty image at the log's beginning if there is none. Removes what
    /// a crash has left of others.
    pub fn load(&self) -> Result<Snapshot, RaftError> {
        let Some(current) = self.current()? else {
            self.remove_all_but(None)?;
            return Ok(Snapshot::default());
        };
        let reader = ChunkReader {
            tree: &self.tree,
            current,
            next: 0,
            chunk: io::Cursor::new(Vec::new()),
        };
        let image = rmp_serde::from_read(reader)
            .map_err(|error| RaftError::Damaged(format!("the snapshot can't be read: {error}")))?;
        self.remove_all_but(Some(current.generation))?;
        Ok(Snapshot {
            image,
            position: LogPosition {
                index: current.index,
                term: current.term,
            },
            bytes: current.bytes,
        })
    }

    /// Writes a snapshot and returns its size when it is on disk and counts. Blocks.
    pub fn write(&self, image: &MetadataImage, position: LogPosition) -> Result<u64, RaftError> {
        let written = self.prepare(image, position)?;
        let mut batch = MetaBatch::default();
        written.count(&mut batch)?;
        self.tree.apply(batch)?;
        self.tree.flush()?;
        self.settle(written)
    }

    /// Puts a snapshot on disk, which doesn't count yet. Blocks.
    pub fn prepare(
        &self,
        image: &MetadataImage,
        position: LogPosition,
    ) -> Result<Prepared, RaftError> {
        let before = self.current()?;
        let generation = before.map_or(1, |current| current.generation + 1);
        let mut writer = ChunkWriter {
            tree: &self.tree,
            generation,
            chunks: 0,
            bytes: 0,
            chunk: Vec::with_capacity(VALUE_BYTES_MAX),
        };
        let mut serializer = rmp_serde::Serializer::new(&mut writer).with_struct_map();
        let failed = |error: &dyn std::fmt::Display| {
            RaftError::Damaged(format!("the snapshot can't be written: {error}"))
        };
        image.serialize(&mut serializer).map_err(|e| failed(&e))?;
        writer.flush().map_err(|e| failed(&e))?;
        let current = Current {
            generation,
            index: position.index,
            term: position.term,
            chunks: writer.chunks,
            bytes: writer.bytes,
        };
        self.tree.flush()?;
        Ok(Prepared(current))
    }

    /// Removes the one before, when this one counts. Returns its size.
    pub fn settle(&self, Prepared(current): Prepared) -> Result<u64, RaftError> {
        self.remove_all_but(Some(current.generation))?;
        Ok(current.bytes)
    }

    fn current(&self) -> Result<Option<Current>, RaftError> {
        let bytes = self.tree.get(KEY_CURRENT)?;
        bytes
            .map(|bytes| decode("the snapshot's record", &bytes))
            .transpose()
    }

    fn remove_all_but(&self, generation: Option<u64>) -> Result<(), RaftError> {
        let kept = generation.map(|generation| chunk_key(generation, 0)[..9].to_vec());
        let mut batch = MetaBatch::default();
        for entry in self.tree.scan_prefix(&[PREFIX_CHUNK]) {
            let (key, _) = entry?;
            if !kept.as_ref().is_some_and(|kept| key.starts_with(kept)) {
                batch.remove(&key);
            }
        }
        Ok(self.tree.apply(batch)?)
    }
}

fn chunk_key(generation: u64, chunk: u32) -> [u8; 13] {
    let mut key = [PREFIX_CHUNK; 13];
    key[1..9].copy_from_slice(&generation.to_be_bytes());
    key[9..].copy_from_slice(&chunk.to_be_bytes());
    key
}

/// Cuts what is written to it into chunks.
struct ChunkWriter<'a> {
    tree: &'a MetaTree,
    generation: u64,
    chunks: u32,
    bytes: u64,
    chunk: Vec<u8>,
}

impl Write for ChunkWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(VALUE_BYTES_MAX - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..len]);
        if self.chunk.len() == VALUE_BYTES_MAX {
            self.flush()?;
        }
        Ok(len)
    }

    /// Puts the chunk as it is.
    fn flush(&mut self) -> io::Result<()> {
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(VALUE_BYTES_MAX));
        if chunk.is_empty() {
            return Ok(());
        }
        self.bytes += chunk.len() as u64;
        let mut batch = MetaBatch::default();
        batch.put(&chunk_key(self.generation, self.chunks), chunk);
        self.chunks += 1;
        self.tree.apply(batch).map_err(io::Error::other)
    }
}

/// Joins the chunks.
struct ChunkReader<'a> {
    tree: &'a MetaTree,
    current: Current,
    next: u32,
    chunk: io::Cursor<Vec<u8>>,
}

impl Read for ChunkReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.chunk.read(buf)?;
        if len > 0 || buf.is_empty() || self.next == self.current.chunks {
            return Ok(len);
        }
        let key = chunk_key(self.current.generation, self.next);
        let chunk = self.tree.get(&key).map_err(io::Error::other)?;
        let missing = || io::Error::other(format!("chunk {} is missing", self.next));
        self.chunk = io::Cursor::new(chunk.ok_or_else(missing)?);
        self.next += 1;
        self.chunk.read(buf)
    }
}
