//! Leadership, announced with care.
//!
//! async-raft says "leader" before it has applied what earlier leaders committed. So a node that
//! has become leader first writes an entry without commands: once that is applied, so is
//! everything before it. Only then is the leadership announced. And async-raft goes on saying
//! "leader" when all others are gone, so it is taken back when no majority answers any more.

use std::sync::Arc;

use async_raft::raft::ClientWriteRequest;
use async_raft::{NodeId, State};
use tokio::sync::watch;
use tokio::time::{interval, sleep, timeout, Duration, Instant, MissedTickBehavior};

use super::codec::LogBatch;
use super::followers::Followers;
use super::handle::Core;
use super::rpc::broker_id;
use super::storage::Storage;
use super::Leadership;

/// After which the entry is written once more.
const BARRIER_TIMEOUT: Duration = Duration::from_secs(2);
/// How often entries are brought to followers that may lack some.
const REPAIR_INTERVAL: Duration = Duration::from_millis(300);
/// Who wasn't heard for so long gets nothing.
const HEARD_LATELY: Duration = Duration::from_secs(2);

/// What the announcements go by.
pub(super) struct Announcer<'a> {
    pub core: Core,
    pub id: NodeId,
    pub followers: Arc<Followers>,
    /// For how long the answers of a majority count.
    pub patience: Duration,
    pub heartbeat: Duration,
    pub announced: &'a watch::Sender<Leadership>,
}

impl Announcer<'_> {
    /// Announces until async-raft has stopped.
    pub async fn run(&self) {
        let mut metrics = self.core.metrics();
        loop {
            let (state, term, leader) = {
                let now = metrics.borrow_and_update();
                (now.state, now.current_term, now.current_leader)
            };
            if state != State::Leader {
                // async-raft may name ourselves while we follow.
                let other = leader.filter(|leader| *leader != self.id);
                let leader = other.and_then(broker_id);
                self.announce(Leadership::Follower { leader });
            } else if !self.is_announced(term) {
                self.announce(Leadership::Follower { leader: None });
                if self.barrier().await && self.has_majority(term) {
                    // It may have lost it meanwhile: looked at again at once.
                    if metrics.borrow().current_term == term {
                        self.announce(Leadership::Leader { term });
                    }
                }
            } else if !self.has_majority(term) {
                log::warn!("no majority of the voters answers: this node leads no more");
                self.announce(Leadership::Follower { leader: None });
            }
            tokio::select! {
                changed = metrics.changed() => if changed.is_err() {
                    return;
                },
                () = sleep(self.heartbeat), if state == State::Leader => {}
            }
        }
    }

    fn is_announced(&self, term: u64) -> bool {
        *self.announced.borrow() == (Leadership::Leader { term })
    }

    fn announce(&self, next: Leadership) {
        self.announced
            .send_if_modified(|now| std::mem::replace(now, next) != next);
    }

    fn has_majority(&self, term: u64) -> bool {
        let now = Instant::now();
        let since = now.checked_sub(self.patience).unwrap_or(now);
        self.followers.majority_since(term, since)
    }

    /// Whether an entry of our own was committed and applied.
    async fn barrier(&self) -> bool {
        let write = write_nothing(&self.core);
        matches!(timeout(BARRIER_TIMEOUT, write).await, Ok(true))
    }
}

async fn write_nothing(core: &Core) -> bool {
    let write = core.client_write(ClientWriteRequest::new(LogBatch::default()));
    write.await.is_ok()
}

/// While this node leads, brings its log to followers that may lack some of it. After a follower
/// has caught up, async-raft sends what isn't committed yet only together with a new entry.
pub(super) async fn repair(core: &Core, followers: &Followers, storage: &Storage) {
    let metrics = core.metrics();
    let mut ticks = interval(REPAIR_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (state, term) = {
            let now = metrics.borrow();
            (now.state, now.current_term)
        };
        let now = Instant::now();
        let since = now.checked_sub(HEARD_LATELY).unwrap_or(now);
        let last = storage.log().last().index;
        if state == State::Leader && followers.lag(term, last, since) {
            let write = write_nothing(core);
            // It goes on by itself; this only keeps them from piling up.
            let _ = timeout(REPAIR_INTERVAL, write).await;
        }
    }
}
