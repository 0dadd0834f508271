//! Logs stay bounded while a voter is away, and it comes back.

use std::collections::BTreeMap;
use std::sync::Arc;

use tempfile::TempDir;

use super::cluster::{three_voters, Cluster};
use super::create;
use super::voters::{prepare, prepare_in, topic};
use crate::engine::metadata::{MetadataCommand, METADATA_VERSION};
use crate::model::BrokerId;
use crate::raft::codec::decode;
use crate::raft::copying::{Copies, StateCopy, Wanted};
use crate::raft::log::LogPosition;
use crate::raft::rpc::{Part, Reply};
use crate::raft::storage::Storage;
use crate::raft::RaftSettings;
use crate::storage::meta::MetaStore;

const SNAPSHOT_EVERY_BYTES: u64 = 10_000;
/// How many commands go into one entry of [`Cluster::fill`].
const COMMANDS: usize = 10;

fn settings() -> RaftSettings {
    RaftSettings {
        snapshot_every_bytes: SNAPSHOT_EVERY_BYTES,
        ..three_voters()
    }
}

impl Cluster {
    /// Writes so many entries of about a kilobyte, which leave the image as small as it is.
    pub(super) async fn fill(&self, entries: usize) {
        self.write(vec![create(0)]).await;
        for entry in 0..entries {
            let set = |command: usize| MetadataCommand::SetTopicConfigs {
                id: topic(0),
                set: BTreeMap::from([(
                    "retention.ms".into(),
                    (entry * COMMANDS + command).to_string(),
                )]),
                removed: Default::default(),
            };
            self.write((0..COMMANDS).map(set).collect()).await;
        }
    }

    /// A log goes back to the snapshot before the last one, and the next is due.
    pub(super) fn assert_bounded(&self, id: BrokerId) {
        let storage = self.node(id).storage();
        let (entries, bytes) = (storage.log().len(), storage.log().bytes());
        assert!(
            bytes < 4 * SNAPSHOT_EVERY_BYTES && entries < 100,
            "the log of {id} has {entries} entries, {bytes} bytes"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_stays_bounded_while_a_voter_is_away_which_comes_back_by_a_copy_and_votes() {
    let cluster = Cluster::started(settings(), 51).await;
    cluster.converge().await;
    let leader = cluster.leader().await;
    let away = *cluster.voters().iter().find(|id| **id != leader).unwrap();
    let end = cluster.node(away).storage().log().last().index;
    cluster.kill(away).await;
    for _ in 0..3 {
        cluster.fill(150).await;
        for id in cluster.running() {
            cluster.assert_bounded(id);
        }
    }
    cluster.start(away).await;
    cluster.converge().await;
    let beginning = cluster.node(away).storage().log().beginning().index;
    assert!(
        beginning > end,
        "it begins at {beginning}, and ended at {end}"
    );
    // The other two can do nothing without it, and it must have all to be elected.
    cluster.kill(leader).await;
    cluster.write(vec![create(1)]).await;
    let third = cluster.running().into_iter().find(|id| *id != away);
    cluster.start(leader).await;
    cluster.converge().await;
    cluster.kill(third.unwrap()).await;
    cluster.write(vec![create(2)]).await;
    // What it has copied is on its disk.
    for id in cluster.running() {
        cluster.kill(id).await;
    }
    let image = cluster.converge().await;
    assert!([1, 2].iter().all(|n| image.topic(topic(*n)).is_some()));
    for id in cluster.voters() {
        cluster.assert_bounded(*id);
    }
    cluster.stop().await;
}

/// Whoever leads can't show that it does before the other one, which lacks everything, has all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_was_away_is_enough_for_one_that_was_not() {
    let cluster = Cluster::started(settings(), 52).await;
    cluster.converge().await;
    let leader = cluster.leader().await;
    let away = *cluster.voters().iter().find(|id| **id != leader).unwrap();
    cluster.kill(away).await;
    cluster.fill(150).await;
    cluster.write(vec![create(1)]).await;
    for id in cluster.running() {
        cluster.kill(id).await;
    }
    cluster.start(leader).await;
    cluster.start(away).await;
    let image = cluster.write(vec![create(2)]).await;
    assert!(image.topic(topic(1)).is_some());
    cluster.converge().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_never_committed_goes_when_the_state_is_copied() {
    let cluster = Cluster::new(settings(), 53);
    prepare(&cluster, BrokerId(1), &[(1, 10), (3, 15)], 3).await;
    for id in [2, 3] {
        prepare(&cluster, BrokerId(id), &[(1, 10), (4, 20)], 4).await;
        cluster.start(BrokerId(id)).await;
    }
    cluster.fill(150).await;
    let image = cluster.write(vec![create(1)]).await;
    assert!(image.topic(topic(4_025)).is_some());
    cluster.start(BrokerId(1)).await;
    let image = cluster.converge().await;
    assert!(image.topic(topic(3_025)).is_none());
    let begins_at = |id| cluster.node(BrokerId(id)).storage().log().beginning();
    assert!(begins_at(1).index > 25, "{:?}", begins_at(1));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_was_away_for_a_moment_gets_entries() {
    let cluster = Cluster::started(settings(), 54).await;
    cluster.fill(60).await;
    cluster.converge().await;
    let leader = cluster.leader().await;
    let away = *cluster.voters().iter().find(|id| **id != leader).unwrap();
    let beginning = cluster.node(away).storage().log().beginning();
    cluster.kill(away).await;
    cluster.fill(3).await;
    cluster.start(away).await;
    cluster.converge().await;
    assert_eq!(
        cluster.node(away).storage().log().beginning(),
        beginning,
        "it was copied"
    );
    cluster.stop().await;
}

fn storage(dir: &TempDir) -> Storage {
    let store = MetaStore::open(dir.path()).unwrap();
    Storage::open(&store, [1, 2, 3].into(), 1 << 20, METADATA_VERSION).unwrap()
}

#[tokio::test]
async fn a_copy_takes_the_place_of_all_that_is_there_also_on_the_disk() {
    let [leaders, own] = [(); 2].map(|()| TempDir::new().unwrap());
    prepare_in(leaders.path(), &[(1, 10), (4, 10)], 4).await;
    prepare_in(own.path(), &[(1, 10), (3, 30)], 5).await;
    let leaders = storage(&leaders);
    leaders.apply_up_to(20).unwrap();
    let copies = Copies::new(Arc::new(leaders));
    let part = Part {
        offset: 0,
        of: None,
    };
    let Reply::Copied { chunk, .. } = copies.part(part, Wanted::Latest).await.unwrap() else {
        panic!("there is one");
    };
    let copy: StateCopy = decode("a copy", &chunk).unwrap();
    let (position, image) = (copy.position, copy.image.clone());
    assert_eq!(position, LogPosition { index: 20, term: 4 });

    let storage_of_own = storage(&own);
    storage_of_own.apply_up_to(10).unwrap();
    assert!(storage_of_own.lacks(position));
    let at = |index, term| LogPosition { index, term };
    assert!(!storage_of_own.lacks(at(30, 3)), "it has that");
    assert!(!storage_of_own.lacks(at(9, 4)), "it has applied that");
    let hard_state = storage_of_own.log().hard_state();
    let installed = storage_of_own.install(copy, hard_state.clone()).await;
    installed.unwrap();
    drop(storage_of_own);
    let found = storage(&own);
    assert_eq!(*found.state().images().borrow().clone(), image);
    assert_eq!(
        (found.log().last(), found.log().floor()),
        (position, position)
    );
    assert_eq!(found.log().hard_state(), hard_state);
    assert_eq!(found.log().beginning(), at(19, 4));
}
