//! Leadership, announced with care.
//!
//! async-raft says "leader" before it has applied what earlier leaders committed. So a node that
//! has become leader first writes an entry without commands: once that is applied, so is
//! everything before it. Only then is the leadership announced. It is taken back as soon as no majority
//! has answered for a while: async-raft itself would lead on alone for ever.

use async_raft::raft::ClientWriteRequest;
use async_raft::{NodeId, State};
use tokio::sync::watch;
use tokio::time::{timeout, Duration};

use super::codec::LogBatch;
use super::guard::Quorum;
use super::handle::Core;
use super::storage::Storage;
use super::{Leadership, RaftSettings};
use crate::model::BrokerId;

/// After which the entry is written once more.
const BARRIER_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a leader looks after those who lag, by an entry: async-raft sends again only what comes new.
const NUDGE_INTERVAL: Duration = Duration::from_millis(300);

pub(super) struct Announcer<'a> {
    pub core: &'a Core,
    pub node: NodeId,
    pub quorum: &'a Quorum,
    pub storage: &'a Storage,
    pub settings: &'a RaftSettings,
    pub announced: &'a watch::Sender<Leadership>,
}

impl Announcer<'_> {
    /// Announces until async-raft has stopped.
    pub async fn announce(&self) {
        let mut metrics = self.core.metrics();
        loop {
            let (state, term, leader) = {
                let now = metrics.borrow_and_update();
                (now.state, now.current_term, now.current_leader)
            };
            if state == State::Leader {
                self.lead(term).await;
            } else {
                let other = leader.filter(|leader| *leader != self.node);
                self.say(Leadership::Follower {
                    leader: other.and_then(|id| i32::try_from(id).ok()).map(BrokerId),
                });
            }
            let changed = metrics.changed();
            let changed = match state == State::Leader && self.settings.voters.len() > 1 {
                true => timeout(NUDGE_INTERVAL, changed).await.unwrap_or(Ok(())),
                false => changed.await,
            };
            if changed.is_err() {
                return;
            }
        }
    }

    /// async-raft says that this node leads.
    async fn lead(&self, term: u64) {
        let leads = Leadership::Leader { term };
        let is_new = *self.announced.borrow() != leads;
        let lags = self.quorum.matched_by_all() < self.storage.log().last().index;
        let has_written = !(is_new || lags) || self.barrier().await;
        self.storage.may_cut_up_to(self.quorum.matched_by_all());
        let is_recent = self
            .quorum
            .is_recent(term, self.settings.election_timeout_min);
        match is_recent && (has_written || !is_new) {
            true => self.say(leads),
            false => self.say(Leadership::Follower { leader: None }),
        }
    }

    fn say(&self, next: Leadership) {
        self.announced
            .send_if_modified(|now| std::mem::replace(now, next) != next);
    }

    /// Whether an entry of our own was committed and applied.
    async fn barrier(&self) -> bool {
        let write = self
            .core
            .client_write(ClientWriteRequest::new(LogBatch::default()));
        matches!(timeout(BARRIER_TIMEOUT, write).await, Ok(Ok(_)))
    }
}
