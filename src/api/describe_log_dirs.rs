//! DescribeLogDirs: how large the logs are that are led here.

use std::collections::{BTreeMap, HashSet};

use super::ApiContext;
use crate::protocol::describe_log_dirs::{
    DescribableLogDirTopic, DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
    Request, Response,
};

pub fn answer(context: &ApiContext, request: Request) -> Response {
    let asked = request.topics.as_deref().map(asked);
    let is_asked = |topic: &str, partition: i32| match &asked {
        None => true,
        Some(asked) => asked.contains(&(topic, partition)),
    };
    let directory = context.partitions.current();
    let mut topics = BTreeMap::<&str, Vec<DescribeLogDirsPartition>>::new();
    for (name, topic) in directory.topics_by_name() {
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
    let result = DescribeLogDirsResult {
        log_dir: context.settings.log_dir.clone(),
        topics: topics.collect(),
        ..Default::default()
    };
    Response {
        results: vec![result],
        ..Default::default()
    }
}

fn asked(topics: &[DescribableLogDirTopic]) -> HashSet<(&str, i32)> {
    let each = topics.iter().flat_map(|topic| {
        let partitions = topic.partitions.iter();
        partitions.map(|partition| (topic.topic.as_str(), *partition))
    });
    each.collect()
}
