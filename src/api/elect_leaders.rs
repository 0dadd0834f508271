//! ElectLeaders: the active controller holds elections, some at a time.

use std::sync::Arc;

use super::{change_valid, outcome, ApiContext};
use crate::engine::metadata::change::{Change, Decided, Intent};
use crate::engine::metadata::elect_leaders::{in_need_of, ElectionType};
use crate::model::{ErrorCode, Refusal, TopicName, TopicPartition};
use crate::protocol::elect_leaders::{
    PartitionResult, ReplicaElectionResult, Request, Response, TopicPartitions, ELECTION_PREFERRED,
    ELECTION_UNCLEAN,
};

/// How many elections are one proposal to the metadata.
const ELECTIONS_AT_ONCE_MAX: usize = 1_000;
/// How many elections one request may ask for. Who asks for all partitions gets so many, and asks again.
const ELECTIONS_MAX: usize = 100_000;

pub async fn answer(context: &ApiContext, request: Request) -> Response {
    let asked = request.topic_partitions.iter().flatten();
    if asked.map(|topic| topic.partitions.len()).sum::<usize>() > ELECTIONS_MAX {
        let message = format!("A request may ask for {ELECTIONS_MAX} elections at most.");
        let refusal = Refusal::new(ErrorCode::InvalidRequest, message);
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
        None => {
            let image = context.image();
            let needing = in_need_of(&image, election).take(ELECTIONS_MAX);
            let needing = needing.map(|partition| Name {
                topic: partition.topic.into(),
                partition: partition.partition,
            });
            let needing = needing.collect();
            let mut elected = elect(context, election, needing).await;
            // As in Kafka: somebody else was faster.
            elected.retain(|(_, outcome)| {
                let refusal = outcome.as_ref().err();
                refusal.is_none_or(|refusal| refusal.code != ErrorCode::ElectionNotNeeded)
            });
            elected
        }
    };
    Response {
        replica_election_results: by_topic(elected),
        ..Default::default()
    }
}

/// A partition as the client names it. The topic's name is shared: it may be long, and have many.
struct Name {
    topic: Arc<str>,
    partition: i32,
}

impl Name {
    fn parse(&self) -> Result<TopicPartition, Refusal> {
        let topic = self.topic.parse::<TopicName>();
        Ok(TopicPartition {
            topic: topic.map_err(|_| Refusal::from(ErrorCode::UnknownTopicOrPartition))?,
            partition: self.partition,
        })
    }
}

fn names(topics: Vec<TopicPartitions>) -> Vec<Name> {
    let of_topic = |topic: TopicPartitions| {
        let name: Arc<str> = topic.topic.into();
        let partitions = topic.partitions.into_iter();
        partitions.map(move |partition| Name {
            topic: name.clone(),
            partition,
        })
    };
    topics.into_iter().flat_map(of_topic).collect()
}

async fn elect(
    context: &ApiContext,
    election: ElectionType,
    names: Vec<Name>,
) -> Vec<(Name, Decided)> {
    let mut decided = Vec::with_capacity(names.len());
    for names in names.chunks(ELECTIONS_AT_ONCE_MAX) {
        let partitions = names.iter().map(Name::parse).collect();
        let change = |partitions| Change::ElectLeaders {
            election,
            partitions,
        };
        decided.extend(change_valid(context, Intent::Apply, partitions, change).await);
    }
    names.into_iter().zip(decided).collect()
}

/// In the order in which they come; those of one topic stand together.
fn by_topic(elected: Vec<(Name, Decided)>) -> Vec<ReplicaElectionResult> {
    let mut results: Vec<ReplicaElectionResult> = Vec::new();
    for (name, decided) in elected {
        let (error_code, error_message) = outcome(decided);
        let result = PartitionResult {
            partition_id: name.partition,
            error_code,
            error_message,
        };
        match results.last_mut().filter(|last| *last.topic == *name.topic) {
            Some(last) => last.partition_result.push(result),
            None => results.push(ReplicaElectionResult {
                topic: name.topic.to_string(),
                partition_result: vec![result],
            }),
        }
    }
    results
}

fn refuse(refusal: Refusal, names: Vec<Name>) -> Response {
    let refused = names.into_iter();
    let refused = refused.map(|name| (name, Err(refusal.clone())));
    let replica_election_results = by_topic(refused.collect());
    Response {
        error_code: refusal.code,
        replica_election_results,
        ..Default::default()
    }
}
