//! Voters that have lost their copy of the metadata.

use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use super::cluster::{three_voters, Cluster, PATIENCE};
use super::create;
use crate::engine::metadata::MetadataCommand;
use crate::model::{BrokerId, DirectoryId, TopicId};
use crate::raft::directory::{Directory, Role};
use crate::raft::storage::TREE;
use crate::raft::{Leadership, RaftSettings};
use crate::storage::meta::MetaStore;

fn topic(number: u128) -> TopicId {
    TopicId(uuid::Uuid::from_u128(number + 1))
}

/// The id of the copy that a voter which doesn't run has on disk.
fn copy_of(cluster: &Cluster, id: BrokerId) -> DirectoryId {
    let store = MetaStore::open(&cluster.dir(id)).unwrap();
    let voters = [1, 2, 3].into();
    let directory = Directory::open(store.tree(TREE).unwrap(), &voters, Role::Voter);
    directory.unwrap().id()
}

/// Some follower, and the one that is left.
async fn followers(cluster: &Cluster) -> (BrokerId, BrokerId, BrokerId) {
    let leader = cluster.leader().await;
    let mut others = cluster.voters().iter().filter(|id| **id != leader);
    let (first, second) = (*others.next().unwrap(), *others.next().unwrap());
    (leader, first, second)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_voter_elects_nobody_who_lacks_what_it_had_acknowledged() {
    let cluster = Cluster::started(three_voters(), 21).await;
    cluster.converge().await;
    let (leader, wiped, behind) = followers(&cluster).await;
    cluster.kill(behind).await;
    // Acknowledged by the leader and the one that is about to lose its disk.
    cluster.write(vec![create(7)]).await;
    cluster.kill(wiped).await;
    cluster.kill(leader).await;
    cluster.wipe(wiped);
    cluster.start(wiped).await;
    cluster.start(behind).await;
    // Time for some elections.
    sleep(Duration::from_secs(4)).await;
    assert_eq!(cluster.leaders(), [], "they can't know what they lack");
    cluster.start(leader).await;
    let raft = cluster.node(cluster.leader().await);
    raft.barrier().await.unwrap();
    assert!(
        raft.image().borrow().topic(topic(7)).is_some(),
        "it is lost"
    );
    cluster.oracle.check();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_voter_comes_back_when_it_is_readmitted() {
    let settings = RaftSettings {
        snapshot_every_bytes: 10_000,
        ..three_voters()
    };
    let cluster = Cluster::started(settings, 22).await;
    cluster.converge().await;
    // Enough that the log is cut, so that it can't be had from its beginning.
    for number in 0..400 {
        cluster.write(vec![create(number)]).await;
    }
    cluster.converge().await;
    let (_, wiped, other) = followers(&cluster).await;
    cluster.kill(wiped).await;
    cluster.wipe(wiped);
    let copy = copy_of(&cluster, wiped);
    cluster.start(wiped).await;
    cluster.write(vec![create(500)]).await;
    let returned = cluster.node(wiped);
    let follows = |now: &Leadership| matches!(now, Leadership::Follower { leader: Some(_) });
    let mut leadership = returned.leadership();
    let joined = timeout(Duration::from_secs(3), leadership.wait_for(follows)).await;
    assert!(joined.is_err(), "nobody has let it in");
    drop(joined);

    let readmit = MetadataCommand::ReadmitVoter {
        voter: wiped,
        directory: copy,
    };
    cluster.write(vec![readmit]).await;
    let joined = timeout(PATIENCE, leadership.wait_for(follows)).await;
    joined.expect("it is let in").unwrap();
    let image = cluster.converge().await;
    assert!(image.topic(topic(500)).is_some());
    // Now it counts: the other two of before are enough without the third.
    cluster.kill(other).await;
    cluster.write(vec![create(600)]).await;
    // And another start of it is no other copy.
    cluster.kill(wiped).await;
    cluster.start(wiped).await;
    cluster.write(vec![create(601)]).await;
    let image = cluster.converge().await;
    for number in [0, 399, 500, 600, 601] {
        assert!(image.topic(topic(number)).is_some(), "{number} is lost");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_formed_once_all_three_are_there_and_whoever_is_late_copies() {
    let cluster = Cluster::new(three_voters(), 23);
    cluster.start(BrokerId(1)).await;
    cluster.start(BrokerId(2)).await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(cluster.leaders(), [], "the third may know an earlier copy");
    cluster.start(BrokerId(3)).await;
    cluster.write(vec![create(1)]).await;
    cluster.converge().await;
    cluster.stop().await;
}

impl Cluster {
    /// Takes the disk of a node that doesn't run.
    pub(super) fn wipe(&self, id: BrokerId) {
        self.replace_dir(id, TempDir::new().unwrap());
    }
}
