//! Placement: which brokers get the replicas of new partitions.
//!
//! Even within the topic first, because a topic's load is that of all its partitions: the next
//! leader is a broker that leads the fewest of them, the next follower one that follows the fewest.
//! Among equals the brokers that hold the least in the whole cluster come first, and then those
//! with the lowest id. Replicas of one partition spread over racks before they spread over brokers.

use std::collections::BTreeMap;

use super::{MetadataImage, Topic};
use crate::model::BrokerId;

/// What a broker holds already.
#[derive(Clone, Copy, Default)]
struct Load {
    topic_leaders: usize,
    topic_replicas: usize,
    leaders: usize,
    replicas: usize,
}

pub(super) struct Placement<'a> {
    racks: BTreeMap<BrokerId, Option<&'a str>>,
    loads: BTreeMap<BrokerId, Load>,
}

impl<'a> Placement<'a> {
    /// For new partitions of `topic`, or of a new topic if there is none. Only brokers that may
    /// lead get any.
    pub fn new(image: &'a MetadataImage, topic: Option<&Topic>) -> Placement<'a> {
        let active = || image.brokers().filter(|b| image.is_active(b.id));
        let racks = active().map(|b| (b.id, b.rack.as_deref()));
        let loads = active().map(|b| (b.id, Load::default()));
        let mut placement = Placement {
            racks: racks.collect(),
            loads: loads.collect(),
        };
        for partition in image.topics().flat_map(|t| &t.partitions) {
            placement.count(&partition.replicas, |load, leads| {
                load.replicas += 1;
                load.leaders += usize::from(leads);
            });
        }
        for partition in topic.iter().flat_map(|t| &t.partitions) {
            placement.count(&partition.replicas, |load, leads| {
                load.topic_replicas += 1;
                load.topic_leaders += usize::from(leads);
            });
        }
        placement
    }

    /// How many brokers there are to place on.
    pub fn broker_count(&self) -> usize {
        self.loads.len()
    }

    /// The replicas of the next partition, the leader first; fewer than asked for only if there
    /// are fewer brokers.
    pub fn place(&mut self, replication_factor: usize) -> Vec<BrokerId> {
        let mut replicas: Vec<BrokerId> = Vec::with_capacity(replication_factor);
        while replicas.len() < replication_factor {
            let candidates = self.loads.iter().filter(|(id, _)| !replicas.contains(id));
            let best = candidates.min_by_key(|(id, load)| {
                let in_topic = match replicas.is_empty() {
                    true => load.topic_leaders,
                    false => load.topic_replicas - load.topic_leaders,
                };
                let in_rack = self.in_same_rack(**id, &replicas);
                let in_cluster = (load.replicas, load.leaders);
                (in_rack, in_topic, load.topic_replicas, in_cluster, **id)
            });
            match best {
                Some((id, _)) => replicas.push(*id),
                None => break,
            }
        }
        self.count(&replicas, |load, leads| {
            load.replicas += 1;
            load.topic_replicas += 1;
            load.leaders += usize::from(leads);
            load.topic_leaders += usize::from(leads);
        });
        replicas
    }

    fn in_same_rack(&self, broker: BrokerId, replicas: &[BrokerId]) -> usize {
        let rack = |id| self.racks.get(&id).copied().flatten();
        match rack(broker) {
            Some(own) => replicas.iter().filter(|r| rack(**r) == Some(own)).count(),
            None => 0,
        }
    }

    fn count(&mut self, replicas: &[BrokerId], mut add: impl FnMut(&mut Load, bool)) {
        for (position, id) in replicas.iter().enumerate() {
            if let Some(load) = self.loads.get_mut(id) {
                add(load, position == 0);
            }
        }
    }
}
