//! A log in memory, of which a crash takes what isn't synced.

use klamm::engine::replica::{Epochs, LogEnds, Pushed};
use klamm::model::{LeaderEpoch, Offset};

/// A record, and where its batch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub epoch: LeaderEpoch,
    pub value: u64,
    pub batch: i64,
}

/// Invariant: `first <= start <= end`, and batches are whole.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// Of `records`; where the log starts may lie in the middle of a batch.
    first: i64,
    start: i64,
    records: Vec<Record>,
    synced: i64,
    latest: Option<LeaderEpoch>,
    /// How often it was cut, or begun anew: a sync that began before covers nothing.
    cuts: u64,
}

/// A sync that is under way.
#[derive(Clone, Copy, Debug)]
pub struct Sync {
    to: i64,
    cuts: u64,
}

impl Log {
    pub fn start(&self) -> i64 {
        self.start
    }

    pub fn end(&self) -> i64 {
        self.first + self.records.len() as i64
    }

    pub fn synced(&self) -> Offset {
        Offset(self.synced)
    }

    pub fn ends(&self) -> LogEnds {
        LogEnds {
            start: Offset(self.start),
            end: Offset(self.end()),
            synced: Offset(self.synced),
        }
    }

    pub fn get(&self, offset: i64) -> Option<Record> {
        let at = usize::try_from(offset - self.first).ok()?;
        self.records.get(at).copied()
    }

    /// What can be read from here on.
    pub fn records(&self) -> impl Iterator<Item = (i64, Record)> + '_ {
        (self.start..self.end()).filter_map(|at| Some((at, self.get(at)?)))
    }

    pub fn append(&mut self, records: &[Record]) {
        self.records.extend_from_slice(records);
        self.latest = records.last().map_or(self.latest, |last| Some(last.epoch));
    }

    /// Whole batches from the one that holds `from` on, of some `len` records.
    pub fn batches(&self, from: i64, len: usize) -> (i64, Vec<Record>) {
        let Some(held) = self.get(from) else {
            return (from, Vec::new());
        };
        let mut to = held.batch;
        while let Some(record) = self.get(to) {
            if to >= from + len as i64 && record.batch == to {
                break;
            }
            to += 1;
        }
        let read = (held.batch..to).filter_map(|at| self.get(at));
        (held.batch, read.collect())
    }

    /// The batch that holds `to` goes as a whole.
    pub fn truncate(&mut self, to: i64) {
        let to = self.get(to).map_or(to, |held| held.batch).max(self.first);
        if to >= self.end() {
            return;
        }
        self.records.truncate((to - self.first) as usize);
        self.synced = self.synced.min(to);
        self.start = self.start.min(to);
        self.latest = self.records.last().map(|last| last.epoch);
        self.cuts += 1;
    }

    pub fn begin_anew(&mut self, at: i64) {
        *self = Log {
            first: at,
            start: at,
            synced: at,
            cuts: self.cuts + 1,
            ..Log::default()
        };
    }

    /// What lies below is deleted; the batch that holds it stays, and is read no more.
    pub fn delete_below(&mut self, offset: i64) {
        self.start = self.start.max(offset.min(self.end()));
        let first = self.get(self.start).map_or(self.start, |held| held.batch);
        self.records.drain(..(first - self.first) as usize);
        self.first = first;
    }

    pub fn begin_sync(&self) -> Option<Sync> {
        (self.synced < self.end()).then_some(Sync {
            to: self.end(),
            cuts: self.cuts,
        })
    }

    pub fn complete_sync(&mut self, sync: Sync) {
        if sync.cuts == self.cuts {
            self.synced = self.synced.max(sync.to);
        }
    }

    pub fn sync_all(&mut self) {
        self.synced = self.end();
    }

    /// How many records a crash may take.
    pub fn unsynced(&self) -> usize {
        (self.end() - self.synced) as usize
    }

    /// The power goes: so many records beyond the synced ones are left, and recovery puts them on disk.
    pub fn crash(&mut self, kept: usize) {
        let to = self.synced + kept as i64;
        self.truncate(to);
        self.sync_all();
    }
}

/// The headers of batches that begin at `base`.
pub fn headers(base: i64, records: &[Record]) -> Vec<Pushed> {
    let mut headers: Vec<Pushed> = Vec::new();
    for (at, record) in (base..).zip(records) {
        match headers.last_mut() {
            Some(last) if last.base_offset.0 == record.batch => last.next_offset = Offset(at + 1),
            _ => headers.push(Pushed {
                base_offset: Offset(record.batch),
                next_offset: Offset(at + 1),
                leader_epoch: record.epoch,
            }),
        }
    }
    headers
}

impl Epochs for Log {
    fn epoch_of(&self, offset: Offset) -> Option<LeaderEpoch> {
        let is_readable = offset.0 >= self.start;
        is_readable
            .then(|| self.get(offset.0))
            .flatten()
            .map(|record| record.epoch)
    }

    fn end_of(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let latest = self.records.last()?.epoch;
        if epoch > latest {
            return None;
        }
        let upper = self.records.partition_point(|record| record.epoch <= epoch);
        let found = upper
            .checked_sub(1)
            .map_or(epoch, |at| self.records[at].epoch);
        Some((found, Offset((self.first + upper as i64).max(self.start))))
    }

    fn latest(&self) -> Option<LeaderEpoch> {
        self.latest
    }

    fn start_offset(&self) -> Offset {
        Offset(self.start)
    }

    fn end_offset(&self) -> Offset {
        Offset(self.end())
    }
}
