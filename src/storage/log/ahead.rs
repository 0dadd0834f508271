//! How far the active segment's file goes beyond its last batch.
//!
//! A sync that finds the file longer than at the last one, or blocks in it that were never written,
//! must commit the file system's journal as well: it costs about twice as much as a sync that only
//! writes pages of a file whose size is set (`docs/adr/0015-zeros-ahead-of-small-writes.md` has the
//! figures). So where syncs are small, an append that reaches the end of the file writes zeros behind its
//! batches, and the appends after it write over them.
//!
//! Where a sync covers much, the journal's part of it is small, and zeros would be written to the disk for
//! nothing: there space is only reserved, which leaves the file's size alone.
//!
//! Pure: the segment carries out.

/// The first step of reserved space; each is twice the last.
const RESERVE_BYTES_MIN: u64 = 64 << 10;
/// The largest step of reserved space.
const RESERVE_BYTES_MAX: u64 = 16 << 20;

/// So many syncs together tell how much one covers.
const SYNCS_A_SAMPLE: u32 = 8;
/// Up to so many bytes a sync, zeros are written ahead.
const SMALL_SYNC_BYTES_MAX: u64 = 32 << 10;

/// The fewest and the most zeros that are written at once. Between the two it is what the segment holds, so
/// that a log with few records doesn't take much more of the disk than these.
const ZEROS_BYTES_MIN: u64 = 16 << 10;
const ZEROS_BYTES_MAX: u64 = 256 << 10;
/// The file ends at a multiple of it: the pages of the zeros are whole.
const PAGE_BYTES: u64 = 4 << 10;

/// The zeros, as many as one append can ask for.
static ZEROS: [u8; (ZEROS_BYTES_MAX + PAGE_BYTES) as usize] =
    [0; (ZEROS_BYTES_MAX + PAGE_BYTES) as usize];

/// What an append does beside writing its batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Growth {
    /// There is room.
    None,
    /// Reserves so many bytes from this position on first.
    Reserve { from: u64, bytes: u64 },
    /// Writes these behind the batches.
    Zeros(&'static [u8]),
}

/// What a sync covers, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Syncs {
    #[default]
    Unknown,
    Small,
    Large,
}

/// The file's growth.
#[derive(Debug)]
pub(super) struct Ahead {
    /// Up to here zeros are written: where the file ends.
    zeros_to: u64,
    /// Up to here space is reserved.
    reserved_to: u64,
    reservation: u64,
    syncs: Syncs,
    /// The syncs of the sample that is being taken, and where its first byte lies.
    sampled: u32,
    sample_from: u64,
}

impl Ahead {
    /// A file of `size` bytes that ends with its last batch.
    pub fn new(size: u64, syncs: Syncs) -> Ahead {
        Ahead {
            zeros_to: size,
            reserved_to: size,
            reservation: RESERVE_BYTES_MIN,
            syncs,
            sampled: 0,
            sample_from: size,
        }
    }

    /// How large this log's syncs are: the next segment goes on with it.
    pub fn syncs(&self) -> Syncs {
        self.syncs
    }

    /// What comes with an append of `bytes` to a segment that has `size`, and may have `segment_bytes`.
    pub fn grow(&mut self, size: u64, bytes: u64, segment_bytes: u64) -> Growth {
        let end = size + bytes;
        if end <= self.zeros_to {
            return Growth::None;
        }
        if self.syncs == Syncs::Small {
            let step = end.clamp(ZEROS_BYTES_MIN, ZEROS_BYTES_MAX);
            let to = (end + step).next_multiple_of(PAGE_BYTES).min(segment_bytes);
            if to > end {
                self.zeros_to = to;
                return Growth::Zeros(&ZEROS[..(to - end) as usize]);
            }
        }
        if end <= self.reserved_to {
            return Growth::None;
        }
        // Where zeros were written nothing is left to reserve.
        let from = self.reserved_to.max(self.zeros_to).max(size);
        let to = (from + self.reservation).min(segment_bytes).max(end);
        self.reserved_to = to;
        self.reservation = (self.reservation * 2).min(RESERVE_BYTES_MAX);
        Growth::Reserve {
            from,
            bytes: to - from,
        }
    }

    /// A sync has ended, and the segment has `size` by now.
    pub fn note_sync(&mut self, size: u64) {
        self.sampled += 1;
        if self.sampled == SYNCS_A_SAMPLE {
            let bytes = size.saturating_sub(self.sample_from) / u64::from(SYNCS_A_SAMPLE);
            self.syncs = match bytes <= SMALL_SYNC_BYTES_MAX {
                true => Syncs::Small,
                false => Syncs::Large,
            };
            self.sampled = 0;
            self.sample_from = size;
        }
    }

    /// The file was cut to `size`, because the disk refused a write. Zeros wait for another sample.
    pub fn was_cut(&mut self, size: u64) {
        *self = Ahead::new(size, Syncs::Unknown);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 1 << 30;

    fn after_syncs_of(bytes: u64) -> (Ahead, u64) {
        let mut ahead = Ahead::new(0, Syncs::Unknown);
        let mut size = 0;
        for _ in 0..SYNCS_A_SAMPLE {
            size += bytes;
            ahead.note_sync(size);
        }
        (ahead, size)
    }

    fn zeros_of(growth: Growth) -> u64 {
        match growth {
            Growth::Zeros(zeros) => zeros.len() as u64,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nothing_is_written_ahead_before_it_is_known_how_large_syncs_are() {
        let mut ahead = Ahead::new(0, Syncs::Unknown);
        let first = ahead.grow(0, 170, SEGMENT);
        let (from, bytes) = (0, RESERVE_BYTES_MIN);
        assert_eq!(first, Growth::Reserve { from, bytes });
        assert_eq!(ahead.grow(170, 170, SEGMENT), Growth::None);
    }

    #[test]
    fn small_syncs_have_zeros_to_write_over_and_the_steps_grow_with_the_segment() {
        let (mut ahead, mut size) = after_syncs_of(170);
        let first = zeros_of(ahead.grow(size, 170, SEGMENT));
        assert!((ZEROS_BYTES_MIN..ZEROS_BYTES_MIN + PAGE_BYTES).contains(&first));
        assert!((size + 170 + first).is_multiple_of(PAGE_BYTES));
        size += 170;
        assert_eq!(ahead.grow(size, first, SEGMENT), Growth::None);
        size += first;
        let second = zeros_of(ahead.grow(size, 1, SEGMENT));
        assert!(second > first);
        let later = zeros_of(ahead.grow(10 << 20, 100, SEGMENT));
        assert!((ZEROS_BYTES_MAX..ZEROS_BYTES_MAX + PAGE_BYTES).contains(&later));
    }

    #[test]
    fn large_syncs_have_none_and_it_changes_with_them() {
        let (mut ahead, mut size) = after_syncs_of(SMALL_SYNC_BYTES_MAX + 1);
        let large = ahead.grow(size, 100, SEGMENT);
        assert!(matches!(large, Growth::Reserve { .. }), "{large:?}");
        for _ in 0..SYNCS_A_SAMPLE {
            size += 100;
            ahead.note_sync(size);
        }
        zeros_of(ahead.grow(size, 100, SEGMENT));
    }

    #[test]
    fn nothing_goes_beyond_the_segments_limit() {
        let mut ahead = Ahead::new(0, Syncs::Small);
        assert_eq!(zeros_of(ahead.grow(0, 900, 1_000)), 100);
        assert_eq!(ahead.grow(900, 100, 1_000), Growth::None);
        let beyond = ahead.grow(1_000, 50, 1_000);
        let (from, bytes) = (1_000, 50);
        assert_eq!(beyond, Growth::Reserve { from, bytes });
    }

    #[test]
    fn after_the_disk_refused_zeros_wait_for_another_sample() {
        let (mut ahead, size) = after_syncs_of(170);
        zeros_of(ahead.grow(size, 170, SEGMENT));
        ahead.was_cut(size);
        let next = ahead.grow(size, 170, SEGMENT);
        assert!(matches!(next, Growth::Reserve { .. }), "{next:?}");
    }
}
