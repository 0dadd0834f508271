//! Leadership goes back to the preferred replicas, in steps.
//!
//! An election costs little in the metadata: some 150 bytes of their log, and a step is one write of it. It costs
//! its partition more: the leader closes its log, another node opens its own, and whoever writes looks for the
//! new leader. What is elected in one step is out of service together, in proportion to its number: 1,000
//! partitions for about a second. So a step takes only so many, and the next one follows when the nodes have had
//! time for it.

use crate::engine::metadata::change::{Change, Decided};
use crate::engine::metadata::elect_leaders::{not_led_by_preferred, ElectionType};
use crate::engine::metadata::MetadataImage;
use crate::model::Timestamp;

/// Elections of one step.
const STEP_LEN_MAX: usize = 250;
/// From one step to the next, as long as there is more to do.
const STEP_INTERVAL_MS: i64 = 500;
/// How often it is looked whether there is anything. Kafka's `leader.imbalance.check.interval.seconds` is 300; here
/// it costs a few milliseconds.
const LOOK_INTERVAL_MS: i64 = 15_000;

/// When the active controller elects preferred leaders.
#[derive(Debug)]
pub struct Balance {
    next: Timestamp,
}

impl Balance {
    /// Not at once: those who come back after the controller's change may still be on their way.
    pub fn new(now: Timestamp) -> Balance {
        Balance {
            next: later(now, LOOK_INTERVAL_MS),
        }
    }

    /// The elections of the next step, if it is time. Report [`Self::decided`].
    pub fn due(&mut self, image: &MetadataImage, now: Timestamp) -> Option<Change> {
        // The clock may have been set back.
        self.next = self.next.min(later(now, LOOK_INTERVAL_MS));
        if now < self.next {
            return None;
        }
        self.next = later(now, LOOK_INTERVAL_MS);
        let misled = not_led_by_preferred(image).take(STEP_LEN_MAX);
        let partitions: Vec<_> = misled.collect();
        (!partitions.is_empty()).then_some(Change::ElectLeaders {
            election: ElectionType::Preferred,
            partitions,
        })
    }

    /// What has become of a step. There is another one soon if this was a whole one, and not in vain.
    pub fn decided(&mut self, decided: &[Decided], now: Timestamp) {
        let elects =
            |decided: &Decided| decided.as_ref().is_ok_and(|commands| !commands.is_empty());
        if decided.len() == STEP_LEN_MAX && decided.iter().any(elects) {
            self.next = later(now, STEP_INTERVAL_MS);
        }
    }

    pub fn next_due(&self) -> Timestamp {
        self.next
    }
}

fn later(now: Timestamp, ms: i64) -> Timestamp {
    Timestamp(now.0.saturating_add(ms))
}
