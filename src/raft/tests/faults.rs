//! Faults of async-raft 0.6.1 that aren't the guard's: each is there without the rule against it. The table in
//! [`crate::raft::guard`] says where the others are tested.

use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_raft::raft::{AppendEntriesResponse, ConflictOpt, VoteResponse};
use async_trait::async_trait;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::cluster::{three_voters, Cluster, PATIENCE};
use super::voters::prepare_in;
use super::{create, entry};
use crate::model::{BrokerId, DirectoryId};
use crate::raft::codec::{decode, encode};
use crate::raft::rpc::{Answered, Append, Envelope, Reply, Request};
use crate::raft::{
    ProposeError, Raft, RaftReply, RaftRpc, RaftSettings, RaftTransport, RaftTransportError,
};
use crate::storage::meta::MetaStore;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn voters_that_all_restart_elect_a_leader_at_once_and_not_after_half_a_minute() {
    let cluster = Cluster::started(three_voters(), 61).await;
    cluster.converge().await;
    for id in cluster.running() {
        cluster.kill(id).await;
    }
    let begin = Instant::now();
    cluster.start_all().await;
    cluster.leader().await;
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_alone_knows_nothing_to_be_the_latest() {
    let cluster = Cluster::started(three_voters(), 62).await;
    cluster.converge().await;
    let leader = cluster.leader().await;
    cluster.cut_off(leader);
    // async-raft's `client_read` counts one answer too few: with three voters its own is enough.
    let answer = cluster.node(leader).barrier().await;
    let is_refused = matches!(
        answer,
        Err(ProposeError::Unknown | ProposeError::NotLeader { .. })
    );
    assert!(is_refused, "{answer:?}");
    cluster.converge().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_while_an_entry_is_applied_stops_the_node_and_no_other() {
    let cluster = Cluster::started(three_voters(), 63).await;
    cluster.converge().await;
    let leader = cluster.leader().await;
    let broken = *cluster.voters().iter().find(|id| **id != leader).unwrap();
    let raft = cluster.node(broken);
    let (storage, before) = (raft.storage(), raft.image().borrow().clone());
    let next = storage.log().last().index + 1;
    storage.state().panics_at.store(next, Ordering::Relaxed);
    drop(storage);
    cluster.write(vec![create(1)]).await;
    let fault = timeout(PATIENCE, raft.fault()).await;
    let fault = fault.expect("it is told");
    assert!(fault.contains("it panics"), "{fault}");
    assert_eq!(*raft.image().borrow(), before, "half of it is seen");
    cluster.write(vec![create(2)]).await;
    // What is on its disk is whole.
    cluster.kill(broken).await;
    cluster.converge().await;
    cluster.stop().await;
}

/// Voter 2 of three as its leader sees it: it gives its vote, lacks most of the log, and takes its time.
struct Lagging {
    directory: DirectoryId,
    /// The last entry that it has.
    last: watch::Sender<u64>,
}

impl Lagging {
    fn append(&self, request: &Append) -> AppendEntriesResponse {
        let last = *self.last.borrow();
        let fits = request.prev_log_index <= last;
        if let Some(entry) = request.entries.last().filter(|_| fits) {
            self.last.send_replace(last.max(entry.index));
        }
        AppendEntriesResponse {
            term: request.term,
            success: fits,
            conflict_opt: (!fits).then_some(ConflictOpt {
                term: 1,
                index: last,
            }),
        }
    }
}

#[async_trait]
impl RaftTransport for Lagging {
    async fn call(&self, voter: BrokerId, rpc: RaftRpc) -> Result<RaftReply, RaftTransportError> {
        let envelope: Envelope = decode("a message", &rpc.0).unwrap();
        let reply = match envelope.message {
            Request::Vote(request) if voter == BrokerId(2) => Reply::Voted(VoteResponse {
                term: request.term,
                vote_granted: true,
            }),
            Request::Append { request, .. } if voter == BrokerId(2) => {
                sleep(Duration::from_millis(30)).await;
                Reply::Appended(self.append(&request))
            }
            _ => {
                let reason = "it is dead".into();
                return Err(RaftTransportError { voter, reason });
            }
        };
        let answered = Answered {
            directory: self.directory,
            reply,
        };
        Ok(RaftReply(encode(&answered).unwrap().into()))
    }
}

/// While a follower catches up, async-raft drops what is new, and remembers it only with the next write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_has_caught_up_gets_what_is_new_without_another_write() {
    const OLD: u64 = 400;
    let dir = TempDir::new().unwrap();
    prepare_in(dir.path(), &[(1, OLD as usize)], 1).await;
    let lagging = Arc::new(Lagging {
        directory: DirectoryId::random(),
        last: watch::Sender::new(100),
    });
    let mut last = lagging.last.subscribe();
    let settings = RaftSettings::new(BrokerId(1), three_voters().voters);
    let store = MetaStore::open(dir.path()).unwrap();
    let raft = Raft::start(settings, store, lagging).unwrap();
    // The third one has led until now, and tells that all is committed.
    let told = Envelope {
        from: 3,
        directory: DirectoryId::random(),
        message: Request::Append {
            request: Append {
                term: 1,
                leader_id: 3,
                prev_log_index: OLD,
                prev_log_term: 1,
                entries: vec![entry(OLD + 1, 1, OLD + 1, &[create(1)])],
                leader_commit: OLD + 1,
            },
            trim_to: 0,
            log_start: 0,
        },
    };
    let told = RaftRpc(encode(&told).unwrap().into());
    raft.handle(BrokerId(3), told).await.unwrap();
    let has = |index: u64| move |last: &u64| *last >= index;
    let caught_up = timeout(PATIENCE, last.wait_for(has(OLD + 1))).await;
    caught_up.expect("it catches up").unwrap();
    // The entry of the new leader. Its second attempt at one of ours would come after two seconds.
    let has_new = timeout(Duration::from_millis(1_300), last.wait_for(has(OLD + 2)));
    has_new.await.expect("it gets what is new").unwrap();
    raft.shutdown().await;
}
