//! Administration of consumer groups: which there are, who is in them, and how far they have come.

use std::collections::BTreeMap;
use std::time::Duration;

use super::admin::only;
use super::connection::Purpose;
use super::coordinator::{has_moved, refused, Coordinator};
use super::{Admin, ClientError};
use crate::model::{ErrorCode, LeaderEpoch, Offset};
use crate::protocol::offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use crate::protocol::{
    consumer_group_describe, delete_groups, describe_groups, list_groups, offset_commit,
    offset_fetch, Api,
};

/// Partitions, by topic and number.
pub type GroupOffsets = BTreeMap<(String, i32), Offset>;

/// How often a coordinator that has moved or is loading is looked for again.
const ATTEMPTS_MAX: u32 = 50;
/// How long to wait before.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// What a commit says of these partitions, which come sorted by topic.
pub(super) fn topics_to_commit<'a>(
    offsets: impl Iterator<Item = (&'a str, i32, Offset)>,
) -> Vec<OffsetCommitRequestTopic> {
    let mut topics: Vec<OffsetCommitRequestTopic> = Vec::new();
    for (topic, partition_index, committed_offset) in offsets {
        let partition = OffsetCommitRequestPartition {
            partition_index,
            committed_offset,
            committed_leader_epoch: LeaderEpoch::NONE,
            committed_metadata: None,
        };
        match topics.last_mut().filter(|last| last.name == topic) {
            Some(last) => last.partitions.push(partition),
            None => topics.push(OffsetCommitRequestTopic {
                name: topic.to_owned(),
                partitions: vec![partition],
                ..Default::default()
            }),
        }
    }
    topics
}

/// Asks for what a group has committed of these topics, or of all.
pub(super) fn request_of_offsets(
    group: &str,
    topics: Option<Vec<offset_fetch::OffsetFetchRequestTopic>>,
) -> offset_fetch::Request {
    offset_fetch::Request {
        groups: vec![offset_fetch::OffsetFetchRequestGroup {
            group_id: group.to_owned(),
            member_epoch: -1,
            topics,
            ..Default::default()
        }],
        require_stable: true,
        ..Default::default()
    }
}

pub(super) fn code_of_offsets(response: &offset_fetch::Response) -> Option<ErrorCode> {
    response.groups.first().map(|group| group.error_code)
}

/// What is committed, of those partitions of which something is.
pub(super) fn offsets_told(
    group: &str,
    response: offset_fetch::Response,
) -> Result<GroupOffsets, ClientError> {
    let answer = only(response.groups, "OffsetFetch")?;
    if !answer.error_code.is_ok() {
        return Err(refused(group, "OffsetFetch", answer.error_code));
    }
    let mut offsets = GroupOffsets::new();
    for topic in answer.topics {
        for partition in topic.partitions {
            if !partition.error_code.is_ok() {
                return Err(refused(group, "OffsetFetch", partition.error_code));
            }
            if partition.committed_offset >= Offset::ZERO {
                let place = (topic.name.clone(), partition.partition_index);
                offsets.insert(place, partition.committed_offset);
            }
        }
    }
    Ok(offsets)
}

/// Why not all was committed.
pub(super) fn first_error(response: &offset_commit::Response) -> Option<ErrorCode> {
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    let mut codes = partitions.map(|partition| partition.error_code);
    codes.find(|code| !code.is_ok())
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
        let request = request_of_offsets(group, None);
        let response = self.ask_coordinator::<offset_fetch::Api>(group, &request, code_of_offsets);
        offsets_told(group, response.await?)
    }

    /// Sets where a group goes on that has no members.
    pub async fn set_group_offsets(
        &self,
        group: &str,
        offsets: &GroupOffsets,
    ) -> Result<(), ClientError> {
        let request = offset_commit::Request {
            group_id: group.to_owned(),
            generation_id_or_member_epoch: -1,
            topics: topics_to_commit(offsets.iter().map(|((t, p), offset)| (&**t, *p, *offset))),
            ..Default::default()
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
        let coordinator = Coordinator::new(self.client.clone(), group);
        let mut attempt = 1;
        loop {
            let answer = coordinator.call::<A>(request, Duration::ZERO, &code).await;
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
}
