//! What a guardian finds that the one before has left.

use actix::prelude::*;

use super::{age, Guardian, Wards};
use crate::actors::partition_handle::PartitionHandle;
use crate::actors::vitals::State;
use crate::engine::guardian::{has_moved_away, Found};
use crate::engine::metadata::{MetadataImage, Topic};
use crate::model::{PartitionId, TopicName};

impl Guardian {
    /// Ends what the guardian before has left of partitions that aren't this node's any more by now: their
    /// replicas, and the data of those that have moved away.
    pub(super) fn inherit(&mut self, image: &MetadataImage, context: &mut Context<Self>) {
        let wards = self.wards.clone();
        let is_here = |id: &PartitionId| {
            let partition = image.partition(*id);
            partition.is_some_and(|partition| partition.replicas.contains(&wards.node))
        };
        let known = wards.partitions.current();
        let at_work = known.partitions().filter(|handle| !is_here(&handle.id()));
        let mut left: Vec<PartitionHandle> = at_work.cloned().collect();
        let traces = wards.data_dir.traces().unwrap_or_else(|error| {
            log::error!("what has moved away stays until the next start: {error}");
            Default::default()
        });
        let has_moved =
            |id: &PartitionId| has_moved_away(image, wards.node, wards.incarnation, *id);
        for id in traces.into_iter().filter(has_moved) {
            if let Some(topic) = image
                .topic(id.topic_id)
                .filter(|_| known.by_id(&id).is_none())
            {
                left.push(new_handle(&wards, id, &topic.name));
            }
        }
        for handle in left {
            let (id, found) = (handle.id(), found_behind(&handle));
            self.handles.insert(id, handle);
            let effect = self.core.inherit(id, image, found);
            self.carry_out(effect, None, context);
        }
    }
}

/// What the guardian before this one has left of a partition, and the way to its leader.
pub(super) fn find(wards: &Wards, id: PartitionId, topic: &Topic) -> (PartitionHandle, Found) {
    let known = wards.partitions.current();
    let known = known.topic(topic.name.as_str());
    let known = known.filter(|local| local.id == id.topic_id);
    match known.and_then(|local| local.partitions.get(&id.partition)) {
        Some(handle) => (handle.clone(), found_behind(handle)),
        None => (new_handle(wards, id, &topic.name), Found::Nothing),
    }
}

fn new_handle(wards: &Wards, id: PartitionId, topic: &TopicName) -> PartitionHandle {
    let capacity = wards.settings.mailbox_capacity;
    PartitionHandle::new(id, topic, capacity, &wards.registry, &wards.log_leases)
}

fn found_behind(handle: &PartitionHandle) -> Found {
    let life = handle.vitals().restarts();
    if let Some(role) = handle.role() {
        Found::AtWork { role, life }
    } else if handle.vitals().state() == State::Offline {
        Found::Offline { life }
    } else {
        let age = age(handle.vitals());
        Found::Dead { life, age }
    }
}
