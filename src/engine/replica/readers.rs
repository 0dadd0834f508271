//! Readers who wait until there is more below the high watermark.

/// Whether a reader who waits still cares.
pub trait Patience {
    fn is_gone(&self) -> bool;
}

/// Below this many waiting readers nobody looks for those who have left.
pub(super) const READERS_SWEEP_MIN: usize = 64;

/// Those who wait, in no order.
pub struct Readers<F> {
    waiting: Vec<F>,
    swept_at: usize,
}

impl<F> Default for Readers<F> {
    fn default() -> Readers<F> {
        Readers {
            waiting: Vec::new(),
            swept_at: READERS_SWEEP_MIN,
        }
    }
}

impl<F: Patience> Readers<F> {
    pub fn wait(&mut self, reader: F) {
        if self.waiting.len() >= self.swept_at {
            self.waiting.retain(|reader| !reader.is_gone());
            self.swept_at = READERS_SWEEP_MIN.max(2 * self.waiting.len());
        }
        self.waiting.push(reader);
    }
}

impl<F> Readers<F> {
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// There is more: nobody waits any longer.
    pub fn take_all(&mut self) -> Vec<F> {
        std::mem::take(&mut self.waiting)
    }
}
