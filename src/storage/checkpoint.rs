//! The checkpoint of a log: the small file that says where recovery starts.
//!
//! A log's bytes are synced with each group commit, its checkpoint only every few seconds: a
//! second sync for each commit would cost as much as the first. So the recovery point in the file
//! lies *behind* what is really synced. Recovery scans from there on, and finds the rest.
//! What follows from that:
//!
//! - below the recovery point, a bad checksum is corruption: nothing is cut;
//! - past it, recovery can't tell a torn tail from synced bytes that went bad since, and cuts. So
//!   the window in which a bit flip *together with* a crash goes unnoticed on this replica is the
//!   time between two checkpoints. The other replicas still have the records;
//! - the log start offset of a delete-records request is durable with the next checkpoint.
//!
//! The file is a few lines of text, closed by a checksum, and replaced as a whole. A line `segments stale`
//! says that the log is being begun anew at its start, and what lies beside the file is rubbish.
//!
//! ```text
//! klamm-log-checkpoint 1
//! start-offset 0
//! recovery-point 1200
//! high-watermark 1200
//! producers some
//! clean-to 900
//! segment 1000 1700000000000 1100
//! epoch 0 0
//! epoch 3 900
//! crc32c 1b2d9c4e
//! ```

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::fs::{parent_of, read_all, replace_file, FileSystem};
use super::lease::Lease;
use super::witness::Witness;
use crate::model::{LeaderEpoch, Offset, Timestamp};

/// The name of the file in the log's directory.
pub const CHECKPOINT_FILE: &str = "checkpoint";

const FIRST_LINE: &str = "klamm-log-checkpoint 1";

/// The largest checkpoint that is read: 64 bytes for each of some 100,000 leader epochs.
const CHECKPOINT_BYTES_MAX: usize = 8 << 20;

/// Whether the log knew idempotent producers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Producers {
    /// None, so recovery needs to look for their batches only past the recovery point.
    None,
    Some,
}

/// What the segments beside a checkpoint are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segments {
    /// The log's, as far as they lie above its start.
    Its,
    /// Of what the log was before it was begun anew at its start offset: they are to be removed.
    Stale,
}

/// The largest timestamp of the segment that was appended to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentLargest {
    /// Which segment: its base offset.
    pub segment: Offset,
    pub timestamp: Timestamp,
    /// The base offset of the first batch that has it.
    pub offset: Offset,
}

/// What a checkpoint holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogCheckpoint {
    pub start_offset: Offset,
    /// Everything below it is on disk.
    pub recovery_point: Offset,
    pub high_watermark: Offset,
    pub segments: Segments,
    /// Below it compaction has been at work.
    pub clean_to: Offset,
    pub producers: Producers,
    pub largest: Option<SegmentLargest>,
    /// Each leader epoch with its first offset, ascending.
    pub epochs: Vec<(LeaderEpoch, Offset)>,
}

/// What was found where a checkpoint should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loaded {
    Missing,
    /// It is there, and isn't what was written: the reason.
    Damaged(String),
    Found(LogCheckpoint),
}

impl LogCheckpoint {
    fn encode(&self) -> String {
        let mut text = format!(
            "{FIRST_LINE}\nstart-offset {}\nrecovery-point {}\nhigh-watermark {}\nproducers {}\n",
            self.start_offset,
            self.recovery_point,
            self.high_watermark,
            match self.producers {
                Producers::None => "none",
                Producers::Some => "some",
            },
        );
        if self.segments == Segments::Stale {
            text.push_str("segments stale\n");
        }
        // Writing to a string can't fail.
        if self.clean_to > Offset::ZERO {
            let _ = writeln!(text, "clean-to {}", self.clean_to);
        }
        if let Some(l) = &self.largest {
            let _ = writeln!(text, "segment {} {} {}", l.segment, l.timestamp, l.offset);
        }
        for (epoch, start) in &self.epochs {
            let _ = writeln!(text, "epoch {epoch} {start}");
        }
        let crc = crc32c::crc32c(text.as_bytes());
        let _ = writeln!(text, "crc32c {crc:08x}");
        text
    }

    fn decode(bytes: &[u8]) -> Result<LogCheckpoint, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it isn't text")?;
        let (body, crc) = text
            .strip_suffix('\n')
            .and_then(|t| t.rsplit_once("\ncrc32c "))
            .ok_or("it doesn't end in a checksum")?;
        let body = &text[..body.len() + 1];
        let is = crc32c::crc32c(body.as_bytes());
        if u32::from_str_radix(crc, 16) != Ok(is) {
            return Err(format!("its checksum says {crc}, and its bytes {is:08x}"));
        }
        let mut lines = body.lines();
        if lines.next() != Some(FIRST_LINE) {
            return Err(format!("it doesn't start with {FIRST_LINE:?}"));
        }
        let mut checkpoint = LogCheckpoint {
            start_offset: Offset::NONE,
            recovery_point: Offset::NONE,
            high_watermark: Offset::NONE,
            segments: Segments::Its,
            clean_to: Offset::ZERO,
            producers: Producers::Some,
            largest: None,
            epochs: Vec::new(),
        };
        for line in lines {
            checkpoint.decode_line(line)?;
        }
        let offsets = [checkpoint.start_offset, checkpoint.recovery_point];
        if offsets.contains(&Offset::NONE) || checkpoint.high_watermark == Offset::NONE {
            return Err("an offset is missing".into());
        }
        Ok(checkpoint)
    }

    fn decode_line(&mut self, line: &str) -> Result<(), String> {
        let mut words = line.split(' ');
        let key = words.next().unwrap_or_default();
        let values: Vec<&str> = words.collect();
        let number = |at: usize| -> Result<i64, String> {
            let value = values.get(at).and_then(|v| v.parse::<i64>().ok());
            value.ok_or_else(|| format!("line {line:?} isn't understood"))
        };
        match key {
            "start-offset" => self.start_offset = Offset(number(0)?),
            "recovery-point" => self.recovery_point = Offset(number(0)?),
            "clean-to" => self.clean_to = Offset(number(0)?),
            "high-watermark" => self.high_watermark = Offset(number(0)?),
            "segments" if values == ["stale"] => self.segments = Segments::Stale,
            "producers" if values == ["none"] => self.producers = Producers::None,
            "producers" => self.producers = Producers::Some,
            "segment" => {
                self.largest = Some(SegmentLargest {
                    segment: Offset(number(0)?),
                    timestamp: Timestamp(number(1)?),
                    offset: Offset(number(2)?),
                })
            }
            "epoch" => {
                let epoch = i32::try_from(number(0)?).map_err(|e| e.to_string())?;
                self.epochs.push((LeaderEpoch(epoch), Offset(number(1)?)));
            }
            _ => return Err(format!("line {line:?} isn't understood")),
        }
        Ok(())
    }

    /// Reads the checkpoint in a log's directory.
    pub fn load(fs: &dyn FileSystem, dir: &Path) -> io::Result<Loaded> {
        let bytes = match read_all(fs, &dir.join(CHECKPOINT_FILE)) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Loaded::Missing),
            Err(e) => return Err(e),
        };
        if bytes.len() > CHECKPOINT_BYTES_MAX {
            return Ok(Loaded::Damaged(format!("it has {} bytes", bytes.len())));
        }
        Ok(match Self::decode(&bytes) {
            Ok(checkpoint) => Loaded::Found(checkpoint),
            Err(reason) => Loaded::Damaged(reason),
        })
    }
}

/// Orders the checkpoints of one log: of two that are written at once, the older must not win.
#[derive(Debug, Default)]
pub struct CheckpointOrder {
    /// Locked while one is written.
    written: Mutex<Written>,
}

/// Which checkpoints were written, by their numbers.
#[derive(Debug, Default)]
struct Written {
    newest: u64,
    /// The newest one of those that began the log anew.
    anew: u64,
}

/// One checkpoint to be written, off the arbiter: it waits for the disk twice.
#[derive(Clone, Debug)]
pub struct CheckpointJob {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    checkpoint: LogCheckpoint,
    order: Arc<CheckpointOrder>,
    number: u64,
    /// For a log whose directory isn't known to be on disk.
    first: Option<Witness>,
    _lease: Lease,
}

impl CheckpointJob {
    /// `number` grows with each job of a log. `first` is there until one of them has run.
    pub(super) fn new(
        fs: Arc<dyn FileSystem>,
        dir: PathBuf,
        checkpoint: LogCheckpoint,
        order: Arc<CheckpointOrder>,
        number: u64,
        first: Option<Witness>,
        lease: Lease,
    ) -> CheckpointJob {
        CheckpointJob {
            fs,
            dir,
            checkpoint,
            order,
            number,
            first,
            _lease: lease,
        }
    }

    /// Writes it, unless a newer one was written meanwhile. When it returns, it is on disk, and so
    /// is the name of the directory that holds it: with the first one that comes before, since a
    /// checkpoint that is found says that the directory needs no sync.
    pub fn run(&self) -> io::Result<()> {
        self.write(&mut self.written())
    }

    /// The same, and then removes files that the checkpoint makes rubbish, unless the log was begun anew
    /// since: then they are gone, and others may have their names.
    pub fn run_and_remove(&self, files: &[PathBuf]) -> Result<(), (PathBuf, io::Error)> {
        let mut written = self.written();
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| (path, error)
        };
        self.write(&mut written).map_err(failed(&self.path()))?;
        if written.anew > self.number {
            return Ok(());
        }
        for file in files {
            match self.fs.remove(file) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(file)(e)),
                _ => {}
            }
        }
        Ok(())
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        let written = self.order.written.lock();
        written.unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, written: &mut Written) -> io::Result<()> {
        if written.newest >= self.number {
            return Ok(());
        }
        if self.first.is_some() {
            self.fs.sync_dir(parent_of(&self.dir))?;
        }
        let text = self.checkpoint.encode();
        replace_file(&*self.fs, &self.path(), text.as_bytes())?;
        if let Some(witness) = &self.first {
            witness.write(&*self.fs)?;
        }
        written.newest = self.number;
        if self.checkpoint.segments == Segments::Stale {
            written.anew = self.number;
        }
        Ok(())
    }

    pub fn path(&self) -> PathBuf {
        self.dir.join(CHECKPOINT_FILE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> LogCheckpoint {
        LogCheckpoint {
            start_offset: Offset(5),
            recovery_point: Offset(1200),
            high_watermark: Offset(1100),
            segments: Segments::Its,
            clean_to: Offset(10),
            producers: Producers::None,
            largest: Some(SegmentLargest {
                segment: Offset(1000),
                timestamp: Timestamp(1_700_000_000_000),
                offset: Offset(1100),
            }),
            epochs: vec![(LeaderEpoch(0), Offset(5)), (LeaderEpoch(3), Offset(900))],
        }
    }

    #[test]
    fn a_checkpoint_reads_back_what_was_written() {
        let text = example().encode();
        assert_eq!(LogCheckpoint::decode(text.as_bytes()), Ok(example()));
        let stale = LogCheckpoint {
            segments: Segments::Stale,
            ..example()
        };
        assert_eq!(LogCheckpoint::decode(stale.encode().as_bytes()), Ok(stale));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_of_a_checkpoint_is_noticed() {
        let good = example().encode().into_bytes();
        for at in 0..good.len() {
            assert!(LogCheckpoint::decode(&good[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                // The case of a checksum's digit is the one flip that changes nothing.
                if bad.eq_ignore_ascii_case(&good) {
                    continue;
                }
                assert!(
                    LogCheckpoint::decode(&bad).is_err(),
                    "byte {at}, bit {bit}: {:?}",
                    String::from_utf8_lossy(&bad)
                );
            }
        }
    }
}
