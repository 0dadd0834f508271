//! When to dial again: soon at first, since a process that was restarted is back within a moment, and
//! seldom later.

use std::time::Duration;

/// The pause after the second failure; the first has none. Each is twice as long, up to [`SOON_MAX`].
const FIRST: Duration = Duration::from_millis(5);
/// The longest pause as long as there have been few attempts.
const SOON_MAX: Duration = Duration::from_millis(50);
const SOON_ATTEMPTS: u32 = 40;
/// The longest pause of all.
const LATE_MAX: Duration = Duration::from_secs(1);
/// Nobody who was turned away for a reason is let in a moment later.
const REJECTED_MIN: Duration = Duration::from_millis(500);
/// Each pause is lengthened by up to a quarter, so that links which broke together don't dial
/// together.
const JITTER: u32 = 4;

/// How an attempt to have a link has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// There was one, for long enough to mean something.
    Held,
    Failed,
    /// One side won't have the other.
    Rejected,
}

/// What the next pause depends on.
#[derive(Debug, Default)]
pub struct Backoff {
    failed: u32,
}

impl Backoff {
    /// The pause after an attempt. `chance` is any number.
    pub fn after(&mut self, attempt: Attempt, chance: u32) -> Duration {
        if attempt == Attempt::Held {
            self.failed = 0;
            return Duration::ZERO;
        }
        let pause = match self.failed {
            0 => Duration::ZERO,
            soon if soon < SOON_ATTEMPTS => doubled(FIRST, soon - 1).min(SOON_MAX),
            late => doubled(SOON_MAX, late - SOON_ATTEMPTS + 1).min(LATE_MAX),
        };
        let pause = match attempt {
            Attempt::Rejected => pause.max(REJECTED_MIN),
            _ => pause,
        };
        self.failed = self.failed.saturating_add(1);
        let more = pause / JITTER;
        pause + more * (chance % 1024) / 1024
    }

    /// The peer is known to be there again.
    pub fn encourage(&mut self) {
        self.failed = 0;
    }
}

fn doubled(pause: Duration, times: u32) -> Duration {
    pause.saturating_mul(1 << times.min(16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_broke_is_dialed_at_once_then_soon_then_seldom() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.after(Attempt::Held, 7), Duration::ZERO);
        let pauses: Vec<u128> = (0..=60)
            .map(|_| backoff.after(Attempt::Failed, 0).as_millis())
            .collect();
        assert_eq!(pauses[..7], [0, 5, 10, 20, 40, 50, 50]);
        assert_eq!(pauses[39..46], [50, 100, 200, 400, 800, 1000, 1000]);
        assert!(pauses.is_sorted());
        backoff.encourage();
        assert_eq!(backoff.after(Attempt::Failed, 0), Duration::ZERO);
        assert_eq!(backoff.after(Attempt::Failed, 0), FIRST);
    }

    #[test]
    fn chance_lengthens_a_pause_by_at_most_a_quarter() {
        for chance in [0, 1, 511, 1023, 1024, u32::MAX] {
            let pause = Backoff::default().after(Attempt::Rejected, chance);
            assert!((REJECTED_MIN..=REJECTED_MIN * 5 / 4).contains(&pause));
        }
    }
}
