//! Opening a log, whatever the last run left behind.
//!
//! All segments below the recovery point are taken as they are: their checksums are compared when
//! they are read. From the recovery point on each batch is checked. The first that isn't whole
//! ends the log: it and all that follows is the tail that no sync had covered, and is cut. What
//! isn't whole *below* the recovery point was on disk once: that is corruption, nothing is cut,
//! and the log doesn't open.
//!
//! After a clean stop the recovery point is the end, so there is nothing to scan; it is the same
//! way for both.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::epochs::LeaderEpochs;
use super::index::{Entry, OffsetEntry, TimeEntry};
use super::producer_state::ProducerState;
use super::scan::{Check, Scanner, Step};
use super::segment::{
    base_of, segment_path, Active, Indexer, Largest, Sealed, Start, LOG_SUFFIX, SNAPSHOT_SUFFIX,
};
use super::sync::Unsynced;
use super::{bounded, Log, LogConfig, LogError, Shutdown};
use crate::model::{Offset, Timestamp};
use crate::record::BatchHeader;
use crate::storage::checkpoint::{Loaded, LogCheckpoint, Producers, CHECKPOINT_FILE};
use crate::storage::fs::{read_all, File, FileSystem, TEMPORARY_SUFFIX};
use crate::storage::lease::Lease;

/// What recovery goes by.
struct Recovery {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
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
    /// Opens the log in `dir`, or makes one.
    ///
    /// `Err(Corrupt)` names the file and the position of the first bytes that aren't what was
    /// synced: the partition is offline then, and nothing has been changed.
    ///
    /// `lease` is dropped with the log or the last of its jobs, whichever ends later.
    pub fn open(
        fs: Arc<dyn FileSystem>,
        dir: &Path,
        config: LogConfig,
        last: Shutdown,
        now: Timestamp,
        lease: Lease,
    ) -> Result<Log, LogError> {
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
        let mut recovery = Recovery::new(fs, dir, bounded(config), now, loaded, &segments, lease);
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

impl Recovery {
    fn new(
        fs: Arc<dyn FileSystem>,
        dir: &Path,
        config: LogConfig,
        now: Timestamp,
        loaded: Loaded,
        segments: &[Offset],
        lease: Lease,
    ) -> Recovery {
        let first = segments.first().copied().unwrap_or(Offset::ZERO);
        let (checkpoint, tail) = match loaded {
            Loaded::Found(checkpoint) => (Some(checkpoint), Tail::MayBeCut),
            // A log's checkpoint comes with its first sync: this one never had any.
            Loaded::Missing if segments.len() <= 1 && first == Offset::ZERO => {
                (None, Tail::MayBeCut)
            }
            Loaded::Missing => (None, Tail::MustBeWhole("is missing".into())),
            Loaded::Damaged(reason) => (None, Tail::MustBeWhole(format!("is damaged ({reason})"))),
        };
        let recovery_point = match &checkpoint {
            Some(checkpoint) => checkpoint.recovery_point,
            None => first,
        };
        let mut epochs = LeaderEpochs::new(
            checkpoint
                .as_ref()
                .map(|c| c.epochs.clone())
                .unwrap_or_default(),
        );
        epochs.truncate_end(recovery_point);
        Recovery {
            fs,
            dir: dir.to_owned(),
            config,
            now,
            recovery_point,
            tail,
            epochs,
            checkpoint,
            unsynced_files: Vec::new(),
            names_changed: false,
            lease,
        }
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
            let base = segments.remove(0);
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
        let holds_point = segments.partition_point(|base| *base <= self.recovery_point);
        let (below, later) = segments.split_at(holds_point);
        let mut sealed = VecDeque::new();
        for pair in below.windows(2) {
            sealed.push_back(self.take_as_it_is(pair[0], pair[1])?);
        }
        let base = below.last().copied().unwrap_or(first);
        let mut scanned = self.scan_segment(base, self.recovery_point)?;
        for (at, base) in later.iter().enumerate() {
            if scanned.ended == Ended::Cut || *base != scanned.end {
                self.check_may_cut(*base, 0, scanned.end, "no batch leads to it")?;
                for base in later[at..].iter().rev() {
                    log::warn!("{}: removing segment {base}", self.dir.display());
                    self.remove_segment(*base)?;
                }
                break;
            }
            let next = self.scan_segment(*base, *base)?;
            let before = std::mem::replace(&mut scanned, next);
            let (segment, files) = before.active.seal(&*self.fs, &self.dir, *base);
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
        let mut log = self.into_log(VecDeque::new(), active, start);
        log.unsynced.note_new_log();
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
        Ok(Scanned {
            active,
            end: start,
            ended: Ended::Whole,
        })
    }

    /// A segment that lies below the recovery point.
    fn take_as_it_is(&self, base: Offset, next: Offset) -> Result<Sealed, LogError> {
        let path = segment_path(&self.dir, base, LOG_SUFFIX);
        let file = self.fs.open_read_only(&path);
        let size = file
            .and_then(|file| file.len())
            .map_err(LogError::storage("look at", &path))?;
        if size == 0 {
            return Err(self.corrupt(base, 0, base, "the segment is empty".into()));
        }
        Ok(Sealed::new(base, next, size))
    }

    /// Walks over a segment: up to `from` only to find it, beyond it with all checks.
    fn scan_segment(&mut self, base: Offset, from: Offset) -> Result<Scanned, LogError> {
        let path = segment_path(&self.dir, base, LOG_SUFFIX);
        let failed = |e| LogError::storage("read", &path)(e);
        let file = self.fs.open(&path).map_err(failed)?;
        let size = file.len().map_err(failed)?;
        let (mut indexer, start) = self.find_recovery_point(&*file, base, from, size)?;
        let mut scanner = start.scanner(&*file, size, Check::Checksums);
        let (ended, position) = loop {
            match scanner.next().map_err(failed)? {
                Step::Batch { position, header } => {
                    indexer.note(position, &header, self.config.index_interval_bytes);
                    self.epochs.assign(header.leader_epoch, header.base_offset);
                }
                Step::End => break (Ended::Whole, size),
                Step::Bad { position, reason } => {
                    let offset = scanner.expected();
                    self.check_may_cut(base, position, offset, &reason)?;
                    log::warn!(
                        "{}: cutting {} bytes at {position}, from offset {offset}: {reason}",
                        path.display(),
                        size - position,
                    );
                    file.set_len(position)
                        .map_err(LogError::storage("cut", &path))?;
                    break (Ended::Cut, position);
                }
            }
        };
        let end = scanner.expected();
        if ended == Ended::Cut || end > from {
            self.unsynced_files.push(file.clone());
        }
        let mut active = Active::new(file, path, position, indexer, self.now);
        active.find_first_timestamp()?;
        Ok(Scanned { active, end, ended })
    }

    /// Walks up to the recovery point, without looking at checksums; gives the indexes up to it.
    fn find_recovery_point(
        &self,
        file: &dyn File,
        base: Offset,
        point: Offset,
        size: u64,
    ) -> Result<(Indexer, Start), LogError> {
        let path = segment_path(&self.dir, base, LOG_SUFFIX);
        let failed = |e| LogError::storage("read", &path)(e);
        let mut indexer = Indexer::new(&self.fs, &self.dir, base);
        if point == base {
            return Ok((indexer, Start::of_segment(base)));
        }
        let largest = self.checkpoint.as_ref().and_then(|c| c.largest);
        if let Some(l) = largest.filter(|l| l.segment == base && l.offset < point) {
            let loaded = Indexer::load(&self.fs, &self.dir, base, point, size).map_err(failed)?;
            let start = loaded.start_for(point);
            let mut scanner = start.scanner(file, size, Check::Headers);
            if walk_to(&mut scanner, point, |_, _| ())
                .map_err(failed)?
                .is_none()
            {
                indexer = loaded;
                indexer.largest = Some(Largest {
                    timestamp: l.timestamp,
                    offset: l.offset,
                });
                return Ok((indexer, scanner.here()));
            }
        }
        let mut scanner = Start::of_segment(base).scanner(file, size, Check::Headers);
        let interval_bytes = self.config.index_interval_bytes;
        let bad = walk_to(&mut scanner, point, |position, header| {
            indexer.note(position, header, interval_bytes)
        });
        match bad.map_err(failed)? {
            None => Ok((indexer, scanner.here())),
            Some((position, reason)) => {
                Err(self.corrupt(base, position, scanner.expected(), reason))
            }
        }
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
        let now = self.now;
        let producers_from = match &self.checkpoint {
            Some(checkpoint) if checkpoint.producers == Producers::None => self.recovery_point,
            _ => Offset::ZERO,
        };
        // What was scanned may be in files whose names aren't on disk either.
        let names_changed = self.names_changed || !self.unsynced_files.is_empty();
        let had_checkpoint = self.checkpoint.is_some();
        let mut log = self.into_log(sealed, scanned.active, scanned.end);
        if log.remove_snapshots_beyond(log.end_offset)? || names_changed {
            log.fs
                .sync_dir(&log.dir)
                .map_err(LogError::sync_failed(&log.dir))?;
        }
        log.producers = load_producers(&log, producers_from, now)?;
        // A segment's name may have been made just before a kill: the next sync has it.
        log.unsynced.note_names();
        if !had_checkpoint && log.end_offset == Offset::ZERO {
            log.unsynced.note_new_log();
        } else if !had_checkpoint {
            log.write_checkpoint(log.end_offset)?;
            let parent = log.dir.parent().unwrap_or(&log.dir);
            log.fs
                .sync_dir(parent)
                .map_err(LogError::sync_failed(parent))?;
        }
        Ok(log)
    }

    fn into_log(mut self, sealed: VecDeque<Sealed>, active: Active, end: Offset) -> Log {
        let first = sealed.front().map_or(active.base, |s| s.base);
        let start = self.start_offset().max(first);
        let high_watermark = self.checkpoint.as_ref().map_or(start, |c| c.high_watermark);
        self.epochs.truncate_end(end);
        self.epochs.truncate_start(start);
        Log {
            fs: self.fs,
            dir: self.dir,
            config: self.config,
            sealed,
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
            failure: None,
            lease: self.lease,
        }
    }
}

/// A segment after its scan, ready to be appended to.
struct Scanned {
    active: Active,
    /// The offset after its last.
    end: Offset,
    ended: Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Whole,
    Cut,
}

/// Walks until `point` comes next. What is bad before it: position and reason.
fn walk_to(
    scanner: &mut Scanner<'_>,
    point: Offset,
    mut each: impl FnMut(u64, &BatchHeader),
) -> io::Result<Option<(u64, String)>> {
    while scanner.expected() < point {
        match scanner.next()? {
            Step::Batch { position, header } => each(position, &header),
            Step::End => {
                let reason = "the file ends below the synced point".to_owned();
                return Ok(Some((scanner.position(), reason)));
            }
            Step::Bad { position, reason } => return Ok(Some((position, reason))),
        }
    }
    Ok(None)
}

/// The producers as they are at the log's end: from the newest snapshot that can be read, and the
/// batches since. None of them wrote below `from`.
pub(super) fn load_producers(
    log: &Log,
    from: Offset,
    now: Timestamp,
) -> Result<ProducerState, LogError> {
    let mut producers = ProducerState::default();
    // What lies below the first segment is gone: a snapshot from there would leave a gap, by which
    // producers would be refused that did nothing wrong.
    let first = log.sealed.front().map_or(log.active.base, |s| s.base);
    let from = from.max(first);
    let mut next = from;
    for offset in log.snapshots()?.into_iter().rev() {
        let path = segment_path(&log.dir, offset, SNAPSHOT_SUFFIX);
        if offset > log.end_offset || offset < from {
            continue;
        }
        let snapshot = read_all(&*log.fs, &path).ok();
        if let Some(snapshot) = snapshot.as_deref().and_then(ProducerState::decode) {
            producers = snapshot;
            next = offset;
            break;
        }
        log::warn!(
            "{} isn't whole: replaying from an older one",
            path.display()
        );
    }
    while next < log.end_offset {
        next = log.replay_segment(next, |header| {
            producers.record(header, header.base_offset, now);
        })?;
    }
    Ok(producers)
}

impl Log {
    /// The offsets of the producers' snapshots, ascending.
    fn snapshots(&self) -> Result<Vec<Offset>, LogError> {
        let names = self.fs.list(&self.dir);
        let names = names.map_err(LogError::storage("list", &self.dir))?;
        let mut offsets: Vec<Offset> = names
            .iter()
            .filter_map(|name| base_of(name, SNAPSHOT_SUFFIX))
            .collect();
        offsets.sort_unstable();
        Ok(offsets)
    }

    /// Removes snapshots of what isn't there any more; says whether there were any.
    pub(super) fn remove_snapshots_beyond(&self, end: Offset) -> Result<bool, LogError> {
        let mut removed = false;
        for offset in self.snapshots()?.into_iter().filter(|offset| *offset > end) {
            let path = segment_path(&self.dir, offset, SNAPSHOT_SUFFIX);
            self.fs
                .remove(&path)
                .map_err(LogError::storage("remove", &path))?;
            removed = true;
        }
        Ok(removed)
    }

    /// Shows each batch of the segment that holds `from` whose base offset is `from` or above;
    /// gives the offset where the next segment starts.
    fn replay_segment(
        &self,
        from: Offset,
        mut each: impl FnMut(&BatchHeader),
    ) -> Result<Offset, LogError> {
        let sealed = self.sealed_with(from);
        let (base, size, next) = match sealed {
            Some(sealed) => (sealed.base, sealed.size, sealed.next),
            None => (self.active.base, self.active.size, self.end_offset),
        };
        let path = segment_path(&self.dir, base, LOG_SUFFIX);
        let file = self.segment_file(base)?;
        let mut start = self.start_for(from);
        loop {
            let mut scanner = start.scanner(&*file, size, Check::Headers);
            let walked = walk_to(&mut scanner, next, |_, header| {
                if header.base_offset >= from {
                    each(header)
                }
            });
            match walked.map_err(LogError::storage("read", &path))? {
                None => return Ok(next),
                // The index was wrong: nothing was shown yet.
                Some((position, _)) if position == start.position && position != 0 => {
                    start = Start::of_segment(base);
                }
                Some((position, reason)) => {
                    return Err(LogError::Corrupt {
                        file: path.clone(),
                        position,
                        offset: scanner.expected(),
                        reason,
                    })
                }
            }
        }
    }
}
