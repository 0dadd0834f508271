//! AlterPartitionReassignments: the active controller begins and cancels reassignments, some at a time.

use std::sync::Arc;

use super::partition_name::{by_topic, check_count, PartitionName, PARTITIONS_AT_ONCE_MAX};
use super::{change_valid, outcome, ApiContext};
use crate::engine::metadata::change::{Change, Intent};
use crate::engine::metadata::reassign::{Reassignment, ReplicationFactor};
use crate::model::{BrokerId, ErrorCode, Refusal};
use crate::protocol::alter_partition_reassignments::{
    ReassignablePartitionResponse, ReassignableTopic, ReassignableTopicResponse, Request, Response,
};

/// How many replicas a partition may be given by hand.
const REPLICAS_MAX: usize = 100;

pub async fn answer(context: &ApiContext, request: Request) -> Response {
    let allow_replication_factor_change = request.allow_replication_factor_change;
    let told = Response {
        allow_replication_factor_change,
        ..Default::default()
    };
    let counts = request.topics.iter().map(|topic| topic.partitions.len());
    if let Err(refusal) = check_count(counts) {
        return Response {
            error_code: refusal.code,
            error_message: refusal.into_message(),
            ..told
        };
    }
    let factor = match allow_replication_factor_change {
        true => ReplicationFactor::MayChange,
        false => ReplicationFactor::Stays,
    };
    let asked: Vec<Asked> = request.topics.into_iter().flat_map(partitions).collect();
    let mut decided = Vec::with_capacity(asked.len());
    for asked in asked.chunks(PARTITIONS_AT_ONCE_MAX) {
        let reassignments = asked.iter().map(Asked::check).collect();
        let change = |partitions| Change::ReassignPartitions { factor, partitions };
        decided.extend(change_valid(context, Intent::Apply, reassignments, change).await);
    }
    let results = asked.into_iter().zip(decided).map(|(asked, decided)| {
        let (error_code, error_message) = outcome(decided);
        let result = ReassignablePartitionResponse {
            partition_index: asked.name.partition,
            error_code,
            error_message,
        };
        (asked.name, result)
    });
    let topics = by_topic(results).into_iter();
    let topics = topics.map(|(topic, partitions)| ReassignableTopicResponse {
        name: topic.to_string(),
        partitions,
    });
    Response {
        responses: topics.collect(),
        ..told
    }
}

/// A partition, and where it shall be.
struct Asked {
    name: PartitionName,
    replicas: Option<Vec<BrokerId>>,
}

impl Asked {
    fn check(&self) -> Result<Reassignment, Refusal> {
        if self.replicas.as_ref().map_or(0, Vec::len) > REPLICAS_MAX {
            let message = format!("A partition has {REPLICAS_MAX} replicas at most.");
            return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
        }
        Ok(Reassignment {
            partition: self.name.parse()?,
            replicas: self.replicas.clone(),
        })
    }
}

fn partitions(topic: ReassignableTopic) -> impl Iterator<Item = Asked> {
    let name: Arc<str> = topic.name.into();
    topic.partitions.into_iter().map(move |asked| Asked {
        name: PartitionName {
            topic: name.clone(),
            partition: asked.partition_index,
        },
        replicas: asked.replicas,
    })
}
