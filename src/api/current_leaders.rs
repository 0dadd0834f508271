//! Who leads a partition, told with the refusal of one who doesn't, so that the client needn't ask
//! (KIP-951).

use std::collections::BTreeMap;

use super::ApiContext;
use crate::engine::metadata::{MetadataImage, Topic};
use crate::model::{BrokerId, ErrorCode, TopicId};
use crate::protocol::leader::{LeaderIdAndEpoch, NodeEndpoint};

/// What one response tells of leaders, and where they can be reached.
pub struct CurrentLeaders<'a> {
    context: &'a ApiContext,
    endpoints: BTreeMap<BrokerId, NodeEndpoint>,
}

impl<'a> CurrentLeaders<'a> {
    pub fn new(context: &'a ApiContext) -> Self {
        CurrentLeaders {
            context,
            endpoints: BTreeMap::new(),
        }
    }

    /// Who leads the partition, if it was refused because of that and somebody leads it.
    pub fn of_refused(
        &mut self,
        code: ErrorCode,
        topic: &str,
        topic_id: TopicId,
        partition: i32,
    ) -> Option<LeaderIdAndEpoch> {
        if !matches!(
            code,
            ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch
        ) {
            return None;
        }
        let image = self.context.image();
        let topic = match topic_id {
            TopicId::NONE => image.topic_by_name(topic),
            id => image.topic(id),
        };
        let (leader, endpoint) = find(&image, topic?, partition, self.context.listener.name)?;
        self.endpoints.insert(leader.leader_id, endpoint);
        Some(leader)
    }

    /// Of the leaders that were told.
    pub fn into_endpoints(self) -> Vec<NodeEndpoint> {
        self.endpoints.into_values().collect()
    }
}

fn find(
    image: &MetadataImage,
    topic: &Topic,
    partition: i32,
    listener: &str,
) -> Option<(LeaderIdAndEpoch, NodeEndpoint)> {
    let partition = topic.partition(partition)?;
    let broker = image.broker(partition.leader)?;
    let endpoint = broker.endpoint(listener)?;
    let leader = LeaderIdAndEpoch {
        leader_id: broker.id,
        leader_epoch: partition.leader_epoch,
    };
    let endpoint = NodeEndpoint {
        node_id: broker.id,
        host: endpoint.host.clone(),
        port: endpoint.port.into(),
        rack: broker.rack.clone(),
    };
    Some((leader, endpoint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::metadata::{Endpoint, MetadataCommand};
    use crate::model::{Incarnation, LeaderEpoch, PartitionId};

    #[test]
    fn the_leader_is_told_with_the_address_of_the_clients_listener() {
        let mut image = MetadataImage::default();
        let endpoint = |listener: &str, port| Endpoint {
            listener: listener.into(),
            host: "b2".into(),
            port,
        };
        image.replay(&MetadataCommand::RegisterBroker {
            id: BrokerId(2),
            incarnation: Incarnation::random(),
            endpoints: vec![endpoint("native", 7070), endpoint("kafka", 9092)],
            rack: Some("r".into()),
            state: Default::default(),
            metadata_version_max: None,
        });
        let id = TopicId::random();
        image.replay(&MetadataCommand::CreateTopic {
            name: "orders".parse().unwrap(),
            id,
            partitions: vec![vec![BrokerId(1), BrokerId(2)]; 2],
            configs: BTreeMap::new(),
        });
        image.replay(&MetadataCommand::ChangePartitionLeader {
            partition: PartitionId {
                topic_id: id,
                partition: 1,
            },
            leader: BrokerId(2),
            leader_epoch: LeaderEpoch(4),
        });
        let topic = image.topic(id).unwrap();
        let (leader, node) = find(&image, topic, 1, "kafka").unwrap();
        assert_eq!(
            (leader.leader_id, leader.leader_epoch),
            (BrokerId(2), LeaderEpoch(4))
        );
        assert_eq!((node.host.as_str(), node.port), ("b2", 9092));
        assert_eq!(node.rack.as_deref(), Some("r"));
        // A leader that isn't registered can't be reached, and one without that listener neither.
        assert!(find(&image, topic, 0, "kafka").is_none());
        assert!(find(&image, topic, 1, "other").is_none());
        assert!(find(&image, topic, 2, "kafka").is_none());
    }
}
