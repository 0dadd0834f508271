//! ElectLeaders: the active controller holds elections, some at a time.

use std::sync::Arc;

use super::partition_name::{
    by_topic, check_count, PartitionName, PARTITIONS_AT_ONCE_MAX, PARTITIONS_MAX,
};
use super::{change_valid, outcome, ApiContext};
use crate::engine::metadata::change::{Change, Decided, Intent};
use crate::engine::metadata::elect_leaders::{in_need_of, ElectionType};
use crate::model::{ErrorCode, Refusal};
use crate::protocol::elect_leaders::{
    PartitionResult, ReplicaElectionResult, Request, Response, TopicPartitions, ELECTION_PREFERRED,
    ELECTION_UNCLEAN,
};

pub async fn answer(context: &ApiContext, request: Request) -> Response {
    let asked = request.topic_partitions.iter().flatten();
    if let Err(refusal) = check_count(asked.map(|topic| topic.partitions.len())) {
        return refuse(refusal, Vec::new());
    }
    let election = match request.election_type {
        ELECTION_PREFERRED => ElectionType::Preferred,
        ELECTION_UNCLEAN => ElectionType::Unclean,
        other => {
            let message = format!("Unknown election type {other}.");
            let refusal = Refusal::new(ErrorCode::InvalidRequest, message);
            return refuse(refusal, names(request.topic_partitions.unwrap_or_default()));
        }
    };
    let elected = match request.topic_partitions {
        Some(named) => elect(context, election, names(named)).await,
        None => elect_all(context, election).await,
    };
    Response {
        replica_election_results: results(elected),
        ..Default::default()
    }
}

fn names(topics: Vec<TopicPartitions>) -> Vec<PartitionName> {
    let of_topic = |named: TopicPartitions| {
        let topic: Arc<str> = named.topic.into();
        let partitions = named.partitions.into_iter();
        partitions.map(move |partition| PartitionName {
            topic: topic.clone(),
            partition,
        })
    };
    topics.into_iter().flat_map(of_topic).collect()
}

/// All that need it, or so many as one request may name. As in Kafka, nothing is told of those where somebody
/// else was faster.
async fn elect_all(context: &ApiContext, election: ElectionType) -> Vec<(PartitionName, Decided)> {
    let image = context.image();
    let needing = in_need_of(&image, election).take(PARTITIONS_MAX);
    let needing = needing.map(|needing| PartitionName {
        topic: needing.topic.into(),
        partition: needing.partition,
    });
    let mut elected = elect(context, election, needing.collect()).await;
    elected.retain(|(_, decided)| {
        let refusal = decided.as_ref().err();
        refusal.is_none_or(|refusal| refusal.code != ErrorCode::ElectionNotNeeded)
    });
    elected
}

async fn elect(
    context: &ApiContext,
    election: ElectionType,
    names: Vec<PartitionName>,
) -> Vec<(PartitionName, Decided)> {
    let mut decided = Vec::with_capacity(names.len());
    for names in names.chunks(PARTITIONS_AT_ONCE_MAX) {
        let partitions = names.iter().map(PartitionName::parse).collect();
        let change = |partitions| Change::ElectLeaders {
            election,
            partitions,
        };
        decided.extend(change_valid(context, Intent::Apply, partitions, change).await);
    }
    names.into_iter().zip(decided).collect()
}

fn results(elected: Vec<(PartitionName, Decided)>) -> Vec<ReplicaElectionResult> {
    let results = elected.into_iter().map(|(name, decided)| {
        let (error_code, error_message) = outcome(decided);
        let result = PartitionResult {
            partition_id: name.partition,
            error_code,
            error_message,
        };
        (name, result)
    });
    let topics = by_topic(results).into_iter();
    let topics = topics.map(|(topic, partition_result)| ReplicaElectionResult {
        topic: topic.to_string(),
        partition_result,
    });
    topics.collect()
}

fn refuse(refusal: Refusal, names: Vec<PartitionName>) -> Response {
    let refused = names.into_iter();
    let refused = refused.map(|name| (name, Err(refusal.clone())));
    let replica_election_results = results(refused.collect());
    Response {
        error_code: refusal.code,
        replica_election_results,
        ..Default::default()
    }
}
