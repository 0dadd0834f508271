//! Administration: topics, partitions, configs, offsets and the brokers themselves.

mod lag;
mod members;
mod offsets;
mod placement;

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{timeout, Instant};

use super::connection::Purpose;
use super::{Client, ClientError, TopicMetadata};
use crate::model::{BrokerId, ErrorCode, Offset, TopicId};
use crate::protocol::describe_cluster::DescribeClusterBroker;
use crate::protocol::describe_configs::{RESOURCE_BROKER, RESOURCE_TOPIC};
use crate::protocol::incremental_alter_configs::AlterConfigOp;
use crate::protocol::{
    create_partitions, create_topics, delete_records, delete_topics, describe_actors,
    describe_cluster, describe_configs, describe_quorum, incremental_alter_configs, readmit_voter,
};

pub use lag::PartitionLag;
pub use members::{GroupMember, GroupMembers};
pub use placement::{Election, PartitionOutcome, PartitionTarget, Reassigning};

/// How long the controller may take to carry out a change.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(30);

/// A topic to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTopic {
    pub name: String,
    /// `None`: the broker's default.
    pub partitions: Option<i32>,
    /// `None`: the broker's default.
    pub replication_factor: Option<i16>,
    pub configs: Vec<(String, String)>,
    /// The replicas of each partition, the preferred leader first; empty lets the cluster place them. With
    /// these, neither of the counts above may be given.
    pub assignments: Vec<Vec<BrokerId>>,
}

/// Whose configs are asked for or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    Topic(String),
    Broker(BrokerId),
}

impl Resource {
    fn to_wire(&self) -> (i8, String) {
        match self {
            Resource::Topic(name) => (RESOURCE_TOPIC, name.clone()),
            Resource::Broker(id) => (RESOURCE_BROKER, id.to_string()),
        }
    }

    fn refused(&self, code: ErrorCode, message: Option<String>) -> Result<(), ClientError> {
        match self {
            Resource::Topic(name) => topic_result(name, code, message),
            Resource::Broker(id) => match code {
                ErrorCode::None => Ok(()),
                code => Err(ClientError::Refused {
                    address: format!("broker {id}"),
                    api: "configs",
                    code,
                    message: message.unwrap_or_default(),
                }),
            },
        }
    }
}

/// A setting's name, what to do with it, and the value to do it with, which only
/// [`AlterConfigOp::Delete`] doesn't need.
pub type ConfigChange = (String, AlterConfigOp, Option<String>);

/// Administrates a cluster. Clones share the client.
///
/// No change is tried again by itself: whether one that wasn't answered was made isn't known, and
/// [`ClientError::is_retriable`] says whether it makes sense.
#[derive(Clone, Debug)]
pub struct Admin {
    pub(super) client: Client,
}

fn topic_result(topic: &str, code: ErrorCode, message: Option<String>) -> Result<(), ClientError> {
    match code {
        ErrorCode::None => Ok(()),
        code => Err(ClientError::Topic {
            topic: topic.to_string(),
            code,
            message: message.unwrap_or_default(),
        }),
    }
}

fn partition_result(topic: &str, partition: i32, code: ErrorCode) -> Result<(), ClientError> {
    match code {
        ErrorCode::None => Ok(()),
        code => Err(ClientError::Partition {
            topic: topic.to_string(),
            partition,
            code,
            message: String::new(),
        }),
    }
}

/// The one answer to the one question of a request.
pub(super) fn only<T>(answers: Vec<T>, api: &'static str) -> Result<T, ClientError> {
    let missing = || ClientError::Garbled {
        address: "the broker".into(),
        api,
        reason: "the response doesn't answer the question".into(),
    };
    answers.into_iter().next().ok_or_else(missing)
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

fn assigned(
    (partition_index, replicas): (i32, &Vec<BrokerId>),
) -> create_topics::CreatableReplicaAssignment {
    create_topics::CreatableReplicaAssignment {
        partition_index,
        broker_ids: replicas.clone(),
    }
}

impl Admin {
    pub(super) fn new(client: Client) -> Admin {
        Admin { client }
    }

    /// Makes a topic.
    pub async fn create_topic(&self, topic: &NewTopic) -> Result<(), ClientError> {
        let configs =
            topic
                .configs
                .iter()
                .map(|(name, value)| create_topics::CreatableTopicConfig {
                    name: name.clone(),
                    value: Some(value.clone()),
                });
        let request = create_topics::Request {
            topics: vec![create_topics::CreatableTopic {
                name: topic.name.clone(),
                num_partitions: topic.partitions.unwrap_or(-1),
                replication_factor: topic.replication_factor.unwrap_or(-1),
                assignments: (0..).zip(&topic.assignments).map(assigned).collect(),
                configs: configs.collect(),
            }],
            timeout_ms: millis(CHANGE_TIMEOUT),
            validate_only: false,
        };
        let changed = self
            .client
            .call_controller::<create_topics::Api>(&request, CHANGE_TIMEOUT);
        let result = only(changed.await?.topics, "CreateTopics")?;
        topic_result(&topic.name, result.error_code, result.error_message)
    }

    /// Deletes a topic and all its records.
    pub async fn delete_topic(&self, name: &str) -> Result<(), ClientError> {
        let request = delete_topics::Request {
            topics: vec![delete_topics::DeleteTopicState {
                name: Some(name.to_string()),
                topic_id: TopicId::NONE,
            }],
            timeout_ms: millis(CHANGE_TIMEOUT),
            ..Default::default()
        };
        let changed = self
            .client
            .call_controller::<delete_topics::Api>(&request, CHANGE_TIMEOUT);
        let result = only(changed.await?.responses, "DeleteTopics")?;
        topic_result(name, result.error_code, result.error_message)
    }

    /// All topics, sorted by name.
    pub async fn list_topics(&self) -> Result<Vec<TopicMetadata>, ClientError> {
        self.client.all_topics().await
    }

    /// A topic as the cluster has it now.
    pub async fn describe_topic(&self, name: &str) -> Result<TopicMetadata, ClientError> {
        let topic = self.client.topic_since(name, Instant::now()).await?;
        Ok(TopicMetadata::clone(&topic))
    }

    /// Raises a topic's number of partitions to `count` in all.
    pub async fn create_partitions(&self, topic: &str, count: i32) -> Result<(), ClientError> {
        let request = create_partitions::Request {
            topics: vec![create_partitions::CreatePartitionsTopic {
                name: topic.to_string(),
                count,
                assignments: None,
            }],
            timeout_ms: millis(CHANGE_TIMEOUT),
            validate_only: false,
        };
        let changed = self
            .client
            .call_controller::<create_partitions::Api>(&request, CHANGE_TIMEOUT);
        let result = only(changed.await?.results, "CreatePartitions")?;
        topic_result(topic, result.error_code, result.error_message)
    }

    /// All settings of a topic or broker, and where each comes from.
    pub async fn describe_configs(
        &self,
        resource: &Resource,
    ) -> Result<Vec<describe_configs::DescribeConfigsResourceResult>, ClientError> {
        let (resource_type, resource_name) = resource.to_wire();
        let request = describe_configs::Request {
            resources: vec![describe_configs::DescribeConfigsResource {
                resource_type,
                resource_name,
                configuration_keys: None,
            }],
            include_synonyms: false,
            include_documentation: true,
        };
        let connection = match resource {
            Resource::Broker(id) => Some(self.client.broker(*id, Purpose::Control).await?),
            Resource::Topic(_) => None,
        };
        let response = match connection {
            Some(broker) => {
                broker
                    .call::<describe_configs::Api>(&request, Duration::ZERO)
                    .await?
            }
            None => {
                self.client
                    .call_any::<describe_configs::Api>(&request)
                    .await?
            }
        };
        let result = only(response.results, "DescribeConfigs")?;
        resource.refused(result.error_code, result.error_message)?;
        Ok(result.configs)
    }

    /// Changes some settings, and leaves the others.
    pub async fn alter_configs(
        &self,
        resource: &Resource,
        changes: &[ConfigChange],
    ) -> Result<(), ClientError> {
        let (resource_type, resource_name) = resource.to_wire();
        let configs = changes.iter().map(|(name, operation, value)| {
            incremental_alter_configs::AlterableConfig {
                name: name.clone(),
                config_operation: *operation as i8,
                value: value.clone(),
            }
        });
        let request = incremental_alter_configs::Request {
            resources: vec![incremental_alter_configs::AlterConfigsResource {
                resource_type,
                resource_name,
                configs: configs.collect(),
            }],
            validate_only: false,
        };
        let changed = self
            .client
            .call_controller::<incremental_alter_configs::Api>(&request, CHANGE_TIMEOUT);
        let result = only(changed.await?.responses, "IncrementalAlterConfigs")?;
        resource.refused(result.error_code, result.error_message)
    }

    /// Deletes the records below `before` ([`Offset::NONE`]: below the high watermark), and
    /// answers where the partition starts then.
    pub async fn delete_records(
        &self,
        topic: &str,
        partition: i32,
        before: Offset,
    ) -> Result<Offset, ClientError> {
        let request = delete_records::Request {
            topics: vec![delete_records::DeleteRecordsTopic {
                name: topic.to_string(),
                partitions: vec![delete_records::DeleteRecordsPartition {
                    partition_index: partition,
                    offset: before,
                }],
            }],
            timeout_ms: millis(CHANGE_TIMEOUT),
        };
        let leader = self.client.leader(topic, partition).await?;
        let connection = self.client.broker(leader, Purpose::Control).await?;
        let response = connection
            .call::<delete_records::Api>(&request, CHANGE_TIMEOUT)
            .await?;
        let answered = only(response.topics, "DeleteRecords")?;
        let answered = only(answered.partitions, "DeleteRecords")?;
        partition_result(topic, partition, answered.error_code)?;
        Ok(answered.low_watermark)
    }

    /// The cluster's id, controller and brokers.
    pub async fn describe_cluster(&self) -> Result<describe_cluster::Response, ClientError> {
        let request = describe_cluster::Request {
            include_fenced_brokers: true,
            ..Default::default()
        };
        self.client
            .call_any::<describe_cluster::Api>(&request)
            .await
    }

    /// The same, with what only each broker itself knows (its process, version, and since when it runs), as far as
    /// it says so in time.
    pub async fn describe_brokers(
        &self,
        patience: Duration,
    ) -> Result<describe_cluster::Response, ClientError> {
        let mut cluster = self.describe_cluster().await?;
        let mut asked = JoinSet::new();
        for broker in cluster.brokers.iter().filter(|it| it.process_id == 0) {
            let (client, id) = (self.client.clone(), broker.broker_id);
            asked.spawn(timeout(patience, describe_itself(client, id)));
        }
        while let Some(answer) = asked.join_next().await {
            let Ok(Ok(Ok(Some(told)))) = answer else {
                continue;
            };
            let mut brokers = cluster.brokers.iter_mut();
            if let Some(broker) = brokers.find(|it| it.broker_id == told.broker_id) {
                broker.process_id = told.process_id;
                broker.uptime_ms = told.uptime_ms;
                broker.software_version = told.software_version;
            }
        }
        Ok(cluster)
    }

    /// The actors of a broker, or of any if none is named.
    pub async fn describe_actors(
        &self,
        broker: Option<BrokerId>,
        kind: Option<&str>,
    ) -> Result<Vec<describe_actors::ActorDescription>, ClientError> {
        let request = describe_actors::Request {
            kind: kind.map(str::to_string),
        };
        let response = match broker {
            Some(id) => {
                let connection = self.client.broker(id, Purpose::Control).await?;
                connection
                    .call::<describe_actors::Api>(&request, Duration::ZERO)
                    .await?
            }
            None => {
                self.client
                    .call_any::<describe_actors::Api>(&request)
                    .await?
            }
        };
        Ok(response.actors)
    }

    /// The voters of the metadata, as the one that leads them sees them. Errs while nobody does.
    pub async fn describe_quorum(
        &self,
    ) -> Result<describe_quorum::DescribedPartition, ClientError> {
        let request = describe_quorum::Request {
            topics: vec![describe_quorum::TopicData {
                topic_name: describe_quorum::METADATA_TOPIC.to_string(),
                partitions: vec![describe_quorum::PartitionData { partition_index: 0 }],
            }],
        };
        let response = self
            .client
            .call_any::<describe_quorum::Api>(&request)
            .await?;
        let refused = |code, message: Option<String>| ClientError::Refused {
            address: "the metadata".to_string(),
            api: "DescribeQuorum",
            code,
            message: message.unwrap_or_default(),
        };
        if !response.error_code.is_ok() {
            return Err(refused(response.error_code, response.error_message));
        }
        let topic = only(response.topics, "DescribeQuorum")?;
        let quorum = only(topic.partitions, "DescribeQuorum")?;
        match quorum.error_code {
            ErrorCode::None => Ok(quorum),
            code => Err(refused(code, quorum.error_message)),
        }
    }

    /// Lets a voter that has lost its copy of the metadata for good take part with the new one of this id,
    /// which the voter's log tells. Errs while the voter's broker is there.
    pub async fn readmit_voter(&self, voter: BrokerId, directory: &str) -> Result<(), ClientError> {
        let request = readmit_voter::Request {
            voter,
            directory: directory.to_string(),
        };
        let answered = self.client.call_any::<readmit_voter::Api>(&request);
        let response = answered.await?;
        match response.error_code {
            ErrorCode::None => Ok(()),
            code => Err(ClientError::Refused {
                address: format!("voter {voter}"),
                api: "ReadmitVoter",
                code,
                message: response.error_message.unwrap_or_default(),
            }),
        }
    }

    /// Breaks an actor by name: `fault` is `stop`, `panic` or `stall`.
    #[cfg(feature = "chaos")]
    pub async fn inject_fault(
        &self,
        broker: Option<BrokerId>,
        kind: &str,
        name: &str,
        fault: &str,
        stall: Duration,
    ) -> Result<(), ClientError> {
        let amount = millis(stall).into();
        self.inject(broker, [kind, name, fault], amount).await
    }

    /// Has the broker's disk take only so many more bytes, or as many as it can again.
    #[cfg(feature = "chaos")]
    pub async fn fill_disk(
        &self,
        broker: Option<BrokerId>,
        room_bytes: Option<u64>,
    ) -> Result<(), ClientError> {
        let fault = if room_bytes.is_some() { "fill" } else { "free" };
        let room = room_bytes.unwrap_or_default();
        let amount = i64::try_from(room).unwrap_or(i64::MAX);
        self.inject(broker, ["disk", "", fault], amount).await
    }

    #[cfg(feature = "chaos")]
    async fn inject(
        &self,
        broker: Option<BrokerId>,
        [kind, name, fault]: [&str; 3],
        amount: i64,
    ) -> Result<(), ClientError> {
        use crate::protocol::inject_fault;
        let request = inject_fault::Request {
            kind: kind.to_string(),
            name: name.to_string(),
            fault: fault.to_string(),
            amount,
        };
        let response = match broker {
            Some(id) => {
                let connection = self.client.broker(id, Purpose::Control).await?;
                connection
                    .call::<inject_fault::Api>(&request, Duration::ZERO)
                    .await?
            }
            None => self.client.call_any::<inject_fault::Api>(&request).await?,
        };
        match response.error_code {
            ErrorCode::None => Ok(()),
            code => Err(ClientError::Refused {
                address: format!("{kind} {name}"),
                api: "InjectFault",
                code,
                message: response.error_message.unwrap_or_default(),
            }),
        }
    }
}

/// What a broker says of itself.
async fn describe_itself(
    client: Client,
    broker: BrokerId,
) -> Result<Option<DescribeClusterBroker>, ClientError> {
    let connection = client.broker(broker, Purpose::Control).await?;
    let request = describe_cluster::Request {
        include_fenced_brokers: true,
        ..Default::default()
    };
    let answer = connection.call::<describe_cluster::Api>(&request, Duration::ZERO);
    let brokers = answer.await?.brokers;
    Ok(brokers.into_iter().find(|it| it.broker_id == broker))
}
