//! What a member asks its coordinator, and how it assigns if it leads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout, Instant};

use super::assignor::{Assignor, Member, PartitionCounts};
use super::commits::{Committer, Offsets};
use super::membership::{Identity, Leads};
use super::TopicPartition;
use crate::client::consumer_protocol::{
    decode_assignment, encode_assignment, Subscription, NO_GENERATION, PROTOCOL_TYPE,
};
use crate::client::coordinator::refused;
use crate::client::groups::{code_of_offsets, offsets_told, request_of_offsets};
use crate::client::{Client, ClientError};
use crate::model::ErrorCode;
use crate::protocol::{heartbeat, join_group, leave_group, offset_fetch, sync_group, Opaque};

/// How much longer than any member may take the coordinator is waited for.
const JOIN_GRACE: Duration = Duration::from_secs(5);
/// How long a member that goes waits until it is heard. Others wait for the end of its session otherwise.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// What is assigned, or the code of the refusal.
pub(super) type SyncAnswer = Result<Result<BTreeSet<TopicPartition>, ErrorCode>, ClientError>;

#[derive(Clone)]
pub(super) struct Voice {
    pub committer: Arc<Committer>,
    pub topics: Arc<BTreeSet<Arc<str>>>,
}

impl Voice {
    pub fn join_request(
        &self,
        member_id: String,
        generation: i32,
        owned: BTreeSet<TopicPartition>,
    ) -> join_group::Request {
        let config = &self.committer.config;
        let subscription = Subscription {
            topics: (*self.topics).clone(),
            generation: match owned.is_empty() {
                true => NO_GENERATION,
                false => generation,
            },
            owned,
        };
        let metadata = subscription.encode();
        let protocols = config.assignors.iter();
        let protocols = protocols.map(|assignor| join_group::JoinGroupRequestProtocol {
            name: assignor.name().to_owned(),
            metadata: Opaque(metadata.clone()),
        });
        join_group::Request {
            group_id: config.group_id.clone(),
            session_timeout_ms: millis(config.session_timeout),
            rebalance_timeout_ms: millis(config.max_poll_interval),
            member_id,
            group_instance_id: config.instance_id.clone(),
            protocol_type: PROTOCOL_TYPE.to_owned(),
            protocols: protocols.collect(),
            ..Default::default()
        }
    }

    pub async fn join(
        &self,
        request: join_group::Request,
    ) -> Result<join_group::Response, ClientError> {
        let wait = self.committer.config.max_poll_interval + JOIN_GRACE;
        let code = |response: &join_group::Response| Some(response.error_code);
        let coordinator = &self.committer.coordinator;
        coordinator
            .call::<join_group::Api>(&request, wait, code)
            .await
    }

    /// With what the topics are like, if this member assigns them.
    pub async fn sync(
        &self,
        identity: Identity,
        protocol: String,
        leads: Option<Leads>,
    ) -> (SyncAnswer, Option<PartitionCounts>) {
        let (assignments, counts) = match leads {
            None => (Vec::new(), None),
            Some(leads) => match self.assign(&protocol, leads).await {
                Ok((assignments, counts)) => (assignments, Some(counts)),
                Err(error) => return (Err(error), None),
            },
        };
        let answer = self.ask_to_sync(identity, protocol, assignments).await;
        (answer, counts)
    }

    /// As the leader: what each member gets, and what it was spread from.
    async fn assign(
        &self,
        protocol: &str,
        leads: Leads,
    ) -> Result<(Vec<sync_group::SyncGroupRequestAssignment>, PartitionCounts), ClientError> {
        let group = &self.committer.config.group_id;
        let assignor = Assignor::named(protocol);
        let inconsistent = ErrorCode::InconsistentGroupProtocol;
        let assignor = assignor.ok_or_else(|| refused(group, "JoinGroup", inconsistent))?;
        let members: Vec<Member> = leads.members.into_iter().map(member_told).collect();
        let topics = members
            .iter()
            .flat_map(|member| &member.subscription.topics);
        let topics: BTreeSet<Arc<str>> = topics.cloned().collect();
        let counts = count_partitions(&self.committer.shared.client, topics).await?;
        if leads.skips_assignment {
            return Ok((Vec::new(), counts));
        }
        let assigned = assignor.assign(&counts, &members).into_iter();
        let assignments =
            assigned.map(
                |(member_id, partitions)| sync_group::SyncGroupRequestAssignment {
                    member_id,
                    assignment: Opaque(encode_assignment(&partitions)),
                },
            );
        Ok((assignments.collect(), counts))
    }

    async fn ask_to_sync(
        &self,
        identity: Identity,
        protocol: String,
        assignments: Vec<sync_group::SyncGroupRequestAssignment>,
    ) -> SyncAnswer {
        let config = &self.committer.config;
        let request = sync_group::Request {
            group_id: config.group_id.clone(),
            generation_id: identity.generation,
            member_id: identity.member_id,
            group_instance_id: config.instance_id.clone(),
            protocol_type: Some(PROTOCOL_TYPE.to_owned()),
            protocol_name: Some(protocol),
            assignments,
        };
        let wait = config.max_poll_interval + JOIN_GRACE;
        let code = |response: &sync_group::Response| Some(response.error_code);
        let coordinator = &self.committer.coordinator;
        let answer = coordinator.call::<sync_group::Api>(&request, wait, code);
        let response = answer.await?;
        if !response.error_code.is_ok() {
            return Ok(Err(response.error_code));
        }
        match decode_assignment(&response.assignment.0) {
            Some(partitions) => Ok(Ok(partitions)),
            None => Err(ClientError::Garbled {
                address: format!("the leader of group {}", config.group_id),
                api: "SyncGroup",
                reason: "this is no assignment".to_owned(),
            }),
        }
    }

    pub async fn heartbeat(&self, identity: &Identity) -> Result<ErrorCode, ClientError> {
        let config = &self.committer.config;
        let request = heartbeat::Request {
            group_id: config.group_id.clone(),
            generation_id: identity.generation,
            member_id: identity.member_id.clone(),
            group_instance_id: config.instance_id.clone(),
        };
        let code = |response: &heartbeat::Response| Some(response.error_code);
        let coordinator = &self.committer.coordinator;
        let answer = coordinator.call::<heartbeat::Api>(&request, Duration::ZERO, code);
        Ok(answer.await?.error_code)
    }

    pub async fn fetch_offsets(
        &self,
        partitions: BTreeSet<TopicPartition>,
    ) -> Result<Offsets, ClientError> {
        let mut topics: BTreeMap<Arc<str>, Vec<i32>> = BTreeMap::new();
        for (topic, partition) in partitions {
            topics.entry(topic).or_default().push(partition);
        }
        let topics = topics.into_iter().map(|(name, partition_indexes)| {
            offset_fetch::OffsetFetchRequestTopic {
                name: name.to_string(),
                partition_indexes,
                ..Default::default()
            }
        });
        let group = self.committer.coordinator.group();
        let request = request_of_offsets(group, Some(topics.collect()));
        let coordinator = &self.committer.coordinator;
        let answer =
            coordinator.call::<offset_fetch::Api>(&request, Duration::ZERO, code_of_offsets);
        let told = offsets_told(group, answer.await?)?.into_iter();
        let named = told.map(|((topic, partition), offset)| ((topic.into(), partition), offset));
        Ok(named.collect())
    }

    /// Tries for a while to be heard.
    pub async fn leave(&self, member_id: String) {
        let config = &self.committer.config;
        let request = leave_group::Request {
            group_id: config.group_id.clone(),
            member_id: String::new(),
            members: vec![leave_group::MemberIdentity {
                member_id,
                group_instance_id: config.instance_id.clone(),
                reason: None,
            }],
        };
        let client = self.committer.shared.client.config();
        let telling = async {
            let mut failures = 0;
            loop {
                let code = |response: &leave_group::Response| Some(response.error_code);
                let coordinator = &self.committer.coordinator;
                let told = coordinator.call::<leave_group::Api>(&request, Duration::ZERO, code);
                let is_heard = match told.await {
                    Ok(response) => !response.error_code.is_retriable(),
                    Err(error) => !error.is_retriable(),
                };
                if is_heard {
                    return;
                }
                failures += 1;
                sleep(client.backoff(failures)).await;
            }
        };
        if timeout(LEAVE_TIMEOUT, telling).await.is_err() {
            log::debug!("a member of group {} leaves unheard", config.group_id);
        }
    }
}

/// What can't be read reads nothing.
fn member_told(told: join_group::JoinGroupResponseMember) -> Member {
    let subscription = Subscription::decode(&told.metadata.0);
    Member {
        id: told.member_id,
        instance_id: told.group_instance_id,
        subscription: subscription.unwrap_or(Subscription {
            topics: BTreeSet::new(),
            owned: BTreeSet::new(),
            generation: NO_GENERATION,
        }),
    }
}

/// How many partitions these topics have now; those that aren't there have none.
pub(super) async fn count_partitions(
    client: &Client,
    topics: impl IntoIterator<Item = Arc<str>>,
) -> Result<PartitionCounts, ClientError> {
    let since = Instant::now();
    let mut counts = PartitionCounts::new();
    for topic in topics {
        let partitions = match client.topic_since(&topic, since).await {
            Ok(known) => known.partitions.len(),
            Err(error) if is_missing(&error) => 0,
            Err(error) => return Err(error),
        };
        counts.insert(topic, i32::try_from(partitions).unwrap_or(i32::MAX));
    }
    Ok(counts)
}

fn is_missing(error: &ClientError) -> bool {
    matches!(
        error.code(),
        Some(ErrorCode::UnknownTopicOrPartition | ErrorCode::InvalidTopicException)
    )
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
