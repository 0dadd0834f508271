//! Opening a log, whatever the last run left behind.
//!
//! All segments below the recovery point are taken as they are, once their last batches are seen to
//! lead to the next segment: their checksums are compared when they are read. From the recovery
//! point on each batch is checked. The first that isn't whole ends the log: it and all that follows
//! is the tail that no sync had covered, and is cut. What isn't whole *below* the recovery point was
//! on disk once: that is corruption, nothing is cut, and the log doesn't open.
//!
//! What was scanned is synced, and the checkpoint says so: the next start doesn't scan it again, and
//! what goes bad of it from now on is corruption. After a clean stop the recovery point is the end,
//! so there is nothing to scan; it is the same way for both.

mod segments;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::segments::{Ended, Scanned};
use super::begin_anew::remove_all_segments;
use super::compaction::{CancelOnDrop, Leftovers};
use super::epochs::LeaderEpochs;
use super::index::{Entry, OffsetEntry, TimeEntry};
use super::producer_snapshots::load_producers;
use super::producer_state::ProducerState;
use super::segment::{base_of, segment_path, Active, Sealed, LOG_SUFFIX, SNAPSHOT_SUFFIX};
use super::sync::Unsynced;
use super::{bounded, Log, LogConfig, LogError, Shutdown};
use crate::model::{Offset, Timestamp};
use crate::storage::checkpoint::{Loaded, LogCheckpoint, Producers, Segments, CHECKPOINT_FILE};
use crate::storage::fs::{File, FileSystem, TEMPORARY_SUFFIX};
use crate::storage::lease::Lease;
use crate::storage::witness::{LogHome, Witness};

/// What recovery goes by.
struct Recovery {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    witness: Witness,
    config: LogConfig,
    now: Timestamp,
    /// Everything below it was synced.
    recovery_point: Offset,
    /// Whether what is bad past the recovery point may be cut.
    tail: Tail,
    epochs: LeaderEpochs,
    checkpoint: Option<LogCheckpoint>,
    /// Files with bytes past the recovery point, to be synced.
    unsynced_files: Vec<Arc<dyn File>>,
    /// Whether names in the directory were changed.
    names_changed: bool,
    lease: Lease,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Tail {
    MayBeCut,
    /// The checkpoint is damaged, for the reason given: what was synced isn't known.
    MustBeWhole(String),
}

impl Log {
    /// Opens the log in its home, or makes one; refused where its witness says that it must be
    /// there, and it isn't.
    ///
    /// `Err(Corrupt)` names the file and the position of the first bytes that aren't what was
    /// synced: the partition is offline then, and nothing has been changed.
    ///
    /// `lease` is dropped with the log or the last of its jobs, whichever ends later.
    pub fn open(
        fs: Arc<dyn FileSystem>,
        home: &LogHome,
        config: LogConfig,
        last: Shutdown,
        now: Timestamp,
        lease: Lease,
    ) -> Result<Log, LogError> {
        let dir = &*home.dir;
        let witness = find_witness(&*fs, home)?;
        fs.create_dir_all(dir)
            .map_err(LogError::storage("create", dir))?;
        let names = fs.list(dir).map_err(LogError::storage("list", dir))?;
        let mut segments: Vec<Offset> = names
            .iter()
            .filter_map(|name| base_of(name, LOG_SUFFIX))
            .collect();
        segments.sort_unstable();
        let loaded = LogCheckpoint::load(&*fs, dir)
            .map_err(LogError::storage("read", &dir.join(CHECKPOINT_FILE)))?;
        let closed_at = match &loaded {
            Loaded::Found(checkpoint) => checkpoint.recovery_point,
            _ => Offset::ZERO,
        };
        let (checkpoint, tail) = known_of(loaded, &segments, witness);
        let are_stale = |c: &LogCheckpoint| c.segments == Segments::Stale;
        if checkpoint.as_ref().is_some_and(are_stale) {
            remove_all_segments(&*fs, dir)?;
            segments.clear();
        }
        let mut recovery = Recovery {
            fs,
            dir: dir.to_owned(),
            witness: home.witness.clone(),
            config: bounded(config),
            now,
            recovery_point: first_of(&segments),
            tail,
            epochs: LeaderEpochs::default(),
            checkpoint: None,
            unsynced_files: Vec::new(),
            names_changed: false,
            lease,
        };
        if let Some(checkpoint) = checkpoint {
            recovery.go_by(checkpoint);
        }
        recovery.remove_rubbish(&names)?;
        recovery.remove_deleted_segments(&mut segments)?;
        let log = recovery.run(segments)?;
        if last == Shutdown::Clean && log.end_offset != closed_at {
            let dir = dir.display();
            log::warn!(
                "{dir} ends at {}, and was closed at {closed_at}",
                log.end_offset
            );
        }
        Ok(log)
    }
}

fn first_of(segments: &[Offset]) -> Offset {
    segments.first().copied().unwrap_or(Offset::ZERO)
}

/// Looks for the witness. Where it is, the directory must be, and not empty.
fn find_witness<'a>(fs: &dyn FileSystem, home: &'a LogHome) -> Result<Option<&'a Path>, LogError> {
    let failed = |e| LogError::storage("look at", &home.dir)(e);
    let witness = home.witness.find(fs).map_err(failed)?;
    match witness {
        Some(witness) if !home.has_log(fs).map_err(failed)? => Err(LogError::Vanished {
            dir: home.dir.clone(),
            witness: witness.to_owned(),
        }),
        _ => Ok(witness),
    }
}

/// What the checkpoint says, and what follows from that for the tail.
fn known_of(
    loaded: Loaded,
    segments: &[Offset],
    witness: Option<&Path>,
) -> (Option<LogCheckpoint>, Tail) {
    let may_be_new = segments.len() <= 1 && first_of(segments) == Offset::ZERO;
    match loaded {
        Loaded::Found(checkpoint) => (Some(checkpoint), Tail::MayBeCut),
        // A log's checkpoint comes with its first sync, and then its witness: this one never had any.
        Loaded::Missing if may_be_new && witness.is_none() => (None, Tail::MayBeCut),
        Loaded::Missing => (None, Tail::MustBeWhole("is missing".into())),
        Loaded::Damaged(reason) => (None, Tail::MustBeWhole(format!("is damaged ({reason})"))),
    }
}

impl Recovery {
    fn go_by(&mut self, checkpoint: LogCheckpoint) {
        self.recovery_point = checkpoint.recovery_point;
        self.epochs = LeaderEpochs::new(checkpoint.epochs.clone());
        self.epochs.truncate_end(self.recovery_point);
        self.checkpoint = Some(checkpoint);
    }

    fn start_offset(&self) -> Offset {
        self.checkpoint
            .as_ref()
            .map_or(Offset::ZERO, |c| c.start_offset)
    }

    /// Removes what was being written or removed when the last run ended.
    fn remove_rubbish(&mut self, names: &[String]) -> Result<(), LogError> {
        for name in names {
            if name.ends_with(&format!(".{TEMPORARY_SUFFIX}")) || name.ends_with(".deleted") {
                self.remove(&self.dir.join(name))?;
            }
        }
        Ok(())
    }

    fn remove(&mut self, path: &Path) -> Result<(), LogError> {
        self.names_changed = true;
        match self.fs.remove(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(LogError::storage("remove", path)(e))
            }
            _ => Ok(()),
        }
    }

    /// Where compaction made one segment of several and was cut off, the others are still there: they
    /// begin before `end`, up to which the one before them reaches.
    fn remove_merged(&mut self, later: &mut Vec<Offset>, end: Offset) -> Result<(), LogError> {
        while later.first().is_some_and(|base| *base < end) {
            let base = later.remove(0);
            self.remove_segment(base)?;
            self.remove(&segment_path(&self.dir, base, SNAPSHOT_SUFFIX))?;
        }
        Ok(())
    }

    fn remove_segment(&mut self, base: Offset) -> Result<(), LogError> {
        for suffix in [LOG_SUFFIX, OffsetEntry::SUFFIX, TimeEntry::SUFFIX] {
            self.remove(&segment_path(&self.dir, base, suffix))?;
        }
        Ok(())
    }

    /// Segments that end at or below the start were deleted; their files should have gone.
    fn remove_deleted_segments(&mut self, segments: &mut Vec<Offset>) -> Result<(), LogError> {
        let start = self.start_offset();
        while segments.len() > 1 && segments[1] <= start {
            // It may reach beyond those after it: then these are what is to be removed.
            let (base, later) = (segments[0], &segments[1..]);
            let found = Sealed::find(&*self.fs, &self.dir, base, later);
            let path = segment_path(&self.dir, base, LOG_SUFFIX);
            let found = found.map_err(LogError::storage("look at", &path))?;
            if found.is_ok_and(|sealed| sealed.next > start) {
                break;
            }
            segments.remove(0);
            self.remove_segment(base)?;
        }
        Ok(())
    }

    fn run(mut self, segments: Vec<Offset>) -> Result<Log, LogError> {
        let Some(first) = segments.first().copied() else {
            return self.make_new();
        };
        if self.checkpoint.is_some() && first > self.start_offset() {
            let missing = self.start_offset();
            return Err(self.corrupt(missing, 0, missing, "the segment is missing".into()));
        }
        // What lies below it was deleted, and perhaps never synced.
        self.recovery_point = self.recovery_point.max(first);
        let (mut base, mut later) = (first, segments[1..].to_vec());
        let mut sealed = VecDeque::new();
        while later
            .first()
            .is_some_and(|next| *next <= self.recovery_point)
        {
            let segment = self.take_as_it_is(base, &later)?;
            // One that compaction has made may reach beyond it.
            if segment.next > self.recovery_point {
                break;
            }
            self.remove_merged(&mut later, segment.next)?;
            base = later.remove(0);
            sealed.push_back(segment);
        }
        let mut scanned = self.scan_segment(base, self.recovery_point)?;
        loop {
            if scanned.ended == Ended::Whole {
                self.remove_merged(&mut later, scanned.end)?;
            }
            let Some(base) = later.first().copied() else {
                break;
            };
            if scanned.ended == Ended::Cut || base != scanned.end {
                self.check_may_cut(base, 0, scanned.end, "no batch leads to it")?;
                for base in later.iter().rev() {
                    log::warn!("{}: removing segment {base}", self.dir.display());
                    self.remove_segment(*base)?;
                }
                break;
            }
            later.remove(0);
            let next = self.scan_segment(base, base)?;
            let before = std::mem::replace(&mut scanned, next);
            let (segment, files) = before.active.seal(&*self.fs, &self.dir, base);
            self.unsynced_files.extend(files);
            self.names_changed = true;
            sealed.push_back(segment);
        }
        if scanned.end < self.start_offset() {
            scanned = self.begin_at_start(&mut sealed, scanned)?;
        }
        self.finish(sealed, scanned)
    }

    /// A log without segments: a new one, or one whose records had all been deleted.
    fn make_new(self) -> Result<Log, LogError> {
        let start = self.start_offset();
        if self.recovery_point > start || self.tail != Tail::MayBeCut {
            return Err(self.corrupt(start, 0, start, "all segments are missing".into()));
        }
        let active = Active::create(&self.fs, &self.dir, start, self.now)?;
        let was_stale = (self.checkpoint.as_ref()).is_some_and(|c| c.segments == Segments::Stale);
        let mut log = self.into_log(VecDeque::new(), active, start);
        log.unsynced.note_new_log();
        if was_stale {
            // Before anything is appended, which the next start would take for stale too.
            log.fs
                .sync_dir(&log.dir)
                .map_err(LogError::sync_failed(&log.dir))?;
            log.write_checkpoint(start)?;
        }
        Ok(log)
    }

    /// Records up to beyond the log's end were deleted before they were synced, and then the end
    /// was lost: what is left lies below the start.
    fn begin_at_start(
        &mut self,
        sealed: &mut VecDeque<Sealed>,
        scanned: Scanned,
    ) -> Result<Scanned, LogError> {
        let start = self.start_offset();
        let active = Active::create(&self.fs, &self.dir, start, self.now)?;
        self.remove_segment(scanned.active.base)?;
        while let Some(segment) = sealed.pop_back() {
            self.remove_segment(segment.base)?;
        }
        // Who has written just below the start is lost with it.
        self.epochs = LeaderEpochs::default();
        Ok(Scanned {
            active,
            end: start,
            ended: Ended::Whole,
        })
    }

    fn check_may_cut(
        &self,
        segment: Offset,
        position: u64,
        offset: Offset,
        reason: &str,
    ) -> Result<(), LogError> {
        match &self.tail {
            Tail::MayBeCut => Ok(()),
            Tail::MustBeWhole(why) => {
                let reason =
                    format!("{reason}; what was synced isn't known: {CHECKPOINT_FILE} {why}");
                Err(self.corrupt(segment, position, offset, reason))
            }
        }
    }

    fn corrupt(&self, segment: Offset, position: u64, offset: Offset, reason: String) -> LogError {
        LogError::Corrupt {
            file: segment_path(&self.dir, segment, LOG_SUFFIX),
            position,
            offset,
            reason,
        }
    }

    /// Puts on disk what stays, and loads the producers.
    fn finish(self, sealed: VecDeque<Sealed>, scanned: Scanned) -> Result<Log, LogError> {
        for file in &self.unsynced_files {
            file.sync_data().map_err(LogError::sync_failed(&self.dir))?;
        }
        let producers_from = match &self.checkpoint {
            Some(checkpoint) if checkpoint.producers == Producers::None => self.recovery_point,
            _ => Offset::ZERO,
        };
        // What was scanned may be in files whose names aren't on disk either.
        let names_changed = self.names_changed || !self.unsynced_files.is_empty();
        let had_checkpoint = self.checkpoint.is_some();
        let scanned_from = self.recovery_point;
        let mut log = self.into_log(sealed, scanned.active, scanned.end);
        if log.remove_snapshots_beyond(log.end_offset)? || names_changed {
            log.fs
                .sync_dir(&log.dir)
                .map_err(LogError::sync_failed(&log.dir))?;
        }
        log.producers = load_producers(&log, producers_from)?;
        // A segment's name may have been made just before a kill: the next sync has it.
        log.unsynced.note_names();
        let unwitnessed = log.witness.is_missing(&*log.fs);
        let unwitnessed =
            unwitnessed.map_err(LogError::storage("look for the witness of", &log.dir))?;
        let is_incomplete = !had_checkpoint || unwitnessed;
        if is_incomplete {
            log.unsynced.note_new_log();
        }
        // A new log's checkpoint comes with its first sync.
        let is_new = !had_checkpoint && log.end_offset == Offset::ZERO;
        if !is_new && (is_incomplete || log.end_offset != scanned_from) {
            if let Err(e) = log.write_checkpoint(log.end_offset) {
                log::warn!("{e}: what was scanned now will be scanned again");
            }
        }
        Ok(log)
    }

    fn into_log(mut self, sealed: VecDeque<Sealed>, active: Active, end: Offset) -> Log {
        let first = sealed.front().map_or(active.base, |s| s.base);
        let start = self.start_offset().max(first);
        let checkpoint = self.checkpoint.as_ref();
        let high_watermark = checkpoint.map_or(start, |c| c.high_watermark);
        let clean_to = checkpoint.map_or(Offset::ZERO, |c| c.clean_to);
        self.epochs.truncate_end(end);
        self.epochs.truncate_start(start);
        Log {
            fs: self.fs,
            dir: self.dir,
            witness: self.witness,
            config: self.config,
            sealed: sealed.into_iter().map(Arc::new).collect(),
            active,
            start_offset: start,
            end_offset: end,
            synced_offset: end,
            high_watermark: high_watermark.max(start).min(end),
            epochs: self.epochs,
            producers: ProducerState::default(),
            unsynced: Unsynced::default(),
            truncations: 0,
            hints: Arc::default(),
            last_read: RefCell::new(None),
            checkpoint_order: Arc::default(),
            checkpoint_number: Cell::new(0),
            clean_to: clean_to.min(end),
            compaction: CancelOnDrop::default(),
            leftovers: Leftovers::default(),
            failure: None,
            lease: self.lease,
        }
    }
}
