//! Nodes that have no vote.

use tokio::time::{sleep, timeout, Duration};

use super::cluster::{three_voters, voters, Cluster, PATIENCE};
use super::create;
use super::voters::topic;
use crate::model::BrokerId;
use crate::raft::{Leadership, ProposeError, RaftSettings};

const FOURTH: BrokerId = BrokerId(4);

/// Until the node knows that this one leads.
async fn await_leader(cluster: &Cluster, node: BrokerId, leader: BrokerId) {
    let mut leadership = cluster.node(node).leadership();
    let follows = Leadership::Follower {
        leader: Some(leader),
    };
    let known = leadership.wait_for(|now| *now == follows);
    let known = timeout(PATIENCE, known).await.map(|known| *known.unwrap());
    known.unwrap_or_else(|_| panic!("{node} doesn't know that {leader} leads"));
}

/// Until the node has a topic.
async fn await_topic(cluster: &Cluster, node: BrokerId, number: u128) {
    let mut images = cluster.node(node).image();
    let there = images.wait_for(|image| image.topic(topic(number)).is_some());
    let there = timeout(PATIENCE, there).await.map(|_| ());
    there.unwrap_or_else(|_| panic!("{node} doesn't know topic {number}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_vote_follows_and_goes_on_with_another_voter() {
    let cluster = Cluster::with_observers(three_voters(), &[4, 5], 41);
    cluster.start_all().await;
    for number in 0..50 {
        cluster.write(vec![create(number)]).await;
    }
    cluster.converge().await;
    let leader = cluster.leader().await;
    await_leader(&cluster, FOURTH, leader).await;
    let refused = cluster.node(FOURTH).propose(vec![create(99)]).await;
    let leader_of = |id| ProposeError::NotLeader { leader: Some(id) };
    assert_eq!(refused, Err(leader_of(leader)));
    assert_eq!(cluster.node(FOURTH).quorum(), None);

    cluster.kill(leader).await;
    cluster.write(vec![create(100)]).await;
    await_topic(&cluster, FOURTH, 100).await;
    await_leader(&cluster, FOURTH, cluster.leader().await).await;
    cluster.converge().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_vote_counts_for_nothing_and_doesnt_hold_up_the_voters() {
    let cluster = Cluster::with_observers(three_voters(), &[4], 42);
    cluster.start_all().await;
    cluster.converge().await;
    let leader = cluster.leader().await;
    let mut others = cluster.voters().iter().filter(|id| **id != leader);
    let (first, second) = (*others.next().unwrap(), *others.next().unwrap());
    cluster.kill(FOURTH).await;
    cluster.write(vec![create(1)]).await;
    cluster.start(FOURTH).await;
    await_topic(&cluster, FOURTH, 1).await;
    // One voter and one without a vote are no majority.
    cluster.kill(first).await;
    cluster.kill(second).await;
    let written = timeout(Duration::from_secs(3), cluster.write(vec![create(2)])).await;
    assert!(written.is_err(), "it was acknowledged by one voter");
    cluster.start(first).await;
    cluster.write(vec![create(3)]).await;
    await_topic(&cluster, FOURTH, 3).await;
    cluster.converge().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_tells_how_far_a_node_without_a_vote_is() {
    let cluster = Cluster::with_observers(three_voters(), &[4], 43);
    cluster.start_all().await;
    cluster.converge().await;
    let raft = cluster.node(cluster.leader().await);
    let told = async {
        loop {
            let quorum = raft.quorum().expect("it leads");
            let caught_up = quorum.observers.first().cloned().filter(|observer| {
                observer.log_end == Some(quorum.high_watermark)
                    && observer.caught_up_ms_ago.is_some()
            });
            match caught_up {
                Some(observer) => return (observer, quorum),
                None => sleep(Duration::from_millis(5)).await,
            }
        }
    };
    let (observer, quorum) = timeout(PATIENCE, told).await.expect("it is told");
    assert_eq!((observer.id, quorum.observers.len()), (FOURTH, 1));
    assert!(observer.directory.is_some() && observer.heard_ms_ago.is_some());
    assert!(quorum.voters.iter().all(|voter| voter.id != FOURTH));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_vote_that_can_reach_one_voter_only_follows_that_one() {
    let cluster = Cluster::with_observers(three_voters(), &[4], 44);
    cluster.start_all().await;
    cluster.converge().await;
    let leader = cluster.leader().await;
    let follower = cluster.voters().iter().find(|id| **id != leader);
    for voter in cluster.voters() {
        if Some(voter) != follower {
            cluster.cut(FOURTH, *voter);
            cluster.cut(*voter, FOURTH);
        }
    }
    cluster.write(vec![create(1)]).await;
    await_topic(&cluster, FOURTH, 1).await;
    await_leader(&cluster, FOURTH, leader).await;
    // And one that nobody leads is left for those whom somebody leads.
    cluster.heal();
    cluster.cut_off(*follower.unwrap());
    cluster.write(vec![create(2)]).await;
    await_topic(&cluster, FOURTH, 2).await;
    cluster.converge().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_without_a_vote_has_is_on_its_disk() {
    let cluster = Cluster::with_observers(three_voters(), &[4], 45);
    cluster.start_all().await;
    cluster.write(vec![create(1)]).await;
    let image = cluster.converge().await;
    for id in cluster.running() {
        cluster.kill(id).await;
    }
    cluster.start(FOURTH).await;
    assert_eq!(*cluster.node(FOURTH).image().borrow(), image);
    // One that has lost its disk is no stranger to anybody.
    cluster.kill(FOURTH).await;
    cluster.wipe(FOURTH);
    let image = cluster.converge().await;
    assert!(image.topic(topic(1)).is_some());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_vote_copies_what_was_cut_while_it_was_away() {
    let settings = RaftSettings {
        snapshot_every_bytes: 10_000,
        ..three_voters()
    };
    let cluster = Cluster::with_observers(settings, &[4], 46);
    cluster.start_all().await;
    cluster.converge().await;
    let end = cluster.node(FOURTH).storage().log().last().index;
    cluster.kill(FOURTH).await;
    cluster.fill(500).await;
    cluster.start(FOURTH).await;
    cluster.converge().await;
    let beginning = cluster.node(FOURTH).storage().log().beginning().index;
    assert!(beginning > end, "{beginning} isn't above {end}");
    // It goes on with entries, and with what it has on disk.
    cluster.fill(100).await;
    let image = cluster.converge().await;
    cluster.assert_bounded(FOURTH);
    for id in cluster.running() {
        cluster.kill(id).await;
    }
    cluster.start(FOURTH).await;
    assert_eq!(*cluster.node(FOURTH).image().borrow(), image);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_voter_is_followed_too() {
    let settings = RaftSettings {
        snapshot_every_bytes: 10_000,
        ..voters(1)
    };
    let cluster = Cluster::with_observers(settings, &[2, 3], 47);
    cluster.start_all().await;
    cluster.fill(100).await;
    cluster.converge().await;
    cluster.kill(BrokerId(1)).await;
    cluster.start(BrokerId(1)).await;
    cluster.fill(10).await;
    cluster.converge().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_vote_is_asked_nothing_and_says_so() {
    let cluster = Cluster::with_observers(three_voters(), &[4], 48);
    cluster.start_all().await;
    cluster.converge().await;
    let asked = crate::raft::RaftRpc(bytes::Bytes::from_static(b"anything"));
    let answer = cluster.node(FOURTH).handle(BrokerId(1), asked).await;
    assert!(
        matches!(answer, Err(crate::raft::RaftError::NoVote)),
        "{answer:?}"
    );
    cluster.stop().await;
}
