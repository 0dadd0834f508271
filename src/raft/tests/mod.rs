//! Raft with one voter, on a real disk.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_raft::raft::{Entry, EntryNormal, EntryPayload};
use async_raft::storage::HardState;
use async_raft::RaftStorage;
use bytes::Bytes;
use tempfile::TempDir;
use uuid::Uuid;

use crate::engine::metadata::{
    Endpoint, MetadataCommand, MetadataImage, ProposalId, SessionId, METADATA_VERSION,
};
use crate::model::{BrokerId, Incarnation, TopicId};
use crate::raft::codec::{encode, LogBatch, LoggedProposal};
use crate::raft::log::{Log, LogPosition};
use crate::raft::snapshot::Snapshots;
use crate::raft::storage::Storage;
use crate::raft::{Alone, Leadership, ProposeError, Raft, RaftError, RaftSettings};
use crate::storage::meta::{MetaBatch, MetaError, MetaStore};

mod away;
mod chaos;
mod cluster;
mod faults;
mod guard;
mod observers;
mod upgrade;
mod voters;
mod wiped;

const NODE: BrokerId = BrokerId(1);

fn settings() -> RaftSettings {
    RaftSettings::new(NODE, vec![NODE])
}

fn start_with(dir: &Path, settings: RaftSettings) -> Raft {
    Raft::start(settings, MetaStore::open(dir).unwrap(), Arc::new(Alone)).unwrap()
}

async fn lead(raft: &Raft) -> u64 {
    let mut leadership = raft.leadership();
    let leader = |now: &Leadership| matches!(now, Leadership::Leader { .. });
    let led = tokio::time::timeout(Duration::from_secs(20), leadership.wait_for(leader));
    let now = *led.await.expect("it should lead by now").unwrap();
    match now {
        Leadership::Leader { term } => term,
        Leadership::Follower { .. } => unreachable!("it was waited for"),
    }
}

async fn start(dir: &Path) -> Raft {
    let raft = start_with(dir, settings());
    lead(&raft).await;
    raft
}

fn register() -> MetadataCommand {
    MetadataCommand::RegisterBroker {
        id: NODE,
        incarnation: Incarnation(Uuid::from_u128(7)),
        endpoints: vec![Endpoint {
            listener: "native".into(),
            host: "127.0.0.1".into(),
            port: 7070,
        }],
        rack: None,
        state: Default::default(),
        metadata_version_max: None,
    }
}

fn create(number: u128) -> MetadataCommand {
    MetadataCommand::CreateTopic {
        name: format!("topic-{number}").parse().unwrap(),
        id: TopicId(Uuid::from_u128(number + 1)),
        partitions: vec![vec![NODE]],
        configs: BTreeMap::new(),
    }
}

fn image(raft: &Raft) -> Arc<MetadataImage> {
    raft.image().borrow().clone()
}

/// A copy of the directory as a crash of the process would leave it, or worse: files are copied
/// one after the other while they are written. What the store acknowledges comes first, because it
/// can't be ahead of the store in a crash.
fn copy(from: &Path) -> TempDir {
    let to = TempDir::new().unwrap();
    let mark = std::fs::read(from.join("mark")).unwrap();
    copy_into(from, to.path());
    std::fs::write(to.path().join("mark"), mark).unwrap();
    to
}

fn copy_into(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy_into(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn the_image_is_the_same_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let raft = start(dir.path()).await;
    let proposed = raft.propose(vec![register(), create(1), create(2)]).await;
    let proposed = proposed.unwrap();
    assert_eq!(proposed.topic_count(), 2);
    assert_eq!(image(&raft), proposed);
    raft.shutdown().await;

    let raft = start(dir.path()).await;
    assert_eq!(image(&raft), proposed);
    let more = raft.propose(vec![create(3)]).await.unwrap();
    assert_eq!(more.topic_count(), 3);
    raft.shutdown().await;
}

#[tokio::test]
async fn a_restart_knows_what_was_applied_before_it_leads() {
    let dir = TempDir::new().unwrap();
    let raft = start(dir.path()).await;
    raft.propose(vec![create(1)]).await.unwrap();
    // The next entry carries along that the first is applied.
    let before = raft.propose(vec![create(2)]).await.unwrap();
    raft.barrier().await.unwrap();
    raft.shutdown().await;

    let raft = start_with(dir.path(), settings());
    assert_eq!(image(&raft), before);
    raft.shutdown().await;
}

#[tokio::test]
async fn the_store_is_released_when_shutdown_returns() {
    let dir = TempDir::new().unwrap();
    for round in 0..20 {
        let raft = start(dir.path()).await;
        raft.propose(vec![create(round)]).await.unwrap();
        raft.shutdown().await;
        let store = MetaStore::open(dir.path());
        assert!(store.is_ok(), "round {round}: {store:?}");
    }
}

#[tokio::test]
async fn a_restart_leads_within_a_fifth_of_a_second() {
    let dir = TempDir::new().unwrap();
    let raft = start(dir.path()).await;
    raft.propose(vec![create(1)]).await.unwrap();
    raft.shutdown().await;
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let begin = Instant::now();
        let raft = start(dir.path()).await;
        best = best.min(begin.elapsed());
        raft.shutdown().await;
    }
    assert!(best < Duration::from_millis(200), "{best:?}");
}

#[tokio::test]
async fn what_was_acknowledged_is_in_any_later_copy_of_the_directory() {
    let dir = TempDir::new().unwrap();
    let settings = RaftSettings {
        snapshot_every_bytes: 20_000,
        ..settings()
    };
    let raft = start_with(dir.path(), settings.clone());
    lead(&raft).await;
    for round in 0..12 {
        let mut writers = tokio::task::JoinSet::new();
        for number in 0..40 {
            let raft = raft.clone();
            writers.spawn(async move { raft.propose(vec![create(round * 100 + number)]).await });
        }
        for _ in 0..20 {
            writers.join_next().await.unwrap().unwrap().unwrap();
        }
        let acknowledged = image(&raft);
        // The others are being written while the files are copied.
        let from = dir.path().to_path_buf();
        let crashed = tokio::task::spawn_blocking(move || copy(&from))
            .await
            .unwrap();
        while let Some(written) = writers.join_next().await {
            written.unwrap().unwrap();
        }
        let again = start_with(crashed.path(), settings.clone());
        lead(&again).await;
        let found = image(&again);
        for topic in acknowledged.topics() {
            assert_eq!(found.topic(topic.id), Some(topic), "round {round}");
        }
        again.shutdown().await;
    }
    raft.shutdown().await;
}

/// Where the process that is to be killed keeps its store.
const CHILD_DIR: &str = "KLAMM_TEST_RAFT_CHILD_DIR";

/// Not a test of its own: the process that the next test kills. It says what is acknowledged.
#[tokio::test]
async fn child_that_proposes_until_it_is_killed() {
    let Ok(dir) = std::env::var(CHILD_DIR) else {
        return;
    };
    let raft = start(Path::new(&dir)).await;
    for number in 0.. {
        raft.propose(vec![create(number)]).await.unwrap();
        println!("acknowledged {number}");
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let dir = TempDir::new().unwrap();
    for round in 1..=5u128 {
        let child = "raft::tests::child_that_proposes_until_it_is_killed";
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", child, "--nocapture"])
            .env(CHILD_DIR, dir.path())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let numbers = lines.map_while(|line| {
            let line = line.ok()?;
            Some(
                line.strip_prefix("acknowledged ")
                    .and_then(|n| n.parse::<u128>().ok()),
            )
        });
        let mut last = 0;
        for number in numbers.flatten() {
            last = number;
            if number >= 40 * round {
                // It goes on writing until the signal arrives.
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        let raft = start(dir.path()).await;
        let image = image(&raft);
        for number in 0..=last {
            let id = TopicId(Uuid::from_u128(number + 1));
            assert!(
                image.topic(id).is_some(),
                "round {round}: {number} of {last}"
            );
        }
        raft.shutdown().await;
    }
}

#[tokio::test]
async fn proposals_that_wait_share_a_write() {
    let dir = TempDir::new().unwrap();
    let raft = start(dir.path()).await;
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..1_000 {
        let raft = raft.clone();
        writers.spawn(async move {
            let image = raft.propose(vec![create(number)]).await.unwrap();
            assert!(image.topic(TopicId(Uuid::from_u128(number + 1))).is_some());
        });
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    assert_eq!(image(&raft).topic_count(), 1_000);
    raft.shutdown().await;
    let storage = open_storage(dir.path());
    assert!(storage.log().len() < 50, "{} entries", storage.log().len());
}

#[tokio::test]
async fn the_log_stays_bounded_and_the_image_survives_its_cuts() {
    let dir = TempDir::new().unwrap();
    let settings = RaftSettings {
        snapshot_every_bytes: 100_000,
        ..settings()
    };
    let raft = start_with(dir.path(), settings.clone());
    lead(&raft).await;
    raft.propose(vec![create(0)]).await.unwrap();
    for batch in 0..200 {
        let set = |i: i32| MetadataCommand::SetTopicConfigs {
            id: TopicId(Uuid::from_u128(1)),
            set: BTreeMap::from([("retention.ms".into(), (batch * 100 + i).to_string())]),
            removed: Default::default(),
        };
        raft.propose((0..100).map(set).collect()).await.unwrap();
    }
    let last = image(&raft);
    assert_eq!(last.version(), 20_001);
    raft.shutdown().await;

    let store = MetaStore::open(dir.path()).unwrap();
    assert!(store.size_on_disk().unwrap() < 16 << 20);
    let tree = store.tree("raft").unwrap();
    let on_disk: usize = tree.scan_prefix(b"l").map(|e| e.unwrap().1.len()).sum();
    // Back to the snapshot before the last one, and the next is due.
    assert!(on_disk < 350_000, "{on_disk} bytes of log");
    drop(tree);
    let storage = Storage::open(&store, [1].into(), 100_000, METADATA_VERSION).unwrap();
    assert_eq!(storage.log().bytes(), on_disk as u64);
    drop((store, storage));

    let raft = start_with(dir.path(), settings);
    lead(&raft).await;
    assert_eq!(image(&raft), last);
    raft.shutdown().await;
}

#[tokio::test]
async fn a_thousand_topics_on_disk_are_read_within_a_second() {
    let dir = TempDir::new().unwrap();
    let raft = start(dir.path()).await;
    raft.propose((0..1_000).map(create).collect())
        .await
        .unwrap();
    let before = image(&raft);
    raft.shutdown().await;
    let begin = Instant::now();
    let raft = start(dir.path()).await;
    let took = begin.elapsed();
    assert_eq!(image(&raft), before);
    assert!(took < Duration::from_secs(1), "{took:?}");
    raft.shutdown().await;
}

#[tokio::test]
async fn a_fault_of_the_store_stops_raft_and_is_told() {
    let dir = TempDir::new().unwrap();
    let store = MetaStore::open(dir.path()).unwrap();
    let raft = Raft::start(settings(), store.clone(), Arc::new(Alone)).unwrap();
    lead(&raft).await;
    store.break_for_test();
    let refused = raft.propose(vec![create(1)]).await;
    assert_eq!(refused, Err(ProposeError::Unknown));
    let fault = raft.fault().await;
    assert!(fault.contains("has failed"), "{fault}");
    raft.shutdown().await;
    let nobody = Leadership::Follower { leader: None };
    assert_eq!(*raft.leadership().borrow(), nobody);
    assert_eq!(
        raft.propose(vec![create(2)]).await,
        Err(ProposeError::Stopped)
    );
}

#[tokio::test]
async fn a_node_that_stopped_between_its_first_term_and_its_first_entry_starts() {
    let dir = TempDir::new().unwrap();
    let storage = open_storage(dir.path());
    let voted = HardState {
        current_term: 1,
        voted_for: Some(1),
    };
    storage.save_hard_state(&voted).await.unwrap();
    drop(storage);
    let raft = start(dir.path()).await;
    raft.propose(vec![create(1)]).await.unwrap();
    raft.shutdown().await;
}

#[tokio::test]
async fn a_store_in_use_and_two_voters_are_refused() {
    let dir = TempDir::new().unwrap();
    let raft = start(dir.path()).await;
    let second = MetaStore::open(dir.path());
    assert!(matches!(second, Err(MetaError::InUse { .. })), "{second:?}");
    raft.shutdown().await;

    let store = MetaStore::open(dir.path()).unwrap();
    let two = RaftSettings::new(NODE, vec![NODE, BrokerId(2)]);
    let refused = Raft::start(two, store.clone(), Arc::new(Alone));
    assert!(matches!(
        refused,
        Err(RaftError::NumberOfVoters { count: 2 })
    ));
    // A voter doesn't become one of those who follow either.
    let other = RaftSettings::new(NODE, vec![BrokerId(2)]);
    let refused = Raft::start(other, store, Arc::new(Alone));
    assert!(matches!(refused, Err(RaftError::OtherVoters { .. })));
}

#[tokio::test]
async fn a_proposal_that_is_too_large_is_refused_and_a_large_one_is_kept() {
    let dir = TempDir::new().unwrap();
    let raft = start(dir.path()).await;
    let topic = |partitions| MetadataCommand::CreateTopic {
        name: "large".parse().unwrap(),
        id: TopicId(Uuid::from_u128(1)),
        partitions: vec![vec![NODE]; partitions],
        configs: BTreeMap::new(),
    };
    let refused = raft.propose(vec![topic(5_000_000)]).await;
    assert!(matches!(refused, Err(ProposeError::TooLarge { .. })));
    let kept = raft.propose(vec![topic(300_000)]).await.unwrap();
    raft.shutdown().await;
    let raft = start(dir.path()).await;
    assert_eq!(image(&raft), kept);
    raft.shutdown().await;
}

fn open_storage(dir: &Path) -> Storage {
    let store = MetaStore::open(dir).unwrap();
    Storage::open(&store, [1].into(), 1 << 20, METADATA_VERSION).unwrap()
}

fn entry(index: u64, term: u64, sequence: u64, commands: &[MetadataCommand]) -> Entry<LogBatch> {
    let id = ProposalId {
        proposer: NODE,
        session: SessionId(Uuid::from_u128(1)),
        sequence,
    };
    let commands = Bytes::from(encode(&commands).unwrap());
    let proposals = vec![LoggedProposal { id, commands }];
    Entry {
        term,
        index,
        payload: EntryPayload::Normal(EntryNormal {
            data: LogBatch { proposals },
        }),
    }
}

#[tokio::test]
async fn entries_are_applied_from_the_own_log_each_once_whatever_is_asked() {
    let dir = TempDir::new().unwrap();
    let storage = open_storage(dir.path());
    let entries: Vec<_> = (1..=4)
        .map(|i| entry(i, 1, i, &[create(i.into())]))
        .collect();
    storage.replicate_to_log(&entries).await.unwrap();
    // async-raft asks for the third only, with content that isn't in the log, and then again.
    let strange = LogBatch::default();
    storage
        .apply_entry_to_state_machine(&3, &strange)
        .await
        .unwrap();
    storage
        .apply_entry_to_state_machine(&2, &strange)
        .await
        .unwrap();
    storage
        .replicate_to_state_machine(&[(&3, &strange)])
        .await
        .unwrap();
    assert_eq!(storage.state().applied(), 3);
    let image = storage.state().images().borrow().clone();
    assert_eq!((image.topic_count(), image.version()), (3, 3));
    // What isn't in the log can't be applied.
    assert!(storage
        .apply_entry_to_state_machine(&5, &strange)
        .await
        .is_err());
    assert!(storage.fault().borrow().is_some());
}

#[tokio::test]
async fn a_proposal_that_was_written_twice_takes_effect_once() {
    let dir = TempDir::new().unwrap();
    let storage = open_storage(dir.path());
    let delete = MetadataCommand::DeleteTopic {
        id: TopicId(Uuid::from_u128(2)),
    };
    let entries = [
        entry(1, 1, 1, &[create(1)]),
        entry(2, 1, 2, &[delete]),
        entry(3, 2, 1, &[create(1)]),
    ];
    storage.replicate_to_log(&entries).await.unwrap();
    storage
        .apply_entry_to_state_machine(&3, &LogBatch::default())
        .await
        .unwrap();
    let image = storage.state().images().borrow().clone();
    assert_eq!((image.topic_count(), image.version()), (0, 2));
}

#[tokio::test]
async fn what_is_applied_is_never_truncated_and_the_log_gets_no_hole() {
    let entries: Vec<_> = (1..=4)
        .map(|i| entry(i, 1, i, &[create(i.into())]))
        .collect();
    for (name, spoil) in [("truncate", 0), ("overwrite", 1), ("hole", 2)] {
        let dir = TempDir::new().unwrap();
        let storage = open_storage(dir.path());
        storage.replicate_to_log(&entries).await.unwrap();
        storage
            .apply_entry_to_state_machine(&2, &LogBatch::default())
            .await
            .unwrap();
        let refused = match spoil {
            0 => storage.delete_logs_from(2, None).await,
            1 => storage.append_entry_to_log(&entry(2, 2, 9, &[])).await,
            _ => storage.append_entry_to_log(&entry(6, 2, 9, &[])).await,
        };
        assert!(refused.is_err(), "{name}");
        drop(storage);
        let storage = open_storage(dir.path());
        assert_eq!(
            storage.get_log_entries(1, 5).await.unwrap(),
            entries,
            "{name}"
        );
    }
}

#[tokio::test]
async fn entries_that_are_not_applied_are_replaced_in_one_step() {
    let dir = TempDir::new().unwrap();
    let storage = open_storage(dir.path());
    let entries: Vec<_> = (1..=4)
        .map(|i| entry(i, 1, i, &[create(i.into())]))
        .collect();
    storage.replicate_to_log(&entries).await.unwrap();
    let other = entry(3, 2, 9, &[create(9)]);
    storage.append_entry_to_log(&other).await.unwrap();
    let expected = vec![entries[0].clone(), entries[1].clone(), other];
    assert_eq!(storage.get_log_entries(1, 4).await.unwrap(), expected);
    assert_eq!(storage.get_log_entries(4, 4).await.unwrap(), vec![]);
    assert!(storage.get_log_entries(3, 5).await.is_err());
    drop(storage);
    let storage = open_storage(dir.path());
    assert_eq!(storage.log().last(), LogPosition { index: 3, term: 2 });
    assert_eq!(storage.get_log_entries(1, 4).await.unwrap(), expected);
}

#[test]
fn a_log_with_a_hole_is_damaged_and_says_so() {
    let dir = TempDir::new().unwrap();
    let store = MetaStore::open(dir.path()).unwrap();
    let tree = store.tree("raft").unwrap();
    let (log, _) = Log::open(tree.clone(), LogPosition::default()).unwrap();
    let entries: Vec<_> = (1..=3).map(|i| entry(i, 1, i, &[])).collect();
    log.append(&entries, 0).unwrap();
    let mut key = vec![b'l'];
    key.extend_from_slice(&2u64.to_be_bytes());
    key.extend_from_slice(&0u16.to_be_bytes());
    let mut batch = MetaBatch::default();
    batch.remove(&key);
    tree.apply(batch).unwrap();
    let damaged = Log::open(tree, LogPosition::default()).unwrap_err();
    assert!(matches!(damaged, RaftError::Damaged(_)), "{damaged}");
    assert!(damaged.to_string().contains("entry 3"), "{damaged}");
}

#[test]
fn a_crash_in_a_snapshot_leaves_the_one_before() {
    let dir = TempDir::new().unwrap();
    let store = MetaStore::open(dir.path()).unwrap();
    let tree = store.tree("raft").unwrap();
    let snapshots = Snapshots::new(tree.clone());
    let mut image = MetadataImage::default();
    image.replay(&register());
    // Large enough for several chunks.
    (0..2_000).for_each(|number| image.replay(&create(number)));
    let position = LogPosition { index: 9, term: 2 };
    let bytes = snapshots.write(&image, position).unwrap();
    assert!(bytes > 128 << 10, "{bytes}");

    // A chunk of the next generation, and then nothing more.
    let mut key = vec![b's'];
    key.extend_from_slice(&2u64.to_be_bytes());
    key.extend_from_slice(&0u32.to_be_bytes());
    let mut batch = MetaBatch::default();
    batch.put(&key, vec![1, 2, 3]);
    tree.apply(batch).unwrap();

    let loaded = snapshots.load().unwrap();
    assert_eq!((loaded.image, loaded.position), (image, position));
    assert_eq!(tree.get(&key).unwrap(), None);
}
