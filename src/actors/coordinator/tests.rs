//! What the runtime promises, with groups as the core and a real partition leader.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix::{Arbiter, System};
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{keep, Hosting};
use crate::actors::group_coordinator::{
    forget_deleted_topics, GroupCoordinators, GroupCore, OFFSETS_TOPIC,
};
use crate::actors::partition_handle::{PartitionHandle, Update};
use crate::actors::partition_leader::tests::{dirty_log, empty_log, lead_by, Asked, NODE};
use crate::actors::partitions::{Directory, LocalTopic, Partitions};
use crate::actors::vitals::{Kind, Registry};
use crate::engine::group::{
    Answer, CommitAnswer, CommitRequest, ConsumerSettings, FetchRequest, GroupSettings, NewOffset,
    Request,
};
use crate::engine::guardian::Assignment;
use crate::engine::metadata::{BrokerDefaults, MetadataCommand, MetadataImage, TopicConfig};
use crate::engine::replica::CommitRule;
use crate::model::{ErrorCode, Incarnation, LeaderEpoch, Offset, TopicId};
use crate::storage::fs::{create_dir_durably, FaultyFs};
use crate::storage::log::{Log, LogConfig};
use crate::storage::syncer::{AbortProcess, SyncPool, Syncer};

/// How long a test waits for anything before it fails.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// One partition of offsets that is led here, and the coordinators of this node.
struct World {
    leader: PartitionHandle,
    image: MetadataImage,
    images: watch::Sender<Arc<MetadataImage>>,
    groups: GroupCoordinators,
}

fn settings() -> GroupSettings {
    GroupSettings {
        min_session_timeout_ms: 6_000,
        max_session_timeout_ms: 60_000,
        max_size: 10,
        initial_rebalance_delay_ms: 0,
        offset_metadata_max_bytes: 100,
        offsets_retention_ms: 1_000_000,
        offsets_retention_check_interval_ms: 1_000_000,
        consumer: ConsumerSettings::default(),
    }
}

fn config() -> Arc<TopicConfig> {
    let defaults = BrokerDefaults::new([] as [(&str, String); 0]).unwrap();
    Arc::new(TopicConfig::resolve(&BTreeMap::new(), &defaults))
}

fn file_system() -> FaultyFs {
    let fs = FaultyFs::new(1);
    create_dir_durably(&fs, Path::new("/logs/0")).unwrap();
    fs
}

fn pool() -> Arc<dyn Syncer> {
    Arc::new(SyncPool::start(1, Arc::new(AbortProcess)).unwrap())
}

impl World {
    /// On the present arbiter.
    fn start(log: Log, syncer: Arc<dyn Syncer>) -> World {
        let leader = lead_by(CommitRule::Synced, WAIT_MAX, syncer, log, 0);
        let mut image = MetadataImage::default();
        image.replay(&MetadataCommand::RegisterBroker {
            id: NODE,
            incarnation: Incarnation::random(),
            endpoints: Vec::new(),
            rack: None,
            state: Default::default(),
            metadata_version_max: None,
        });
        let id = leader.id().topic_id;
        image.replay(&MetadataCommand::CreateTopic {
            name: OFFSETS_TOPIC.parse().unwrap(),
            id,
            partitions: vec![vec![NODE]],
            configs: BTreeMap::new(),
        });
        let (images, seen) = watch::channel(Arc::new(image.clone()));
        let partitions = Partitions::default();
        let local = LocalTopic {
            id,
            config: config(),
            partitions: HashMap::from([(0, leader.clone())]),
        };
        let topics = [(OFFSETS_TOPIC.parse().unwrap(), local)];
        partitions.publish(Directory::from_iter(topics));
        let groups = GroupCoordinators::new(seen.clone());
        let hosting = Hosting {
            node: NODE,
            kind: Kind::GroupCoordinator,
            topic: OFFSETS_TOPIC,
            blank: Box::new(|| GroupCore::new(settings())),
            mailbox_capacity: 256,
            partitions,
            images: seen,
            arbiters: vec![Arbiter::current()],
            registry: Registry::default(),
            stopping: CancellationToken::new(),
        };
        actix_rt::spawn(keep(hosting, groups.coordinators()));
        World {
            leader,
            image,
            images,
            groups,
        }
    }

    /// Asks until a coordinator has loaded.
    async fn ask(&self, request: Request) -> Answer {
        let asking = async {
            loop {
                match self.groups.ask("g", request.clone()).await {
                    Ok(answer) => return answer,
                    Err(ErrorCode::NotCoordinator | ErrorCode::CoordinatorLoadInProgress) => {
                        tokio::task::yield_now().await;
                    }
                    Err(code) => panic!("{code}"),
                }
            }
        };
        tokio::time::timeout(WAIT_MAX, asking).await.unwrap()
    }

    async fn committed(&self) -> i64 {
        let fetch = FetchRequest {
            group: "g".into(),
            member: None,
            epoch: -1,
            partitions: Some(vec![("t".into(), vec![0])]),
            image: Default::default(),
        };
        match self.ask(Request::Fetch(fetch)).await {
            Answer::Fetch(answer) => answer.0[0].1[0].offset.0,
            other => panic!("{other:?}"),
        }
    }

    /// The leader begins this epoch; the metadata don't say so yet.
    async fn lead_in(&mut self, epoch: i32) {
        self.image.replay(&MetadataCommand::ChangePartitionLeader {
            partition: self.leader.id(),
            leader: NODE,
            leader_epoch: LeaderEpoch(epoch),
        });
        let topic = self.image.topic_by_name(OFFSETS_TOPIC).unwrap();
        let assignment = Assignment {
            partition: topic.partitions[0].clone(),
            config: config(),
        };
        let log = LogConfig::default();
        self.leader.update(Update { assignment, log }).await;
    }

    fn publish(&self) {
        self.images.send_replace(Arc::new(self.image.clone()));
    }
}

fn commit(offset: i64) -> Request {
    commit_to(TopicId::NONE, offset)
}

fn commit_to(topic_id: TopicId, offset: i64) -> Request {
    Request::Commit(CommitRequest {
        group: "g".into(),
        generation: -1,
        offsets: vec![NewOffset {
            topic: "t".into(),
            topic_id,
            partition: 0,
            offset: Offset(offset),
            leader_epoch: LeaderEpoch::NONE,
            metadata: "".into(),
        }],
        ..CommitRequest::default()
    })
}

fn accepted() -> Answer {
    Answer::Commit(CommitAnswer(vec![ErrorCode::None]))
}

#[test]
fn nothing_is_told_before_it_is_committed() {
    System::new().block_on(async {
        let (sender, mut syncs) = unbounded_channel();
        let log = empty_log(&file_system(), 0);
        let world = World::start(log, Arc::new(Asked(sender)));
        assert_eq!(world.committed().await, -1);
        let groups = world.groups.clone();
        let answer = actix_rt::spawn(async move { groups.ask("g", commit(5)).await });
        // The record is in the log, and is never synced.
        syncs.recv().await.unwrap();
        assert_eq!(world.committed().await, -1);
        assert!(!answer.is_finished());
    });
}

#[test]
fn a_coordinator_does_not_begin_before_all_that_is_in_its_log_is_committed() {
    System::new().block_on(async {
        let (sender, mut syncs) = unbounded_channel();
        let log = dirty_log(&file_system(), 0);
        let world = World::start(log, Arc::new(Asked(sender)));
        syncs.recv().await.unwrap();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let answer = world.groups.ask("g", Request::List).await;
        assert_eq!(answer, Err(ErrorCode::CoordinatorLoadInProgress));

        let log = dirty_log(&file_system(), 0);
        let world = World::start(log, pool());
        assert_eq!(world.ask(Request::List).await, Answer::Listed(Vec::new()));
    });
}

/// The topic was deleted, and another one of its name created, while nobody coordinated.
#[test]
fn a_coordinator_that_begins_forgets_what_was_committed_for_a_topic_that_is_gone() {
    System::new().block_on(async {
        let mut world = World::start(empty_log(&file_system(), 0), pool());
        let topic = |id| MetadataCommand::CreateTopic {
            name: "t".parse().unwrap(),
            id,
            partitions: vec![vec![NODE]],
            configs: BTreeMap::new(),
        };
        let (former, later) = (TopicId::random(), TopicId::random());
        world.image.replay(&topic(later));
        world.publish();
        assert_eq!(world.ask(commit_to(former, 5)).await, accepted());
        assert_eq!(world.committed().await, 5);

        let stopping = CancellationToken::new();
        let forgetting = forget_deleted_topics(world.groups.clone(), stopping.clone());
        let forgetting = actix_rt::spawn(forgetting);
        world.lead_in(1).await;
        world.publish();
        let forgotten = async {
            while world.committed().await != -1 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(WAIT_MAX, forgotten).await.unwrap();

        // What is committed for the later one stays.
        assert_eq!(world.ask(commit_to(later, 3)).await, accepted());
        let mut loads = world.groups.coordinators().loads();
        loads.borrow_and_update();
        world.lead_in(2).await;
        world.publish();
        loads.changed().await.unwrap();
        assert_eq!(world.committed().await, 3);
        stopping.cancel();
        forgetting.await.unwrap();
    });
}

#[test]
fn a_coordinator_whose_epoch_is_over_writes_nothing_and_the_next_knows_what_is_committed() {
    System::new().block_on(async {
        let mut world = World::start(empty_log(&file_system(), 0), pool());
        assert_eq!(world.ask(commit(5)).await, accepted());

        // Its partition has another epoch, and it hasn't heard.
        world.lead_in(1).await;
        let answer = world.groups.ask("g", commit(3)).await;
        assert_eq!(answer, Err(ErrorCode::CoordinatorLoadInProgress));
        world.publish();
        assert_eq!(world.committed().await, 5);
        assert_eq!(world.ask(commit(6)).await, accepted());

        // It isn't led here any more.
        world.image = MetadataImage::default();
        world.publish();
        let gone = async {
            while !world.groups.coordinators().partitions().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(WAIT_MAX, gone).await.unwrap();
    });
}
