//! DescribeLogDirs: how large the logs are that are led here.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::ApiContext;
use crate::protocol::describe_log_dirs::{
    DescribableLogDirTopic, DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
    Request, Response,
};

pub fn answer(context: &ApiContext, request: Request) -> Response {
    let asked = request.topics.as_deref().map(asked);
    let is_asked = |topic: &str, partition: i32| match &asked {
        None => true,
        Some(asked) => asked.get(topic).is_some_and(|a| a.contains(&partition)),
    };
    let directory = context.partitions.current();
    let mut topics = BTreeMap::<&str, Vec<DescribeLogDirsPartition>>::new();
    for (name, topic) in directory.topics() {
        let wanted = topic.partitions.iter();
        let wanted = wanted.filter(|(index, _)| is_asked(name.as_str(), **index));
        for (index, handle) in wanted {
            let partitions = topics.entry(name.as_str()).or_default();
            partitions.push(DescribeLogDirsPartition {
                partition_index: *index,
                partition_size: i64::try_from(handle.size_bytes()).unwrap_or(i64::MAX),
                offset_lag: 0,
                is_future_key: false,
            });
        }
    }
    let topics = topics.into_iter().map(|(name, mut partitions)| {
        partitions.sort_by_key(|partition| partition.partition_index);
        DescribeLogDirsTopic {
            name: name.to_owned(),
            partitions,
        }
    });
    let space = context.log_dir.space().ok();
    let size = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let result = DescribeLogDirsResult {
        log_dir: context.log_dir.path().display().to_string(),
        topics: topics.collect(),
        total_bytes: space.map_or(-1, |space| size(space.total_bytes)),
        usable_bytes: space.map_or(-1, |space| size(space.usable_bytes)),
        ..Default::default()
    };
    Response {
        results: vec![result],
        ..Default::default()
    }
}

/// By topic, whose name may be long and have many partitions.
fn asked(topics: &[DescribableLogDirTopic]) -> HashMap<&str, HashSet<i32>> {
    let mut asked = HashMap::<&str, HashSet<i32>>::new();
    for topic in topics {
        asked
            .entry(&topic.topic)
            .or_default()
            .extend(&topic.partitions);
    }
    asked
}
