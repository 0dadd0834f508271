//! What each request means, whatever encoding it came in: one file an API.
//!
//! A request finds what it needs in the [`ApiContext`]: the metadata image, the partitions that are
//! led here, the controller. It holds no state, and talks to actors through their handles only.
//!
//! [`produce`] is not asynchronous: the connection's actor keeps what is pending, and gives each
//! partition one message for all the requests of one read. Everything else is [`answer`]ed beside
//! the mailbox.

mod alter_configs;
mod alter_partition_reassignments;
mod api_versions;
mod authorized_operations;
mod checkers;
mod consumer_group_describe;
mod consumer_group_heartbeat;
mod create_partitions;
mod create_topics;
mod current_leaders;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_actors;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_quorum;
mod describe_topic_partitions;
mod elect_leaders;
mod fetch;
mod fetch_sessions;
mod find_coordinator;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
#[cfg(feature = "chaos")]
mod inject_fault;
mod join_group;
mod leave_group;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod offsets_topic;
mod partition_name;
pub mod produce;
mod readmit_voter;
mod sync_group;
mod unregister_broker;

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{watch, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::actors::controller::ControllerHandle;
use crate::actors::group_coordinator::GroupCoordinators;
use crate::actors::log_dir::LogDir;
use crate::actors::partition_handle::PartitionHandle;
use crate::actors::partitions::Partitions;
use crate::actors::peer::Peers;
use crate::actors::vitals::Registry;
use crate::engine::group;
use crate::engine::metadata::change::{Change, Decided, Intent};
use crate::engine::metadata::{BrokerDefaults, MetadataImage};
use crate::model::{BrokerId, ClusterId, ErrorCode, Refusal, Timestamp, TopicId, TopicName};
use crate::protocol::{Encoding, Request, Response};

pub use checkers::Checkers;
pub use fetch_sessions::{FetchSessions, SessionOfConnection};
pub use init_producer_id::ProducerIds;
pub use offsets_topic::OffsetsTopic;

/// A request never waits longer than this for others, whatever it asks for.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Answers to one peer, beside those to Produce and Fetch, that are prepared or unsent. One of them,
/// the metadata of all topics, can be a megabyte.
const ANSWERS_MAX: usize = 16;

/// What the requests of one listener work with.
pub struct ApiContext {
    pub listener: ListenerSettings,
    pub shared: Arc<Shared>,
}

impl Deref for ApiContext {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

/// In what the requests of one listener differ from those of another.
pub struct ListenerSettings {
    /// Which of the brokers' endpoints its clients are told.
    pub name: &'static str,
    /// What its clients speak.
    pub encoding: Encoding,
    /// The most bytes of records that one response carries.
    pub fetch_bytes_max: usize,
}

/// What the requests of all listeners work with.
pub struct Shared {
    pub node: BrokerId,
    pub cluster_id: ClusterId,
    pub started: Timestamp,
    pub settings: ApiSettings,
    pub images: watch::Receiver<Arc<MetadataImage>>,
    pub partitions: Partitions,
    pub controller: ControllerHandle,
    pub groups: GroupCoordinators,
    pub offsets_topic: OffsetsTopic,
    /// `None` on a node that is alone.
    pub peers: Option<Peers>,
    pub producer_ids: ProducerIds,
    pub fetch_sessions: Arc<FetchSessions>,
    pub log_dir: LogDir,
    pub checkers: Checkers,
    pub registry: Registry,
    /// The broker is about to stop: nobody waits for more, and no new request is taken.
    pub stopping: CancellationToken,
}

/// What the config says about requests.
pub struct ApiSettings {
    pub auto_create_topics: bool,
    /// The most that the records of one batch may become when they are decompressed.
    pub batch_records_bytes_max: usize,
    pub defaults: BrokerDefaults,
}

impl ApiContext {
    /// The metadata as of now.
    fn image(&self) -> Arc<MetadataImage> {
        self.images.borrow().clone()
    }

    /// The brokers that this node has just lost sight of, whatever the metadata say of them yet.
    fn just_lost(&self) -> BTreeSet<BrokerId> {
        let peers = self.peers.iter().flat_map(Peers::all);
        let lost = peers.filter(|peer| peer.is_just_lost());
        lost.map(|peer| peer.node()).collect()
    }

    /// The topic that an id means, if the name that may stand beside it agrees. `None` without an
    /// id: then the name says all.
    fn topic_of_id(&self, name: &str, id: TopicId) -> Result<Option<TopicName>, Refusal> {
        if id == TopicId::NONE {
            return Ok(None);
        }
        let image = self.image();
        let known = image.topic(id);
        let known = known.filter(|known| name.is_empty() || known.name.as_str() == name);
        let known = known.ok_or_else(|| Refusal::from(ErrorCode::UnknownTopicId))?;
        Ok(Some(known.name.clone()))
    }

    /// Asks the coordinator of a group, if it is here; for a member that may wait there until the broker
    /// stops.
    async fn ask_group(
        &self,
        group: &str,
        request: group::Request,
    ) -> Result<group::Answer, ErrorCode> {
        tokio::select! {
            answer = self.groups.ask(group, request) => answer,
            () = self.stopping.cancelled() => Err(ErrorCode::NotCoordinator),
        }
    }

    /// The leader of a partition, if it is here.
    fn leader(&self, topic: &str, partition: i32) -> Result<PartitionHandle, Refusal> {
        let directory = self.partitions.current();
        let handle = directory
            .topic(topic)
            .and_then(|local| local.partitions.get(&partition));
        handle
            .cloned()
            .ok_or_else(|| self.no_leader(topic, partition))
    }

    /// Why there is no leader here. The name isn't repeated: a request may have one of a megabyte,
    /// and ten thousand partitions.
    fn no_leader(&self, topic: &str, partition: i32) -> Refusal {
        if let Err(reason) = topic.parse::<TopicName>() {
            return Refusal::new(ErrorCode::InvalidTopicException, reason);
        }
        match self.image().topic_by_name(topic) {
            None => Refusal::new(ErrorCode::UnknownTopicOrPartition, "there is no such topic"),
            Some(known) if known.partition(partition).is_none() => Refusal::new(
                ErrorCode::UnknownTopicOrPartition,
                format!("the topic has no partition {partition}"),
            ),
            Some(_) => Refusal::new(
                ErrorCode::NotLeaderOrFollower,
                format!("partition {partition} isn't led by broker {}", self.node),
            ),
        }
    }
}

/// What belongs to one connection, and its requests share.
#[derive(Clone)]
pub struct Peer {
    pub room: Room,
    fetch_session: Rc<SessionOfConnection>,
    /// What the client called itself last.
    client_id: Rc<RefCell<Arc<str>>>,
    address: IpAddr,
}

impl Peer {
    pub fn new(context: &ApiContext, address: IpAddr, record_bytes_max: usize) -> Peer {
        Peer {
            room: Room::new(record_bytes_max),
            fetch_session: Rc::new(SessionOfConnection::new(context.fetch_sessions.clone())),
            client_id: Rc::default(),
            address,
        }
    }

    /// A request says what the client calls itself. Most say the same all the time.
    pub fn is_called(&self, client_id: Option<String>) {
        let client_id = client_id.unwrap_or_default();
        if **self.client_id.borrow() != *client_id {
            *self.client_id.borrow_mut() = client_id.into();
        }
    }

    fn client_id(&self) -> Arc<str> {
        self.client_id.borrow().clone()
    }

    /// As Kafka's tools know it.
    fn host(&self) -> Arc<str> {
        format!("/{}", self.address).into()
    }
}

/// What may be on its way to one peer, so that one who doesn't read can't make us hold much.
#[derive(Clone)]
pub struct Room {
    record_bytes: Arc<Semaphore>,
    record_bytes_max: usize,
    answers: Arc<Semaphore>,
}

impl Room {
    fn new(record_bytes_max: usize) -> Room {
        Room {
            record_bytes: Arc::new(Semaphore::new(record_bytes_max)),
            record_bytes_max,
            answers: Arc::new(Semaphore::new(ANSWERS_MAX)),
        }
    }

    /// Waits for room; whoever asks for more than all of it gets all of it. `None` once the
    /// connection is gone.
    async fn for_records(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes.min(self.record_bytes_max)).ok()?;
        let room = self.record_bytes.clone().acquire_many_owned(bytes);
        room.await.ok()
    }

    /// Waits for the place of one answer without records. `None` once the connection is gone.
    async fn for_answer(&self) -> Option<OwnedSemaphorePermit> {
        self.answers.clone().acquire_owned().await.ok()
    }

    pub fn close(&self) {
        self.record_bytes.close();
        self.answers.close();
    }
}

/// What a response says of a part that has nothing else to tell.
fn outcome(decided: Decided) -> (ErrorCode, Option<String>) {
    match decided {
        Ok(_) => (ErrorCode::None, None),
        Err(refusal) => (refusal.code, refusal.into_message()),
    }
}

/// Has the controller decide each part of a change. If nothing can be changed at all now, each part
/// is refused for the same reason.
async fn change_each(context: &ApiContext, intent: Intent, change: Change) -> Vec<Decided> {
    let parts = change.parts();
    if parts == 0 {
        return Vec::new();
    }
    match context.controller.change(change, intent).await {
        Ok(decided) => decided,
        Err(refusal) => vec![Err(refusal); parts],
    }
}

/// The same for parts of which some are refused before the controller is asked.
async fn change_valid<P>(
    context: &ApiContext,
    intent: Intent,
    parts: Vec<Result<P, Refusal>>,
    change: impl FnOnce(Vec<P>) -> Change,
) -> Vec<Decided> {
    let mut valid = Vec::with_capacity(parts.len());
    let mut refused = Vec::with_capacity(parts.len());
    for part in parts {
        refused.push(part.map(|part| valid.push(part)).err());
    }
    let mut decided = change_each(context, intent, change(valid))
        .await
        .into_iter();
    let decided = |refusal: Option<Refusal>| match refusal {
        Some(refusal) => Err(refusal),
        None => (decided.next()).unwrap_or_else(|| Err(ErrorCode::UnknownServerError.into())),
    };
    refused.into_iter().map(decided).collect()
}

/// The partitions that a request has named so far. Who names one twice is refused the second time,
/// as in Kafka: one request could otherwise ask a partition for the same work thousands of times.
#[derive(Default)]
struct Named(HashMap<Arc<str>, HashSet<i32>>);

impl Named {
    /// Those of one topic; a topic may come in several pieces.
    fn topic(&mut self, name: &str) -> &mut HashSet<i32> {
        self.0.entry(name.into()).or_default()
    }
}

/// The time that a request gives us, within reason.
fn patience(timeout_ms: i32) -> Duration {
    let asked = u64::try_from(timeout_ms).unwrap_or(0);
    Duration::from_millis(asked).min(WAIT_MAX)
}

/// Answers a request. The room is what the answer takes up, until it is sent.
pub async fn answer(
    context: &ApiContext,
    request: Request,
    peer: &Peer,
) -> (Response, Option<OwnedSemaphorePermit>) {
    if let Request::Fetch(request) = request {
        let (response, room) = fetch::answer(context, request, peer).await;
        return (response.into(), room);
    }
    let room = peer.room.for_answer().await;
    let response = match request {
        Request::JoinGroup(request) => join_group::answer(context, request, peer).await.into(),
        Request::ConsumerGroupHeartbeat(request) => {
            consumer_group_heartbeat::answer(context, request, peer)
                .await
                .into()
        }
        request => answer_without_records(context, request).await,
    };
    (response, room)
}

async fn answer_without_records(context: &ApiContext, request: Request) -> Response {
    match request {
        Request::JoinGroup(_) | Request::ConsumerGroupHeartbeat(_) => {
            unreachable!("it is told who asks")
        }
        Request::Fetch(_) => unreachable!("its answer has records"),
        Request::Produce(_) => unreachable!("the connection keeps what is pending"),
        Request::AlterConfigs(request) => alter_configs::answer(context, request).await.into(),
        Request::ApiVersions(request) => api_versions::answer(context, request).into(),
        Request::CreatePartitions(request) => {
            create_partitions::answer(context, request).await.into()
        }
        Request::CreateTopics(request) => create_topics::answer(context, request).await.into(),
        Request::DeleteRecords(request) => delete_records::answer(context, request).await.into(),
        Request::DeleteTopics(request) => delete_topics::answer(context, request).await.into(),
        Request::DescribeActors(request) => describe_actors::answer(context, request).into(),
        Request::DescribeCluster(request) => describe_cluster::answer(context, request).into(),
        Request::DescribeConfigs(request) => describe_configs::answer(context, request).into(),
        Request::DescribeLogDirs(request) => describe_log_dirs::answer(context, request).into(),
        Request::DescribeTopicPartitions(request) => {
            describe_topic_partitions::answer(context, request).into()
        }
        Request::DescribeQuorum(request) => describe_quorum::answer(context, request).await.into(),
        Request::AlterPartitionReassignments(request) => {
            alter_partition_reassignments::answer(context, request)
                .await
                .into()
        }
        Request::ListPartitionReassignments(request) => {
            list_partition_reassignments::answer(context, request).into()
        }
        Request::UnregisterBroker(request) => {
            unregister_broker::answer(context, request).await.into()
        }
        Request::ElectLeaders(request) => elect_leaders::answer(context, request).await.into(),
        Request::ReadmitVoter(request) => readmit_voter::answer(context, request).await.into(),
        Request::DeleteGroups(request) => delete_groups::answer(context, request).await.into(),
        Request::ConsumerGroupDescribe(request) => {
            consumer_group_describe::answer(context, request)
                .await
                .into()
        }
        Request::DescribeGroups(request) => describe_groups::answer(context, request).await.into(),
        Request::FindCoordinator(request) => {
            find_coordinator::answer(context, request).await.into()
        }
        Request::Heartbeat(request) => heartbeat::answer(context, request).await.into(),
        Request::LeaveGroup(request) => leave_group::answer(context, request).await.into(),
        Request::ListGroups(request) => list_groups::answer(context, request).await.into(),
        Request::OffsetCommit(request) => offset_commit::answer(context, request).await.into(),
        Request::OffsetDelete(request) => offset_delete::answer(context, request).await.into(),
        Request::OffsetFetch(request) => offset_fetch::answer(context, request).await.into(),
        Request::SyncGroup(request) => sync_group::answer(context, request).await.into(),
        Request::OffsetForLeaderEpoch(request) => offset_for_leader_epoch::answer(context, request)
            .await
            .into(),
        Request::IncrementalAlterConfigs(request) => {
            incremental_alter_configs::answer(context, request)
                .await
                .into()
        }
        Request::InitProducerId(request) => init_producer_id::answer(context, request).await.into(),
        Request::ListOffsets(request) => list_offsets::answer(context, request).await.into(),
        Request::Metadata(request) => metadata::answer(context, request).await.into(),
        #[cfg(feature = "chaos")]
        Request::InjectFault(request) => inject_fault::answer(context, request).into(),
    }
}
