//! A node that has no vote. It follows what the voters have committed, and keeps it on disk as they do: a snapshot,
//! and the entries after it.
//!
//! It asks one voter, again and again, for what comes after its own last entry, and is answered when there is
//! something, or after a while. All that it gets is committed, so nothing is ever taken back, and it goes on with
//! any other voter where it has stopped with one. What it proposes is refused with the leader's name, as it is by
//! a voter that doesn't lead.

use std::sync::Arc;
use std::time::Duration;

use async_raft::{NodeId, RaftStorage};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, Instant};

use super::copying::{fetch, Wanted};
use super::handle::{told_to_stop, Stop};
use super::log::LogPosition;
use super::network::Speaker;
use super::proposer::{refuse_all, Waiting};
use super::rpc::{broker_id, node_id, Follow, LogEntry, Reply, Request};
use super::server::{decline_all, Asked};
use super::sources::{Rest, Sources};
use super::storage::Storage;
use super::{Leadership, RaftError};

/// How often it is said that nobody answers.
const SAY_INTERVAL: Duration = Duration::from_secs(10);

pub(super) struct Observer {
    pub voters: Vec<NodeId>,
    pub following: Following,
    pub waiting: mpsc::Receiver<Waiting>,
    pub questions: mpsc::Receiver<Asked>,
    pub stopping: watch::Receiver<Stop>,
}

/// What it needs to follow.
pub(super) struct Following {
    pub speaker: Arc<Speaker>,
    pub storage: Arc<Storage>,
    /// How long a voter may wait for news, and how long nobody is asked after none has answered.
    pub heartbeat: Duration,
    pub announced: watch::Sender<Leadership>,
}

/// Why there is nothing new.
enum Failed {
    /// Another voter may do better.
    There(String),
    /// This node can't keep what it is given.
    Here(String),
}

impl Observer {
    /// Runs until it is told to stop, or can't go on.
    pub async fn run(mut self) {
        let storage = &self.following.storage;
        let leadership = self.following.announced.subscribe();
        tokio::select! {
            () = told_to_stop(self.stopping) => {}
            fault = self.following.run(Sources::new(self.voters)) => storage.report(&fault),
            () = refuse_all(&mut self.waiting, leadership) => {}
            () = decline_all(&mut self.questions) => {}
            () = storage.write_snapshots() => {}
        }
        self.following.announce(None);
    }
}

impl Following {
    /// Returns only with a fault.
    async fn run(&self, mut sources: Sources) -> String {
        let mut followed = None;
        let mut said: Option<Instant> = None;
        loop {
            let voter = sources.current();
            match self.ask(voter).await {
                Ok(leader) => {
                    if leader.is_some() && followed != Some(voter) {
                        log::info!("the metadata are followed from voter {voter}");
                        followed = Some(voter);
                    }
                    said = None;
                    self.announce(leader);
                    sources.answered(leader, Instant::now());
                }
                Err(Failed::There(why)) => {
                    if self.leader() == Some(voter) {
                        self.announce(None);
                    }
                    let is_last = sources.failed(Instant::now()) == Rest::Yes;
                    if is_last && said.is_none_or(|when| when.elapsed() >= SAY_INTERVAL) {
                        log::warn!("no voter lets the metadata be followed; voter {voter}: {why}");
                        said = Some(Instant::now());
                    }
                    if is_last {
                        followed = None;
                        self.announce(None);
                        sleep(self.heartbeat).await;
                    }
                }
                Err(Failed::Here(fault)) => return fault,
            }
        }
    }

    /// Takes what is new, and returns who leads.
    async fn ask(&self, voter: NodeId) -> Result<Option<NodeId>, Failed> {
        let after = self.storage.log().last();
        let request = Request::Follow(Follow {
            after,
            leader: self.leader(),
            wait_ms: u32::try_from(self.heartbeat.as_millis()).unwrap_or(u32::MAX),
        });
        let reply = self.speaker.call(voter, request).await;
        match reply.map_err(|error| Failed::There(error.to_string()))? {
            Reply::Followed(followed) => {
                self.take(after, &followed.entries).await?;
                Ok(followed.leader)
            }
            Reply::Cut => {
                self.copy(voter).await?;
                Ok(self.leader())
            }
            Reply::Differs => {
                let what = format!(
                    "voter {voter} has another entry {} than this node, of which both are committed",
                    after.index
                );
                match self.leader() == Some(voter) {
                    true => Err(Failed::Here(RaftError::Damaged(what).to_string())),
                    false => Err(Failed::There(what)),
                }
            }
            _ => Err(Failed::There("it can't tell just now".into())),
        }
    }

    /// Keeps entries, which are committed, and applies them.
    async fn take(&self, after: LogPosition, entries: &[LogEntry]) -> Result<(), Failed> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return Ok(());
        };
        if first.index != after.index + 1 || first.term < after.term {
            let what = format!("it sends entry {} after {}", first.index, after.index);
            return Err(Failed::There(what));
        }
        let kept = self.storage.replicate_to_log(entries).await;
        let applied = kept.and_then(|()| self.storage.apply_up_to(last.index));
        applied.map_err(|fault| Failed::Here(fault.to_string()))
    }

    /// Takes all of the state, because the entries that come next are cut.
    async fn copy(&self, voter: NodeId) -> Result<(), Failed> {
        let copy = fetch(&self.speaker, voter, Wanted::Committed).await;
        let copy = copy.map_err(|error| Failed::Here(error.to_string()))?;
        let copy = copy.filter(|copy| self.storage.lacks(copy.position));
        let copy = copy.ok_or_else(|| Failed::There("it has no copy to give".into()))?;
        log::info!(
            "the metadata up to entry {} are copied from voter {voter}",
            copy.position.index
        );
        let vote = self.storage.log().hard_state();
        let installed = self.storage.install(copy, vote).await;
        installed.map_err(|fault| Failed::Here(fault.to_string()))
    }

    fn leader(&self) -> Option<NodeId> {
        match *self.announced.borrow() {
            Leadership::Follower { leader } => leader.and_then(|leader| node_id(leader).ok()),
            Leadership::Leader { .. } => None,
        }
    }

    fn announce(&self, leader: Option<NodeId>) {
        let leader = leader.and_then(broker_id);
        let next = Leadership::Follower { leader };
        self.announced
            .send_if_modified(|now| std::mem::replace(now, next) != next);
    }
}
