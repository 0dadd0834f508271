//! CreatePartitions: raise a topic's number of partitions.

use super::create_topics::await_leaders;
use super::{change_each, outcome, ApiContext};
use crate::engine::metadata::change::{Change, Decided, Intent};
use crate::engine::metadata::create_partitions::MorePartitions;
use crate::protocol::create_partitions::{
    CreatePartitionsTopic, CreatePartitionsTopicResult, Request, Response,
};

pub async fn answer(context: &ApiContext, request: Request) -> Response {
    let intent = Intent::from_flag(request.validate_only);
    let names: Vec<String> = request.topics.iter().map(|t| t.name.clone()).collect();
    let topics: Vec<_> = request.topics.into_iter().map(more_partitions).collect();
    let decided = change_each(context, intent, Change::CreatePartitions(topics)).await;
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

fn more_partitions(topic: CreatePartitionsTopic) -> MorePartitions {
    let assignments = topic.assignments;
    MorePartitions {
        topic: topic.name,
        count: topic.count,
        assignments: assignments.map(|all| all.into_iter().map(|a| a.broker_ids).collect()),
    }
}

fn result(name: String, decided: Decided) -> CreatePartitionsTopicResult {
    let (error_code, error_message) = outcome(decided);
    CreatePartitionsTopicResult {
        name,
        error_code,
        error_message,
    }
}
