//! CreatePartitions: raise a topic's number of partitions. That of `__consumer_offsets` stays: a group lies in the
//! partition that its name and this number say, and would be looked for elsewhere.

use super::create_topics::await_leaders;
use super::{change_valid, outcome, ApiContext};
use crate::actors::group_coordinator::OFFSETS_TOPIC;
use crate::engine::metadata::change::{Change, Decided, Intent};
use crate::engine::metadata::create_partitions::MorePartitions;
use crate::model::{ErrorCode, Refusal};
use crate::protocol::create_partitions::{
    CreatePartitionsTopic, CreatePartitionsTopicResult, Request, Response,
};

pub async fn answer(context: &ApiContext, request: Request) -> Response {
    let intent = Intent::from_flag(request.validate_only);
    let names: Vec<String> = request.topics.iter().map(|t| t.name.clone()).collect();
    let topics: Vec<_> = request.topics.into_iter().map(more_partitions).collect();
    let decided = change_valid(context, intent, topics, Change::CreatePartitions).await;
    if intent == Intent::Apply {
        await_leaders(context, &decided, request.timeout_ms).await;
    }
    let results = names.into_iter().zip(decided);
    Response {
        results: results
            .map(|(name, decided)| result(name, decided))
            .collect(),
        ..Default::default()
    }
}

fn more_partitions(topic: CreatePartitionsTopic) -> Result<MorePartitions, Refusal> {
    if topic.name == OFFSETS_TOPIC {
        let message =
            format!("The number of partitions of {OFFSETS_TOPIC} says where each group is kept.");
        return Err(Refusal::new(ErrorCode::InvalidPartitions, message));
    }
    let assignments = topic.assignments;
    Ok(MorePartitions {
        topic: topic.name,
        count: topic.count,
        assignments: assignments.map(|all| all.into_iter().map(|a| a.broker_ids).collect()),
    })
}

fn result(name: String, decided: Decided) -> CreatePartitionsTopicResult {
    let (error_code, error_message) = outcome(decided);
    CreatePartitionsTopicResult {
        name,
        error_code,
        error_message,
    }
}
