//! What three voters owe, one case at a time.

use std::path::Path;
use std::time::{Duration, Instant};

use async_raft::storage::HardState;
use async_raft::RaftStorage;
use bytes::Bytes;
use tokio::time::{sleep, timeout};

use super::chaos::number_of;
use super::cluster::{three_voters, Cluster, PATIENCE};
use super::{create, entry};
use crate::engine::metadata::METADATA_VERSION;
use crate::model::{BrokerId, TopicId};
use crate::raft::rpc::{Part, Request};
use crate::raft::storage::Storage;
use crate::raft::{
    Leadership, ProposeError, Quorum, QuorumReplica, Raft, RaftError, RaftRpc, RaftSettings,
};
use crate::storage::meta::MetaStore;

pub(super) fn topic(number: u128) -> TopicId {
    TopicId(uuid::Uuid::from_u128(number + 1))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_is_on_all_voters_and_survives_a_restart_of_all_at_once() {
    let cluster = Cluster::started(three_voters(), 1).await;
    for round in 0..3u128 {
        for number in 0..20 {
            cluster.write(vec![create(round * 100 + number)]).await;
        }
        for id in cluster.running() {
            cluster.kill(id).await;
        }
        cluster.start_all().await;
        let image = cluster.converge().await;
        for number in (0..=round).flat_map(|r| (0..20).map(move |n| r * 100 + n)) {
            assert!(image.topic(topic(number)).is_some(), "{number} is lost");
        }
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_leader_takes_proposals_and_the_others_know_it() {
    let cluster = Cluster::started(three_voters(), 2).await;
    let leader = cluster.leader().await;
    cluster.converge().await;
    for id in cluster.running().into_iter().filter(|id| *id != leader) {
        let raft = cluster.node(id);
        let follows = Leadership::Follower {
            leader: Some(leader),
        };
        let mut leadership = raft.leadership();
        let known = leadership.wait_for(|now| *now == follows);
        timeout(PATIENCE, known).await.unwrap().unwrap();
        let refused = raft.propose(vec![create(1)]).await;
        let leader = Some(leader);
        assert_eq!(refused, Err(ProposeError::NotLeader { leader }));
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_says_so_and_what_it_was_asked_is_unknown() {
    let cluster = Cluster::started(three_voters(), 3).await;
    cluster.converge().await;
    let old = cluster.leader().await;
    let raft = cluster.node(old);
    cluster.cut_off(old);
    let begin = Instant::now();
    let answer = raft.propose(vec![create(1)]).await;
    assert_eq!(answer, Err(ProposeError::Unknown));
    assert!(
        begin.elapsed() < Duration::from_secs(3),
        "{:?}",
        begin.elapsed()
    );
    let nobody = Leadership::Follower { leader: None };
    assert_eq!(*raft.leadership().borrow(), nobody);
    cluster.write(vec![create(2)]).await;
    let new = cluster.leader().await;
    assert_ne!(new, old);
    let image = cluster.converge().await;
    assert!(image.topic(topic(2)).is_some());
    cluster.stop().await;
}

/// What a voter has on disk before it starts: entries of these terms, and its own term.
pub(super) async fn prepare(cluster: &Cluster, id: BrokerId, terms: &[(u64, usize)], own: u64) {
    prepare_in(&cluster.dir(id), terms, own).await;
}

pub(super) async fn prepare_in(dir: &Path, terms: &[(u64, usize)], own: u64) {
    let store = MetaStore::open(dir).unwrap();
    let voters = [1, 2, 3].into();
    let storage = Storage::open(&store, voters, 1 << 20, METADATA_VERSION).unwrap();
    let terms = terms
        .iter()
        .flat_map(|(term, count)| std::iter::repeat_n(*term, *count));
    let entries: Vec<_> = (1..)
        .zip(terms)
        .map(|(index, term)| {
            let number = u128::from(term) * 1_000 + u128::from(index);
            entry(index, term, index, &[create(number)])
        })
        .collect();
    storage.replicate_to_log(&entries).await.unwrap();
    let hard_state = HardState {
        current_term: own,
        voted_for: None,
    };
    storage.save_hard_state(&hard_state).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_three_elect_a_leader_though_the_shorter_log_is_the_later_one() {
    let cluster = Cluster::new(three_voters(), 4);
    prepare(&cluster, BrokerId(1), &[(1, 25)], 1).await;
    prepare(&cluster, BrokerId(2), &[(1, 10), (2, 10)], 2).await;
    cluster.start(BrokerId(1)).await;
    cluster.start(BrokerId(2)).await;
    assert_eq!(cluster.leader().await, BrokerId(2));
    let image = cluster.write(vec![create(1)]).await;
    assert!(image.topic(topic(2_020)).is_some() && image.topic(topic(1_011)).is_none());
    cluster.converge().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_with_other_entries_gets_the_leaders_and_counts_for_nothing_before() {
    let cluster = Cluster::new(three_voters(), 5);
    prepare(&cluster, BrokerId(1), &[(1, 25)], 1).await;
    for id in [2, 3] {
        prepare(&cluster, BrokerId(id), &[(1, 10), (2, 10)], 2).await;
    }
    cluster.start(BrokerId(2)).await;
    cluster.start(BrokerId(3)).await;
    let leader = cluster.leader().await;
    let other = BrokerId(5 - leader.0);
    // From now on the leader has nobody but the voter whose log differs.
    cluster.kill(other).await;
    cluster.start(BrokerId(1)).await;
    for number in 0..10 {
        cluster.write(vec![create(number)]).await;
    }
    // What it has acknowledged together with the leader is enough for the third.
    cluster.kill(leader).await;
    cluster.start(other).await;
    let image = cluster.converge().await;
    for number in 0..10 {
        assert!(image.topic(topic(number)).is_some(), "{number} is lost");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_is_down_costs_a_few_messages_a_second() {
    let cluster = Cluster::started(three_voters(), 7).await;
    cluster.converge().await;
    let down = cluster
        .running()
        .into_iter()
        .find(|id| !cluster.leaders().contains(id));
    cluster.kill(down.unwrap()).await;
    cluster.write(vec![create(1)]).await;
    let before = cluster
        .net
        .messages
        .load(std::sync::atomic::Ordering::Relaxed);
    let begin = Instant::now();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let sent = cluster
        .net
        .messages
        .load(std::sync::atomic::Ordering::Relaxed)
        - before;
    let a_second = sent as f64 / begin.elapsed().as_secs_f64();
    assert!(a_second < 60.0, "{a_second} messages a second");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_message_of_a_voter_is_refused() {
    let cluster = Cluster::started(three_voters(), 8).await;
    cluster.converge().await;
    let raft = cluster.node(BrokerId(1));
    let enveloped = |from: u64, message: Request| {
        let envelope = crate::raft::rpc::Envelope {
            from,
            directory: crate::model::DirectoryId::random(),
            message,
        };
        Bytes::from(crate::raft::codec::encode(&envelope).unwrap())
    };
    let forged = |from: u64, candidate: u64| {
        let vote = async_raft::raft::VoteRequest::new(99, candidate, 99, 99);
        enveloped(from, Request::Vote(vote))
    };
    let part = Part {
        offset: u64::MAX,
        of: None,
    };
    let messages = [
        (2, Bytes::from_static(b"")),
        (
            2,
            Bytes::from_static(b"\x82\xa4from\x02\xa7message\xdf\xff\xff\xff\xff"),
        ),
        (1, forged(1, 1)),
        (9, forged(9, 9)),
        (2, forged(2, 3)),
        // Another node than the one at the other end of the link.
        (3, forged(2, 2)),
        (9, enveloped(8, Request::State(part))),
        // Nobody but a voter takes a voter's place, or forms a cluster.
        (9, enveloped(9, Request::Copy(part))),
        (9, enveloped(9, Request::Greet)),
    ];
    for (from, message) in messages {
        let refused = raft.handle(BrokerId(from), RaftRpc(message.clone())).await;
        assert!(
            matches!(refused, Err(RaftError::BadMessage(_))),
            "{message:?}: {refused:?}"
        );
    }
    cluster.stop().await;
    let stopped = raft.handle(BrokerId(2), RaftRpc(forged(2, 2))).await;
    assert!(matches!(stopped, Err(RaftError::Stopped)), "{stopped:?}");
}

/// `KLAMM_ROUNDS=60 cargo test --release raft::tests::voters::measure -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it measures"]
async fn measure_the_time_from_the_leaders_end_to_the_next_write() {
    let millis = Duration::from_millis;
    let rounds = number_of("KLAMM_ROUNDS").unwrap_or(20);
    for (heartbeat, min, max) in [(100, 300, 600), (75, 250, 500), (50, 200, 400)] {
        let settings = RaftSettings {
            heartbeat: millis(heartbeat),
            election_timeout_min: millis(min),
            election_timeout_max: millis(max),
            ..three_voters()
        };
        let cluster = Cluster::started(settings, 9).await;
        let mut taken = Vec::new();
        for round in 0..rounds {
            cluster.converge().await;
            let leader = cluster.leader().await;
            let begin = Instant::now();
            cluster.kill(leader).await;
            cluster.write(vec![create(round.into())]).await;
            taken.push(begin.elapsed());
            cluster.start(leader).await;
        }
        cluster.stop().await;
        taken.sort_unstable();
        let at = |percent: usize| taken[(taken.len() - 1) * percent / 100];
        println!(
            "{heartbeat} / {min}-{max} ms: median {:?}, p90 {:?}, longest {:?}",
            at(50),
            at(90),
            at(100)
        );
    }
}

/// Until the leader says of its voters what is waited for.
async fn await_quorum(raft: &Raft, what: &str, is_so: impl Fn(&Quorum) -> bool) -> Quorum {
    let waited = async {
        loop {
            match raft.quorum().filter(&is_so) {
                Some(quorum) => return quorum,
                None => sleep(Duration::from_millis(5)).await,
            }
        }
    };
    let waited = timeout(PATIENCE, waited).await;
    waited.unwrap_or_else(|_| panic!("{what}: {:?}", raft.quorum()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_knows_how_far_each_voter_is_and_since_when_one_lags() {
    let cluster = Cluster::started(three_voters(), 21).await;
    cluster.write(vec![create(1)]).await;
    let leader = cluster.leader().await;
    let raft = cluster.node(leader);
    let all_caught_up = |quorum: &Quorum| {
        let is_there = |voter: &QuorumReplica| {
            let is_heard = voter.heard_ms_ago.is_some() && voter.caught_up_ms_ago.is_some();
            voter.log_end == Some(quorum.high_watermark) && is_heard && voter.directory.is_some()
        };
        quorum.voters.iter().all(is_there)
    };
    let quorum = await_quorum(&raft, "all have all", all_caught_up).await;
    assert_eq!(quorum.leader, leader);
    let ids: Vec<BrokerId> = quorum.voters.iter().map(|voter| voter.id).collect();
    assert_eq!(ids, cluster.voters());
    let other = *ids.iter().find(|id| **id != leader).unwrap();
    assert_eq!(cluster.node(other).quorum(), None, "it doesn't lead");

    cluster.cut_off(other);
    for number in 2..12 {
        cluster.write(vec![create(number)]).await;
    }
    let of_other = |quorum: &Quorum| quorum.voters.iter().find(|v| v.id == other).cloned();
    let lags = |quorum: &Quorum| {
        of_other(quorum).is_some_and(|voter| {
            let is_behind = voter.log_end < Some(quorum.high_watermark);
            is_behind && voter.heard_ms_ago > Some(300) && voter.caught_up_ms_ago > Some(300)
        })
    };
    await_quorum(&raft, "one lags", lags).await;
    cluster.stop().await;
}
