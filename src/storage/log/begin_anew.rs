//! Beginning a log anew: what a follower does whose log has nothing in common with its leader's.
//!
//! A follower that was away while its leader deleted all that it has (by retention, or DeleteRecords) can't
//! continue its log: what lies between is gone everywhere. Nor can one whose log agrees with its leader's
//! nowhere. It lets go of all that it has, and is filled from where its leader begins (KIP-101, and Kafka's
//! `truncateFullyAndStartAt`). The producers go too: what they wrote in between isn't known here.
//!
//! # After a crash
//!
//! | step | what a start finds when it was the last one on disk |
//! |---|---|
//! | nothing yet | the old log, whole |
//! | the checkpoint says where the log begins, and that the segments are stale | removes what is left of them, and begins the log there |
//! | old files removed, the first segment made, the directory synced | the same |
//! | the checkpoint says that the segments are the log's | the new log |
//!
//! Two things make sure that no old file comes back: nothing is appended before the last step, and what is
//! under way for the old log is void: a sync covers nothing, an old checkpoint isn't written any more, a
//! compaction ends, and an old removal removes nothing ([`CheckpointJob::run_and_remove`]).
//!

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::compaction::{CancelOnDrop, Leftovers};
use super::epochs::LeaderEpochs;
use super::index::{Entry, OffsetEntry, TimeEntry};
use super::producer_state::ProducerState;
use super::segment::{base_of, Active, LOG_SUFFIX, SNAPSHOT_SUFFIX};
use super::{Log, LogError};
use crate::model::{Offset, Timestamp};
use crate::storage::checkpoint::{CheckpointJob, LogCheckpoint, Producers, Segments};
use crate::storage::fs::FileSystem;
use crate::storage::lease::Lease;

/// What the disk has to do for a log to begin anew.
pub struct AnewJob {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    offset: Offset,
    now: Timestamp,
    leftovers: Leftovers,
    /// Says that the segments are stale.
    stale: CheckpointJob,
    /// Says that those that are there then are the log's.
    fresh: CheckpointJob,
    _lease: Lease,
}

/// The first segment of a log that has begun anew.
pub struct Begun {
    offset: Offset,
    active: Active,
}

impl AnewJob {
    /// Waits for the disk.
    pub fn run(self) -> Result<Begun, LogError> {
        let write =
            |job: &CheckpointJob| job.run().map_err(LogError::storage("write", &job.path()));
        write(&self.stale)?;
        self.leftovers.remove_any(&*self.fs, &self.dir)?;
        remove_all_segments(&*self.fs, &self.dir)?;
        let active = Active::create(&self.fs, &self.dir, self.offset, self.now)?;
        self.fs
            .sync_dir(&self.dir)
            .map_err(LogError::sync_failed(&self.dir))?;
        write(&self.fresh)?;
        Ok(Begun {
            offset: self.offset,
            active,
        })
    }
}

impl Log {
    /// Lets go of everything, to begin an empty log at `offset`, which may lie anywhere: followers only. The log is
    /// of no use until [`Self::complete_anew`] is told what has become of the job. After an error it must be
    /// opened again, and is then what it was or what it was to become.
    pub fn begin_anew(&mut self, offset: Offset, now: Timestamp) -> Result<AnewJob, LogError> {
        if let Some(reason) = &self.failure {
            return Err(LogError::Failed(reason.clone()));
        }
        self.failure = Some(format!("it is being begun anew at {offset}"));
        self.compaction = CancelOnDrop::default();
        self.retire_reads();
        let empty = |segments| {
            self.checkpoint_of(LogCheckpoint {
                start_offset: offset,
                recovery_point: offset,
                high_watermark: offset,
                segments,
                clean_to: Offset::ZERO,
                producers: Producers::None,
                largest: None,
                epochs: Vec::new(),
            })
        };
        Ok(AnewJob {
            fs: self.fs.clone(),
            dir: self.dir.clone(),
            offset,
            now,
            leftovers: self.leftovers.clone(),
            stale: empty(Segments::Stale),
            fresh: empty(Segments::Its),
            _lease: self.lease.clone(),
        })
    }

    /// The job has ended.
    pub fn complete_anew(&mut self, begun: Result<Begun, LogError>) -> Result<(), LogError> {
        let Begun { offset, active } = match begun {
            Ok(begun) => begun,
            Err(error) => {
                self.failure = Some(format!("can't begin the log anew: {error}"));
                return Err(error);
            }
        };
        self.active = active;
        self.sealed.clear();
        self.start_offset = offset;
        self.end_offset = offset;
        self.synced_offset = offset;
        self.high_watermark = offset;
        self.clean_to = Offset::ZERO;
        self.epochs = LeaderEpochs::default();
        self.producers = ProducerState::default();
        self.unsynced.forget_all();
        self.failure = None;
        Ok(())
    }
}

/// Removes all segments, their indexes, and the producers' snapshots, in any order.
pub(super) fn remove_all_segments(fs: &dyn FileSystem, dir: &Path) -> Result<(), LogError> {
    let names = fs.list(dir).map_err(LogError::storage("list", dir))?;
    let suffixes = [
        LOG_SUFFIX,
        OffsetEntry::SUFFIX,
        TimeEntry::SUFFIX,
        SNAPSHOT_SUFFIX,
    ];
    let is_ours = |name: &&String| suffixes.iter().any(|s| base_of(name, s).is_some());
    for name in names.iter().filter(is_ours) {
        let path = dir.join(name);
        match fs.remove(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(LogError::storage("remove", &path)(e));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Begins anew, and waits for it.
#[cfg(test)]
pub(super) fn begin_anew(log: &mut Log, offset: Offset) -> Result<(), LogError> {
    let begun = log.begin_anew(offset, super::tests::NOW)?.run();
    log.complete_anew(begun)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{
        batch_at, home, make_parent, read_all_from, stamp, stamped, sync, NOW,
    };
    use super::super::{LogConfig, Shutdown};
    use super::*;
    use crate::model::LeaderEpoch;
    use crate::record::{Batch, Codec, ProducerStamp};
    use crate::storage::fs::FaultyFs;

    const EPOCH: LeaderEpoch = LeaderEpoch(7);
    const OLD_EPOCH: LeaderEpoch = LeaderEpoch(5);

    fn open(fs: &FaultyFs) -> Log {
        let config = LogConfig {
            segment_bytes: 4 << 10,
            retention_ms: None,
            ..LogConfig::default()
        };
        let fs = Arc::new(fs.clone());
        Log::open(fs, &home(), config, Shutdown::Unclean, NOW, Lease::none()).unwrap()
    }

    fn batch(stamp: ProducerStamp) -> Batch {
        batch_at(NOW, 2, 500, stamp, Codec::None)
    }

    /// As it comes from a leader.
    fn pushed(offset: i64) -> Batch {
        let bytes = stamped(&batch(stamp(3, 40)), Offset(offset), OLD_EPOCH);
        Batch::parse(bytes.into()).unwrap()
    }

    /// Some segments, a producer, and an end that isn't on disk.
    fn filled(fs: &FaultyFs) -> (Log, Vec<u8>) {
        make_parent(fs);
        let mut log = open(fs);
        for at in 0..12 {
            log.append(&[batch(stamp(3, 2 * at))], EPOCH, NOW).unwrap();
        }
        sync(&mut log);
        let synced = read_all_from(&log, Offset::ZERO).unwrap();
        log.append(&[batch(ProducerStamp::NONE)], EPOCH, NOW)
            .unwrap();
        (log, synced)
    }

    fn assert_goes_on(mut log: Log, fs: &FaultyFs, base: i64) {
        let batch = pushed(base);
        let end = log.append_replicated(std::slice::from_ref(&batch), NOW);
        assert_eq!(end.unwrap(), Offset(base + 2));
        sync(&mut log);
        drop(log);
        let log = open(&fs.crash());
        assert_eq!(log.start_offset(), Offset(base));
        assert_eq!(log.epoch_of(Offset(base)), Some(OLD_EPOCH));
        let read = read_all_from(&log, Offset(base)).unwrap();
        assert_eq!(read, batch.bytes()[..]);
    }

    #[test]
    fn a_log_begun_anew_has_nothing_of_the_old_one() {
        for offset in [0, 7, 20, 1_000] {
            let fs = FaultyFs::new(1);
            let (mut log, _) = filled(&fs);
            begin_anew(&mut log, Offset(offset)).unwrap();
            let ends = [log.start_offset(), log.high_watermark(), log.end_offset()];
            assert_eq!(ends, [Offset(offset); 3]);
            assert_eq!(log.latest_epoch(), None);
            assert!(log.producers.is_empty());
            assert_eq!(log.size_bytes(), 0);
            assert_goes_on(log, &fs, offset);
        }
    }

    #[test]
    fn power_loss_at_every_step_leaves_the_old_log_or_the_new_one() {
        for offset in [0, 7, 20, 1_000] {
            let (mut old, mut new) = (0, 0);
            for operation in 1..40 {
                let fs = FaultyFs::new(operation);
                let (mut log, synced) = filled(&fs);
                fs.lose_power_at(fs.operations() + operation);
                let begun = begin_anew(&mut log, Offset(offset));
                drop(log);
                let fs = fs.crash();
                let log = open(&fs);
                if log.end_offset() == Offset(offset) && log.start_offset() == Offset(offset) {
                    new += 1;
                    assert_eq!(log.latest_epoch(), None, "{operation}");
                    // And the power may go again, while nothing has happened since.
                    drop(log);
                    let fs = fs.crash();
                    assert_goes_on(open(&fs), &fs, offset);
                } else {
                    old += 1;
                    assert!(begun.is_err(), "{operation}");
                    let read = read_all_from(&log, Offset::ZERO).unwrap();
                    assert!(read.starts_with(&synced), "{operation}");
                }
            }
            assert!(old > 0 && new > 0, "{offset}: {old} {new}");
        }
    }

    #[test]
    fn an_error_at_any_step_leaves_a_log_that_opens_and_refuses_appends_until_then() {
        for operation in 1..40 {
            let fs = FaultyFs::new(operation);
            let (mut log, _) = filled(&fs);
            fs.fail_at(fs.operations() + operation);
            if begin_anew(&mut log, Offset(20)).is_ok() {
                continue;
            }
            let refused = log.append_replicated(&[pushed(20)], NOW);
            assert!(matches!(refused, Err(LogError::Failed(_))), "{operation}");
            drop(log);
            let log = open(&fs);
            assert!(log.end_offset() >= Offset(20), "{operation}");
        }
    }

    #[test]
    fn what_is_under_way_for_the_old_log_does_nothing_to_the_new_one() {
        let fs = FaultyFs::new(1);
        let (mut log, _) = filled(&fs);
        log.set_high_watermark(Offset(24));
        let sync_job = log.begin_sync().unwrap();
        let checkpoint = log.checkpoint();
        let second = log.sealed[0].next;
        let removed = log.delete_records_before(log.sealed[1].next).unwrap();
        begin_anew(&mut log, second).unwrap();
        removed.remove().unwrap();
        checkpoint.run().unwrap();
        let batch = pushed(second.0);
        log.append_replicated(&[batch], NOW).unwrap();
        sync_job.run().unwrap();
        log.complete_sync(sync_job.covers());
        assert_eq!(log.synced_offset(), second);
        sync(&mut log);
        drop(log);
        let log = open(&fs.crash());
        assert_eq!((log.start_offset(), log.end_offset()), (second, second + 2));
    }
}
