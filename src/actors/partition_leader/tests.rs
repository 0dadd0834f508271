//! What a leader promises to its arbiter.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex};

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::sync::mpsc::{unbounded_channel, UnboundedSender};
use uuid::Uuid;

use super::isr::Metadata;
use super::*;
use crate::actors::guardian::{GuardianHandle, Ward};
use crate::actors::log_keeper::{KeepSettings, LogWorkers};
use crate::actors::log_leases::LogLeases;
use crate::actors::partition_handle::Closing;
use crate::actors::partitions::Partitions;
use crate::actors::vitals::Registry;
use crate::engine::metadata::change::{Change, Decided};
use crate::engine::metadata::{
    BrokerDefaults, BrokerState, MetadataCommand, MetadataImage, Partition, TopicConfig,
};
use crate::engine::replica::CommitRule;
use crate::model::{Incarnation, LeaderEpoch, PartitionId, TopicId};
use crate::protocol::list_offsets::MAX_TIMESTAMP;
use crate::record::{Batch, BatchBuilder, Codec, ProducerStamp};
use crate::storage::cleaner::Cleaner;
use crate::storage::fs::{create_dir_durably, FaultyFs, Io};
use crate::storage::lease::Lease;
use crate::storage::log::{Log, LogConfig, Shutdown, SyncJob};
use crate::storage::syncer::{AbortProcess, SyncDone, SyncPool, Syncer};
use crate::storage::witness::LogHome;

/// How long a test waits for anything before it fails.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(10);

/// So many stand on one arbiter.
const LEADERS: i32 = 4;

pub(in crate::actors) const NODE: BrokerId = BrokerId(1);
const NOW: Timestamp = Timestamp(1);

fn batch() -> Batch {
    let mut builder = BatchBuilder::with_capacity(100);
    builder.append(NOW, None, Some(b"value"), &[]);
    let batch = builder.build(Codec::None, ProducerStamp::NONE).unwrap();
    Batch::parse(batch).unwrap()
}

/// A log without any record.
pub(in crate::actors) fn empty_log(fs: &FaultyFs, number: i32) -> Log {
    let home = LogHome::unwitnessed(&PathBuf::from(format!("/logs/{number}")));
    let file_system = Arc::new(fs.clone());
    let config = LogConfig::default();
    let lease = Lease::none();
    Log::open(file_system, &home, config, Shutdown::Clean, NOW, lease).unwrap()
}

/// A log with a record that isn't synced.
pub(in crate::actors) fn dirty_log(fs: &FaultyFs, number: i32) -> Log {
    let mut log = empty_log(fs, number);
    let appended = log.append(&[batch()], LeaderEpoch(0), NOW).unwrap();
    assert!(appended[0].is_ok());
    log
}

/// The metadata, with this broker in this life.
pub(super) fn registered(image: &MetadataImage, id: BrokerId, life: u128) -> MetadataImage {
    let mut image = image.clone();
    image.replay(&MetadataCommand::RegisterBroker {
        id,
        incarnation: Incarnation(Uuid::from_u128(life)),
        endpoints: Vec::new(),
        rack: None,
        state: BrokerState::Unfenced,
        metadata_version_max: None,
    });
    image
}

/// The metadata of a leader that has no followers.
struct NoChanges;

#[async_trait]
impl Metadata for NoChanges {
    fn image(&self) -> Arc<MetadataImage> {
        Arc::default()
    }

    async fn change(&self, change: Change) -> Decided {
        panic!("{change:?} was asked for")
    }
}

/// Starts a leader on the present arbiter, which commits what is synced and writes no checkpoint soon.
fn lead(log: Log, number: i32) -> PartitionHandle {
    let syncer = Arc::new(SyncPool::start(1, Arc::new(AbortProcess)).unwrap());
    lead_by(CommitRule::Synced, WAIT_MAX, syncer, log, number)
}

pub(in crate::actors) fn lead_by(
    commit_rule: CommitRule,
    checkpoint_interval: Duration,
    syncer: Arc<dyn Syncer>,
    log: Log,
    number: i32,
) -> PartitionHandle {
    let keep = KeepSettings {
        commit_rule,
        checkpoint_interval,
        retention_interval: WAIT_MAX,
        compaction_interval: WAIT_MAX,
    };
    lead_among(&[NODE], Arc::new(NoChanges), keep, syncer, log, number)
}

/// Leads this node's and another one's replica of a log with a record.
pub(super) fn lead_beside(other: BrokerId, metadata: Arc<dyn Metadata>) -> PartitionHandle {
    let fs = FaultyFs::new(1);
    create_dir_durably(&fs, "/logs".as_ref()).unwrap();
    let keep = KeepSettings {
        commit_rule: CommitRule::Synced,
        checkpoint_interval: WAIT_MAX,
        retention_interval: WAIT_MAX,
        compaction_interval: WAIT_MAX,
    };
    let syncer = Arc::new(SyncPool::start(1, Arc::new(AbortProcess)).unwrap());
    let log = dirty_log(&fs, 0);
    lead_among(&[NODE, other], metadata, keep, syncer, log, 0)
}

/// Leads one of several replicas, of which no other is in sync.
fn lead_among(
    replicas: &[BrokerId],
    metadata: Arc<dyn Metadata>,
    keep: KeepSettings,
    syncer: Arc<dyn Syncer>,
    log: Log,
    number: i32,
) -> PartitionHandle {
    let registry = Registry::default();
    let id = PartitionId {
        topic_id: TopicId::random(),
        partition: number,
    };
    let handle = PartitionHandle::new(
        id,
        &"orders".parse().unwrap(),
        16,
        &registry,
        &LogLeases::default(),
    );
    let guardian = GuardianHandle::new(&registry, &Partitions::default());
    let partition = Partition {
        replicas: replicas.to_vec(),
        leader: NODE,
        leader_epoch: LeaderEpoch(0),
        isr: vec![NODE],
        eligible_leaders: Vec::new(),
        partition_epoch: Default::default(),
        last_known_leader: BrokerId::NONE,
        adding_replicas: Vec::new(),
        removing_replicas: Vec::new(),
    };
    let defaults = BrokerDefaults::new([] as [(&str, String); 0]).unwrap();
    let assignment = Assignment {
        partition: Arc::new(partition),
        config: Arc::new(TopicConfig::resolve(&BTreeMap::new(), &defaults)),
    };
    let workers = LogWorkers {
        syncer,
        cleaner: Arc::new(Cleaner::start(1, 1 << 20).unwrap()),
    };
    let keeper = LogKeeper::new(log, keep, workers, handle.vitals().clone());
    let life_line = guardian.life_line(Ward::Partition(id), 0);
    let leader = PartitionLeader::new(
        keeper,
        &assignment,
        Replicator::default(),
        IsrKeeping::new(metadata, WAIT_MAX),
        ReplicaSelector::Leader,
        &handle,
        life_line,
    );
    handle.lead(leader, &Arbiter::current());
    handle
}

/// Holds up whoever comes until so many have come, or it takes too long.
struct Meeting {
    wanted: usize,
    come: Mutex<usize>,
    changed: Condvar,
}

impl Meeting {
    fn attend(&self) {
        let mut come = self.come.lock().unwrap();
        *come += 1;
        self.changed.notify_all();
        let missing = |come: &mut usize| *come < self.wanted;
        let waited = self.changed.wait_timeout_while(come, WAIT_MAX, missing);
        assert!(!waited.unwrap().1.timed_out(), "they come one by one");
    }
}

impl Meeting {
    /// From now on this kind of operation is held up, until all leaders are at it.
    fn call(fs: &FaultyFs, kind: Io) {
        let meeting = Meeting {
            wanted: LEADERS as usize,
            come: Mutex::default(),
            changed: Condvar::new(),
        };
        fs.at_each_io(move |io| {
            if io == kind {
                meeting.attend();
            }
        });
    }
}

fn leaders(fs: &FaultyFs) -> Vec<PartitionHandle> {
    create_dir_durably(fs, "/logs".as_ref()).unwrap();
    (0..LEADERS).map(|n| lead(dirty_log(fs, n), n)).collect()
}

fn synced(mut log: Log) -> Log {
    let sync = log.begin_sync().unwrap();
    sync.run().unwrap();
    log.complete_sync(sync.covers());
    log
}

#[actix_rt::test]
async fn the_logs_of_one_arbiter_are_closed_side_by_side() {
    let fs = FaultyFs::new(1);
    let leaders = leaders(&fs);
    Meeting::call(&fs, Io::Sync);
    let close = |leader: PartitionHandle| leader.close(Closing::Keep);
    for closed in join_all(leaders.into_iter().map(close)).await {
        closed.unwrap();
    }
}

#[actix_rt::test]
async fn a_look_up_of_a_time_does_not_hold_up_the_arbiter() {
    for timestamp in [MAX_TIMESTAMP, Timestamp(1)] {
        let fs = FaultyFs::new(1);
        create_dir_durably(&fs, "/logs".as_ref()).unwrap();
        let leaders = (0..LEADERS).map(|n| lead(synced(dirty_log(&fs, n)), n));
        let leaders: Vec<_> = leaders.collect();
        Meeting::call(&fs, Io::Read);
        let find = |leader: &PartitionHandle| {
            let leader = leader.clone();
            let ask = FindOffset {
                current_leader_epoch: LeaderEpoch::NONE,
                timestamp,
            };
            async move { leader.find_offset(ask).await }
        };
        for found in join_all(leaders.iter().map(find)).await {
            assert_eq!(found.unwrap().offset, Offset(0));
        }
    }
}

/// Whoever is told what became of batches.
struct Told(UnboundedSender<AppendResult>);

impl AppendReplies for Told {
    fn deliver(&self, results: Vec<(AppendKey, AppendResult)>) {
        for (_, result) in results {
            self.0.send(result).unwrap();
        }
    }
}

/// Appends a batch with acks=all, and waits until it is committed.
async fn append(leader: &PartitionHandle) -> AppendReceipt {
    let (sender, mut told) = unbounded_channel();
    let key = AppendKey {
        request: 0,
        batch: 0,
    };
    leader.append(vec![AppendItem {
        batch: batch(),
        acks: Acks::All,
        leader_epoch: LeaderEpoch::NONE,
        deadline: Timestamp(i64::MAX),
        ticket: AppendTicket::new(Arc::new(Told(sender)), key),
    }]);
    told.recv().await.unwrap().unwrap()
}

/// Says what it is asked to sync, and does nothing.
pub(in crate::actors) struct Asked(pub UnboundedSender<SyncJob>);

impl Syncer for Asked {
    fn submit(&self, job: SyncJob, _: SyncDone) {
        self.0.send(job).unwrap();
    }
}

#[actix_rt::test]
async fn where_nobody_waits_for_the_disk_only_checkpoints_sync() {
    let fs = FaultyFs::new(1);
    create_dir_durably(&fs, "/logs".as_ref()).unwrap();
    let (sender, mut asked) = unbounded_channel();
    let syncer = Arc::new(Asked(sender));
    let lead = |checkpoint_interval, number| {
        let log = dirty_log(&fs, number);
        let syncer = syncer.clone();
        lead_by(
            CommitRule::Written,
            checkpoint_interval,
            syncer,
            log,
            number,
        )
    };

    let leader = lead(WAIT_MAX, 0);
    for offset in 1..10 {
        assert_eq!(append(&leader).await.base_offset, Offset(offset));
    }
    assert!(asked.try_recv().is_err(), "a sync for nobody");

    let leader = lead(Duration::from_millis(1), 1);
    append(&leader).await;
    let sync = tokio::time::timeout(WAIT_MAX, asked.recv()).await;
    assert!(sync.unwrap().is_some());
}
