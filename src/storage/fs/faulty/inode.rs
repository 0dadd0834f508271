//! The content of a file that can lose power: what was written, and what of it is on disk.

use super::super::random::Random;
use crate::model::Timestamp;

/// Pages are written to disk as a whole or torn.
const PAGE: usize = 4096;
/// What a disk writes at once.
const SECTOR: usize = 512;

#[derive(Clone, Debug)]
pub(super) struct Inode {
    pub written: Vec<u8>,
    pub synced: Vec<u8>,
    /// From here on `written` may differ from `synced`.
    pub dirty_from: usize,
    pub modified: Timestamp,
}

impl Inode {
    /// An empty file.
    pub fn new(modified: Timestamp) -> Inode {
        Inode {
            written: Vec::new(),
            synced: Vec::new(),
            dirty_from: 0,
            modified,
        }
    }

    pub fn sync(&mut self) {
        let from = self
            .dirty_from
            .min(self.written.len())
            .min(self.synced.len());
        self.synced.truncate(from);
        self.synced.extend_from_slice(&self.written[from..]);
        self.dirty_from = self.written.len();
    }

    pub fn write(&mut self, position: usize, bytes: &[u8]) {
        let end = position + bytes.len();
        if self.written.len() < end {
            self.written.resize(end, 0);
        }
        self.written[position..end].copy_from_slice(bytes);
        self.dirty_from = self.dirty_from.min(position);
    }

    /// What may be on disk of this file.
    pub fn after_crash(&self, random: &mut Random) -> Vec<u8> {
        if self.dirty_from >= self.written.len() && self.synced.len() == self.written.len() {
            return self.synced.clone();
        }
        let (low, high) = match self.synced.len() <= self.written.len() {
            true => (self.synced.len(), self.written.len()),
            false => (self.written.len(), self.synced.len()),
        };
        let len = match random.below(4) {
            0 => low,
            1 => high,
            _ => low + random.below((high - low) as u64 + 1) as usize,
        };
        let mut disk = self.written[..len.min(self.written.len())].to_vec();
        if disk.len() < len {
            disk.extend_from_slice(&self.synced[disk.len()..len]);
        }
        // Where the content differs, each sector may have been written or not.
        let all_written = random.one_in(2);
        for sector in (self.dirty_from / SECTOR * SECTOR..len).step_by(SECTOR) {
            if all_written || random.one_in(2) {
                continue;
            }
            let from = sector.max(self.dirty_from);
            let to = len.min(sector + SECTOR);
            let old = from.min(self.synced.len())..to.min(self.synced.len());
            disk[from..to].fill(0);
            disk[from..from + old.len()].copy_from_slice(&self.synced[old]);
        }
        // The last page that isn't all synced may be torn.
        let torn_from = (len.saturating_sub(1) / PAGE * PAGE).max(self.synced.len());
        if torn_from < len && random.one_in(2) {
            let from = torn_from + random.below((len - torn_from) as u64) as usize;
            let zeros = random.one_in(2);
            for byte in &mut disk[from..] {
                *byte = if zeros { 0 } else { random.draw() as u8 };
            }
        }
        disk
    }
}
