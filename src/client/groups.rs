//! Administration of consumer groups: which there are, who is in them, and how far they have come.

use std::collections::BTreeMap;

use super::admin::only;
use super::connection::Purpose;
use super::{Admin, ClientError};
use crate::model::{BrokerId, ErrorCode, LeaderEpoch, Offset};
use crate::protocol::find_coordinator::KEY_GROUP;
use crate::protocol::offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use crate::protocol::{
    consumer_group_describe, delete_groups, describe_groups, find_coordinator, list_groups,
    offset_commit, offset_fetch, Api,
};

/// Partitions, by topic and number.
pub type GroupOffsets = BTreeMap<(String, i32), Offset>;

/// How often a coordinator that has moved or is loading is looked for again.
const ATTEMPTS_MAX: u32 = 50;
/// How long to wait before.
const RETRY_INTERVAL: std::time::Duration = std::time::Duration::from_millis(100);

/// Whether to look for the coordinator again.
fn has_moved(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NotCoordinator
            | ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::CoordinatorNotAvailable
    )
}

fn refused(group: &str, api: &'static str, code: ErrorCode) -> ClientError {
    ClientError::Refused {
        address: format!("the coordinator of group {group}"),
        api,
        code,
        message: String::new(),
    }
}

impl Admin {
    /// All groups, sorted by name.
    pub async fn list_groups(&self) -> Result<Vec<list_groups::ListedGroup>, ClientError> {
        let request = list_groups::Request::default();
        let mut all = Vec::new();
        for broker in self.describe_cluster().await?.brokers {
            if broker.is_fenced {
                continue;
            }
            let broker = self
                .client
                .broker(broker.broker_id, Purpose::Control)
                .await?;
            let response = broker.call::<list_groups::Api>(&request, Default::default());
            let response = response.await?;
            if !response.error_code.is_ok() {
                return Err(refused("(any)", "ListGroups", response.error_code));
            }
            all.extend(response.groups);
        }
        all.sort_by(|a, b| a.group_id.cmp(&b.group_id));
        Ok(all)
    }

    /// A group's state and members. One that isn't there is `Dead`, and has the code GROUP_ID_NOT_FOUND.
    pub async fn describe_group(
        &self,
        group: &str,
    ) -> Result<describe_groups::DescribedGroup, ClientError> {
        let request = describe_groups::Request {
            groups: vec![group.to_owned()],
            include_authorized_operations: false,
        };
        let code = |response: &describe_groups::Response| {
            response.groups.first().map(|group| group.error_code)
        };
        let response = self.ask_coordinator::<describe_groups::Api>(group, &request, code);
        only(response.await?.groups, "DescribeGroups")
    }

    /// A consumer group's state and members (KIP-848). One that isn't there, or that speaks the classic
    /// protocol, has the code GROUP_ID_NOT_FOUND.
    pub async fn describe_consumer_group(
        &self,
        group: &str,
    ) -> Result<consumer_group_describe::DescribedGroup, ClientError> {
        let request = consumer_group_describe::Request {
            group_ids: vec![group.to_owned()],
            ..Default::default()
        };
        let code = |response: &consumer_group_describe::Response| {
            response.groups.first().map(|group| group.error_code)
        };
        let response = self.ask_coordinator::<consumer_group_describe::Api>(group, &request, code);
        only(response.await?.groups, "ConsumerGroupDescribe")
    }

    /// Where the group has come to: all that it has committed.
    pub async fn group_offsets(&self, group: &str) -> Result<GroupOffsets, ClientError> {
        let request = offset_fetch::Request {
            groups: vec![offset_fetch::OffsetFetchRequestGroup {
                group_id: group.to_owned(),
                member_epoch: -1,
                ..Default::default()
            }],
            require_stable: true,
            ..Default::default()
        };
        let code = |response: &offset_fetch::Response| {
            response.groups.first().map(|group| group.error_code)
        };
        let response = self.ask_coordinator::<offset_fetch::Api>(group, &request, code);
        let answer = only(response.await?.groups, "OffsetFetch")?;
        if !answer.error_code.is_ok() {
            return Err(refused(group, "OffsetFetch", answer.error_code));
        }
        let mut offsets = GroupOffsets::new();
        for topic in answer.topics {
            for partition in topic.partitions {
                let place = (topic.name.clone(), partition.partition_index);
                offsets.insert(place, partition.committed_offset);
            }
        }
        Ok(offsets)
    }

    /// Sets where a group goes on that has no members.
    pub async fn set_group_offsets(
        &self,
        group: &str,
        offsets: &GroupOffsets,
    ) -> Result<(), ClientError> {
        let mut topics: Vec<OffsetCommitRequestTopic> = Vec::new();
        for ((topic, partition), offset) in offsets {
            let partition = OffsetCommitRequestPartition {
                partition_index: *partition,
                committed_offset: *offset,
                committed_leader_epoch: LeaderEpoch::NONE,
                committed_metadata: None,
            };
            match topics.last_mut().filter(|last| last.name == *topic) {
                Some(last) => last.partitions.push(partition),
                None => topics.push(OffsetCommitRequestTopic {
                    name: topic.clone(),
                    partitions: vec![partition],
                    ..Default::default()
                }),
            }
        }
        let request = offset_commit::Request {
            group_id: group.to_owned(),
            generation_id_or_member_epoch: -1,
            topics,
            ..Default::default()
        };
        let first_error = |response: &offset_commit::Response| {
            let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
            let mut codes = partitions.map(|partition| partition.error_code);
            codes.find(|code| !code.is_ok())
        };
        let response = self.ask_coordinator::<offset_commit::Api>(group, &request, first_error);
        match first_error(&response.await?) {
            Some(code) => Err(refused(group, "OffsetCommit", code)),
            None => Ok(()),
        }
    }

    /// Forgets a group that has no members, and its offsets.
    pub async fn delete_group(&self, group: &str) -> Result<(), ClientError> {
        let request = delete_groups::Request {
            groups_names: vec![group.to_owned()],
        };
        let code = |response: &delete_groups::Response| {
            response.results.first().map(|result| result.error_code)
        };
        let response = self.ask_coordinator::<delete_groups::Api>(group, &request, code);
        match only(response.await?.results, "DeleteGroups")?.error_code {
            ErrorCode::None => Ok(()),
            code => Err(refused(group, "DeleteGroups", code)),
        }
    }

    /// Asks the group's coordinator, and looks for it again while it is on its way elsewhere, as `code` tells
    /// of the response.
    async fn ask_coordinator<A: Api>(
        &self,
        group: &str,
        request: &A::Request,
        code: impl Fn(&A::Response) -> Option<ErrorCode>,
    ) -> Result<A::Response, ClientError> {
        let mut attempt = 1;
        loop {
            let answer = match self.coordinator(group).await {
                Ok(broker) => {
                    let broker = self.client.broker(broker, Purpose::Control).await?;
                    broker.call::<A>(request, Default::default()).await
                }
                Err(error) => Err(error),
            };
            let moved = match &answer {
                Ok(response) => code(response).is_some_and(has_moved),
                Err(error) => error.is_retriable(),
            };
            if !moved || attempt == ATTEMPTS_MAX {
                return answer;
            }
            attempt += 1;
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    }

    async fn coordinator(&self, group: &str) -> Result<BrokerId, ClientError> {
        let request = find_coordinator::Request {
            key_type: KEY_GROUP,
            coordinator_keys: vec![group.to_owned()],
            ..Default::default()
        };
        let response = self
            .client
            .call_any::<find_coordinator::Api>(&request)
            .await?;
        let found = only(response.coordinators, "FindCoordinator")?;
        match found.error_code {
            ErrorCode::None => Ok(found.node_id),
            code => Err(ClientError::Refused {
                address: "the broker".into(),
                api: "FindCoordinator",
                code,
                message: found.error_message.unwrap_or_default(),
            }),
        }
    }
}
