//! Where partitions start and end, and where a time lies in them.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{partition_result, Admin};
use crate::client::connection::Purpose;
use crate::client::{ClientError, TopicPartition};
use crate::model::{BrokerId, LeaderEpoch, Offset, Timestamp};
use crate::protocol::list_offsets::{
    self, ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsTopic, EARLIEST_TIMESTAMP,
    LATEST_TIMESTAMP,
};

/// What became of each partition.
pub type Found = BTreeMap<TopicPartition, Result<Offset, ClientError>>;

/// What one leader is asked.
type Asked = Vec<(TopicPartition, Timestamp)>;

impl Admin {
    /// Where each partition of a topic has its first record at or after `timestamp`, which may also be one of
    /// the constants of [`list_offsets`]; [`Offset::NONE`] where there is none.
    pub async fn list_offsets(
        &self,
        topic: &str,
        timestamp: Timestamp,
    ) -> Result<Vec<(i32, Offset)>, ClientError> {
        let metadata = self.client.topic(topic).await?;
        let partitions = metadata.partitions.iter();
        let asked = partitions.map(|it| ((metadata.name.clone(), it.index), timestamp));
        let found = self.find_offsets(asked.collect()).await.into_iter();
        found
            .map(|((_, partition), offset)| Ok((partition, offset?)))
            .collect()
    }

    /// The same, for one partition.
    pub async fn list_offset(
        &self,
        topic: &str,
        partition: i32,
        timestamp: Timestamp,
    ) -> Result<Offset, ClientError> {
        let key: TopicPartition = (topic.into(), partition);
        let mut found = self.find_offsets([(key.clone(), timestamp)].into()).await;
        found.remove(&key).unwrap_or_else(|| Err(missing(&key)))
    }

    /// The same for any partitions, each with its own time. All leaders are asked at once, each with one
    /// request. Where one isn't the leader any more, or can't be reached, whoever is now is asked once more.
    pub async fn find_offsets(&self, wanted: BTreeMap<TopicPartition, Timestamp>) -> Found {
        let mut found = self.ask_leaders(&wanted).await;
        let failed = found.iter().filter(|(_, offset)| match offset {
            Ok(_) => false,
            Err(error) => error.is_retriable(),
        });
        let again: BTreeMap<TopicPartition, Timestamp> = failed
            .filter_map(|(key, _)| Some((key.clone(), *wanted.get(key)?)))
            .collect();
        if !again.is_empty() {
            let since = Instant::now();
            for (topic, _) in again.keys() {
                // If this fails, so will the next attempt, which then says why.
                let _ = self.client.topic_since(topic, since).await;
            }
            found.extend(self.ask_leaders(&again).await);
        }
        found
    }

    async fn ask_leaders(&self, wanted: &BTreeMap<TopicPartition, Timestamp>) -> Found {
        let mut found = Found::new();
        let mut by_leader: BTreeMap<BrokerId, Asked> = BTreeMap::new();
        for (key, timestamp) in wanted {
            match self.client.leader(&key.0, key.1).await {
                Ok(leader) => {
                    let asked = by_leader.entry(leader).or_default();
                    asked.push((key.clone(), *timestamp));
                }
                Err(error) => drop(found.insert(key.clone(), Err(error))),
            }
        }
        let mut answers = JoinSet::new();
        for (leader, asked) in by_leader {
            let admin = self.clone();
            answers.spawn(async move { admin.ask_leader(leader, asked).await });
        }
        found.extend(answers.join_all().await.into_iter().flatten());
        found
    }

    async fn ask_leader(&self, leader: BrokerId, asked: Asked) -> Found {
        let request = list_offsets::Request {
            topics: topics(&asked),
            ..Default::default()
        };
        let answer = async {
            let connection = self.client.broker(leader, Purpose::Control).await?;
            let asking = connection.call::<list_offsets::Api>(&request, Duration::ZERO);
            asking.await
        };
        match answer.await {
            Ok(response) => told(leader, &asked, response),
            Err(error) => {
                let keys = asked.into_iter().map(|(key, _)| key);
                keys.map(|key| (key, Err(error.clone()))).collect()
            }
        }
    }
}

/// Those of a topic stand together.
fn topics(asked: &[(TopicPartition, Timestamp)]) -> Vec<ListOffsetsTopic> {
    let of_topics = asked.chunk_by(|(a, _), (b, _)| a.0 == b.0);
    let topics = of_topics.map(|of_topic| ListOffsetsTopic {
        name: of_topic[0].0 .0.to_string(),
        partitions: of_topic
            .iter()
            .map(|((_, partition), timestamp)| ListOffsetsPartition {
                partition_index: *partition,
                current_leader_epoch: LeaderEpoch::NONE,
                timestamp: *timestamp,
            })
            .collect(),
    });
    topics.collect()
}

fn told(
    leader: BrokerId,
    asked: &[(TopicPartition, Timestamp)],
    response: list_offsets::Response,
) -> Found {
    let mut answers: BTreeMap<(&str, i32), &ListOffsetsPartitionResponse> = BTreeMap::new();
    for topic in &response.topics {
        for partition in &topic.partitions {
            answers.insert((&topic.name, partition.partition_index), partition);
        }
    }
    let found = asked.iter().map(|(key, timestamp)| {
        let answer = answers.get(&(&*key.0, key.1));
        let offset = match answer {
            Some(answer) => offset_told(leader, key, *timestamp, answer),
            None => Err(missing(key)),
        };
        (key.clone(), offset)
    });
    found.collect()
}

fn offset_told(
    leader: BrokerId,
    (topic, partition): &TopicPartition,
    timestamp: Timestamp,
    answer: &ListOffsetsPartitionResponse,
) -> Result<Offset, ClientError> {
    partition_result(topic, *partition, answer.error_code)?;
    let always_has_one = [EARLIEST_TIMESTAMP, LATEST_TIMESTAMP].contains(&timestamp);
    match answer.offset {
        offset if offset >= Offset::ZERO => Ok(offset),
        Offset::NONE if !always_has_one => Ok(Offset::NONE),
        offset => Err(ClientError::Garbled {
            address: format!("broker {leader}"),
            api: "ListOffsets",
            reason: format!("partition {topic}-{partition} can't have offset {offset}"),
        }),
    }
}

fn missing((topic, partition): &TopicPartition) -> ClientError {
    ClientError::Garbled {
        address: "the broker".into(),
        api: "ListOffsets",
        reason: format!("the response doesn't tell of partition {topic}-{partition}"),
    }
}
