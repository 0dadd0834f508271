//! The usual requests in short, each about one topic or partition.

use std::io;

use bytes::Bytes;
use klamm::model::{ErrorCode, LeaderEpoch, Offset, Timestamp, TopicId};
use klamm::protocol::create_topics::{CreatableTopic, CreatableTopicConfig, CreatableTopicResult};
use klamm::protocol::describe_actors::ActorDescription;
use klamm::protocol::fetch::{FetchPartition, FetchTopic, PartitionData};
use klamm::protocol::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsTopic,
};
use klamm::protocol::produce::{PartitionProduceData, PartitionProduceResponse, TopicProduceData};
use klamm::protocol::{
    create_topics, delete_topics, describe_actors, fetch, list_offsets, metadata, produce, Records,
};

use crate::batches;
use crate::wire::Wire;

pub const ACKS_ALL: i16 = -1;
/// Nobody here wants to wait longer for other replicas.
const TIMEOUT_MS: i32 = 10_000;
const FETCH_BYTES_MAX: i32 = 16 * 1024 * 1024;

pub fn produce_request(topic: &str, partition: i32, acks: i16, batch: Bytes) -> produce::Request {
    produce::Request {
        acks,
        timeout_ms: TIMEOUT_MS,
        topic_data: vec![TopicProduceData {
            name: topic.into(),
            partition_data: vec![PartitionProduceData {
                index: partition,
                records: Records(batch),
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// Reads at once what is there.
pub fn fetch_request(topic: &str, partition: i32, from: i64) -> fetch::Request {
    fetch::Request {
        max_wait_ms: 0,
        min_bytes: 0,
        max_bytes: FETCH_BYTES_MAX,
        topics: vec![FetchTopic {
            topic: topic.into(),
            topic_id: TopicId::NONE,
            partitions: vec![FetchPartition {
                partition,
                current_leader_epoch: LeaderEpoch::NONE,
                fetch_offset: Offset(from),
                partition_max_bytes: FETCH_BYTES_MAX,
                ..Default::default()
            }],
        }],
        ..Default::default()
    }
}

pub fn create_request(
    name: &str,
    partitions: i32,
    configs: &[(&str, &str)],
) -> create_topics::Request {
    let configs = configs.iter().map(|(name, value)| CreatableTopicConfig {
        name: (*name).into(),
        value: Some((*value).into()),
    });
    create_topics::Request {
        topics: vec![CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: -1,
            assignments: Vec::new(),
            configs: configs.collect(),
        }],
        timeout_ms: TIMEOUT_MS,
        validate_only: false,
    }
}

pub fn delete_request(name: &str) -> delete_topics::Request {
    delete_topics::Request {
        topics: vec![delete_topics::DeleteTopicState {
            name: Some(name.into()),
            topic_id: TopicId::NONE,
        }],
        timeout_ms: TIMEOUT_MS,
        ..Default::default()
    }
}

/// The answer for the one partition of a request that was about one.
pub fn only_partition(response: fetch::Response) -> PartitionData {
    assert_eq!(response.error_code, ErrorCode::None);
    let mut topics = response.responses;
    topics.pop().unwrap().partitions.pop().unwrap()
}

pub fn only_result(response: produce::Response) -> PartitionProduceResponse {
    let mut topics = response.responses;
    topics.pop().unwrap().partition_responses.pop().unwrap()
}

impl Wire {
    pub fn try_create_topic(
        &mut self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> CreatableTopicResult {
        let request = create_request(name, partitions, configs);
        let response = self.call::<create_topics::Api>(&request);
        response.topics.into_iter().next().unwrap()
    }

    pub fn create_topic(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let created = self.try_create_topic(name, partitions, configs);
        assert_eq!(created.error_code, ErrorCode::None, "{created:?}");
    }

    pub fn delete_topic(&mut self, name: &str) -> ErrorCode {
        let response = self.call::<delete_topics::Api>(&delete_request(name));
        response.responses[0].error_code
    }

    pub fn try_produce(
        &mut self,
        topic: &str,
        partition: i32,
        acks: i16,
        batch: Bytes,
    ) -> io::Result<PartitionProduceResponse> {
        let request = produce_request(topic, partition, acks, batch);
        self.ask::<produce::Api>(&request).map(only_result)
    }

    pub fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        acks: i16,
        batch: Bytes,
    ) -> PartitionProduceResponse {
        self.try_produce(topic, partition, acks, batch).unwrap()
    }

    /// Appends to partition 0 with acks=all, which must work; returns the base offset.
    pub fn append<V: AsRef<[u8]>>(&mut self, topic: &str, values: &[V]) -> i64 {
        let result = self.produce(topic, 0, ACKS_ALL, batches::batch(values));
        assert_eq!(result.error_code, ErrorCode::None, "{result:?}");
        result.base_offset.0
    }

    /// What can be read at once from an offset.
    pub fn fetch(&mut self, topic: &str, partition: i32, from: i64) -> PartitionData {
        only_partition(self.call::<fetch::Api>(&fetch_request(topic, partition, from)))
    }

    /// All records of a partition, from its start.
    pub fn read_all(&mut self, topic: &str, partition: i32) -> Vec<(i64, Vec<u8>)> {
        let mut all: Vec<(i64, Vec<u8>)> = Vec::new();
        let mut from = self.fetch(topic, partition, 0).log_start_offset.0;
        loop {
            let data = self.fetch(topic, partition, from);
            assert_eq!(data.error_code, ErrorCode::None, "at offset {from}");
            if data.records.0.is_empty() {
                assert_eq!(
                    data.high_watermark.0, from,
                    "the log ends below its high watermark"
                );
                return all;
            }
            all.extend(batches::records(&data.records.0));
            from = all.last().unwrap().0 + 1;
        }
    }

    /// ListOffsets of partition 0.
    pub fn offset_at(&mut self, topic: &str, timestamp: Timestamp) -> ListOffsetsPartitionResponse {
        let request = list_offsets::Request {
            topics: vec![ListOffsetsTopic {
                name: topic.into(),
                partitions: vec![ListOffsetsPartition {
                    partition_index: 0,
                    current_leader_epoch: LeaderEpoch::NONE,
                    timestamp,
                }],
            }],
            ..Default::default()
        };
        let response = self.call::<list_offsets::Api>(&request);
        response.topics[0].partitions[0].clone()
    }

    pub fn actors(&mut self, kind: Option<&str>) -> Vec<ActorDescription> {
        let kind = kind.map(str::to_owned);
        let request = describe_actors::Request { kind };
        self.call::<describe_actors::Api>(&request).actors
    }

    /// A topic's metadata, without creating it.
    pub fn topic(&mut self, name: &str) -> metadata::MetadataResponseTopic {
        let request = metadata::Request {
            topics: Some(vec![metadata::MetadataRequestTopic {
                topic_id: TopicId::NONE,
                name: Some(name.into()),
            }]),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let response = self.call::<metadata::Api>(&request);
        response.topics.into_iter().next().unwrap()
    }
}
