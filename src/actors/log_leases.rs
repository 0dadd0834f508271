//! Who is at work on which log: one at a time, whoever knows of it.
//!
//! What is done to a log outlives whoever has begun it: a guardian dies while the data of a partition that has
//! moved away is being removed, the next one knows nothing of it, and the partition comes back. So the right to
//! touch a log belongs to the partition, and not to a handle of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::model::PartitionId;

/// Whoever holds it is at work on a log.
pub type LogLease = Arc<tokio::sync::Mutex<()>>;

/// The leases of all logs that somebody knows of. Clones share them.
#[derive(Clone, Default)]
pub struct LogLeases(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    leases: HashMap<PartitionId, Weak<tokio::sync::Mutex<()>>>,
    /// Beyond which it is looked which of them nobody knows of any more.
    len_max: usize,
}

impl LogLeases {
    /// The same one for all who ask while one of them has it.
    pub fn of(&self, id: PartitionId) -> LogLease {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lease) = known.leases.get(&id).and_then(Weak::upgrade) {
            return lease;
        }
        if known.leases.len() >= known.len_max {
            known.leases.retain(|_, lease| lease.strong_count() > 0);
            known.len_max = (2 * known.leases.len()).max(64);
        }
        let lease = LogLease::default();
        known.leases.insert(id, Arc::downgrade(&lease));
        lease
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TopicId;

    fn partition(partition: i32) -> PartitionId {
        PartitionId {
            topic_id: TopicId::NONE,
            partition,
        }
    }

    #[test]
    fn who_comes_later_waits_for_who_is_at_work_and_what_nobody_knows_is_forgotten() {
        let leases = LogLeases::default();
        let at_work = leases.of(partition(1)).try_lock_owned().unwrap();
        assert!(leases.of(partition(1)).try_lock().is_err());
        assert!(leases.of(partition(2)).try_lock().is_ok());
        drop(at_work);
        assert!(leases.of(partition(1)).try_lock().is_ok());
        for number in 0..10_000 {
            leases.of(partition(number));
        }
        assert!(leases.0.lock().unwrap().leases.len() <= 64);
    }
}
