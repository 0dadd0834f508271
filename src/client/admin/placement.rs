//! Who holds and who leads partitions: elections, reassignments, and brokers that are given up.

use super::{millis, Admin, CHANGE_TIMEOUT};
use crate::client::{ClientError, TopicMetadata};
use crate::model::{BrokerId, ErrorCode};
use crate::protocol::elect_leaders::{ELECTION_PREFERRED, ELECTION_UNCLEAN};
use crate::protocol::{
    alter_partition_reassignments, elect_leaders, list_partition_reassignments, unregister_broker,
};

/// Which election is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Election {
    /// The first of the replicas shall lead, where it is in sync.
    Preferred,
    /// Where nobody leads, a replica shall that may lack committed records: they are lost then.
    Unclean,
}

/// Where a partition shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionTarget {
    pub topic: String,
    pub partition: i32,
    /// The preferred leader first; `None` cancels the reassignment that is under way.
    pub replicas: Option<Vec<BrokerId>>,
}

/// A partition on its way to other replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reassigning {
    pub topic: String,
    pub partition: i32,
    /// Those that shall be, then those that shall go.
    pub replicas: Vec<BrokerId>,
    pub adding: Vec<BrokerId>,
    pub removing: Vec<BrokerId>,
}

/// What became of one partition of many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionOutcome {
    pub topic: String,
    pub partition: i32,
    pub result: Result<(), ClientError>,
}

impl PartitionOutcome {
    fn new(topic: &str, partition: i32, code: ErrorCode, message: Option<String>) -> Self {
        let topic = topic.to_string();
        let result = match code {
            ErrorCode::None => Ok(()),
            code => Err(ClientError::Partition {
                topic: topic.clone(),
                partition,
                code,
                message: message.unwrap_or_default(),
            }),
        };
        PartitionOutcome {
            topic,
            partition,
            result,
        }
    }
}

fn refused(api: &'static str, code: ErrorCode, message: Option<String>) -> Result<(), ClientError> {
    match code {
        ErrorCode::None => Ok(()),
        code => Err(ClientError::Refused {
            address: "the cluster".to_string(),
            api,
            code,
            message: message.unwrap_or_default(),
        }),
    }
}

/// Puts what belongs to one topic together, in the order of the topics' first partitions.
fn by_topic<T>(parts: impl IntoIterator<Item = (String, T)>) -> Vec<(String, Vec<T>)> {
    let mut topics: Vec<(String, Vec<T>)> = Vec::new();
    for (topic, part) in parts {
        match topics.iter_mut().find(|(known, _)| *known == topic) {
            Some((_, parts)) => parts.push(part),
            None => topics.push((topic, vec![part])),
        }
    }
    topics
}

impl Admin {
    /// Holds an election for these partitions, or for all that need one. Those that need none are told with
    /// ELECTION_NOT_NEEDED if they are named, and not at all if they aren't.
    pub async fn elect_leaders(
        &self,
        election: Election,
        partitions: Option<&[(String, i32)]>,
    ) -> Result<Vec<PartitionOutcome>, ClientError> {
        let topics = partitions.map(|partitions| {
            let topics = by_topic(partitions.iter().cloned()).into_iter();
            let topics = topics
                .map(|(topic, partitions)| elect_leaders::TopicPartitions { topic, partitions });
            topics.collect()
        });
        let request = elect_leaders::Request {
            election_type: match election {
                Election::Preferred => ELECTION_PREFERRED,
                Election::Unclean => ELECTION_UNCLEAN,
            },
            topic_partitions: topics,
            timeout_ms: millis(CHANGE_TIMEOUT),
        };
        let answered = self
            .client
            .call_controller::<elect_leaders::Api>(&request, CHANGE_TIMEOUT);
        let response = answered.await?;
        refused("ElectLeaders", response.error_code, None)?;
        let topics = response.replica_election_results.into_iter();
        let outcomes = topics.flat_map(|topic| {
            let name = topic.topic;
            topic.partition_result.into_iter().map(move |part| {
                PartitionOutcome::new(
                    &name,
                    part.partition_id,
                    part.error_code,
                    part.error_message,
                )
            })
        });
        Ok(outcomes.collect())
    }

    /// All topics, sorted by name, as the controller has them: with what this client has just changed.
    pub async fn newest_topics(&self) -> Result<Vec<TopicMetadata>, ClientError> {
        self.client.newest_topics().await
    }

    /// Begins to move partitions, or stops moving them. Each is decided by itself.
    pub async fn reassign_partitions(
        &self,
        targets: &[PartitionTarget],
    ) -> Result<Vec<PartitionOutcome>, ClientError> {
        use alter_partition_reassignments::{
            Api, ReassignablePartition, ReassignableTopic, Request,
        };
        let parts = targets.iter().map(|target| {
            let part = ReassignablePartition {
                partition_index: target.partition,
                replicas: target.replicas.clone(),
            };
            (target.topic.clone(), part)
        });
        let topics = by_topic(parts).into_iter();
        let request = Request {
            timeout_ms: millis(CHANGE_TIMEOUT),
            topics: topics
                .map(|(name, partitions)| ReassignableTopic { name, partitions })
                .collect(),
            ..Default::default()
        };
        let answered = self.client.call_controller::<Api>(&request, CHANGE_TIMEOUT);
        let response = answered.await?;
        refused(
            "AlterPartitionReassignments",
            response.error_code,
            response.error_message,
        )?;
        let topics = response.responses.into_iter();
        let outcomes = topics.flat_map(|topic| {
            let name = topic.name;
            topic.partitions.into_iter().map(move |part| {
                let index = part.partition_index;
                PartitionOutcome::new(&name, index, part.error_code, part.error_message)
            })
        });
        Ok(outcomes.collect())
    }

    /// All partitions that are on their way to other replicas.
    pub async fn list_reassignments(&self) -> Result<Vec<Reassigning>, ClientError> {
        use list_partition_reassignments::{Api, Request};
        let request = Request::default();
        let answered = self.client.call_controller::<Api>(&request, CHANGE_TIMEOUT);
        let response = answered.await?;
        refused(
            "ListPartitionReassignments",
            response.error_code,
            response.error_message,
        )?;
        let topics = response.topics.into_iter();
        let reassigning = topics.flat_map(|topic| {
            let name = topic.name;
            topic.partitions.into_iter().map(move |part| Reassigning {
                topic: name.clone(),
                partition: part.partition_index,
                replicas: part.replicas,
                adding: part.adding_replicas,
                removing: part.removing_replicas,
            })
        });
        Ok(reassigning.collect())
    }

    /// Has the cluster forget a broker that is gone for good. Errs while it is there.
    pub async fn unregister_broker(&self, broker: BrokerId) -> Result<(), ClientError> {
        let request = unregister_broker::Request { broker_id: broker };
        let answered = self
            .client
            .call_controller::<unregister_broker::Api>(&request, CHANGE_TIMEOUT);
        let response = answered.await?;
        refused(
            "UnregisterBroker",
            response.error_code,
            response.error_message,
        )
    }
}
