//! What this voter gives to those who don't learn it from a leader's messages: to nodes without a vote the entries
//! that are committed, and all of the state to whoever lacks too much for that.
//!
//! Each question is a task of its own: it may wait for news, and nothing has to stand still meanwhile, since
//! what is committed never changes. An answer also tells who leads, so that a node without a vote knows to whom
//! it forwards what it is asked.

use std::sync::Arc;
use std::time::Duration;

use async_raft::{NodeId, RaftStorage};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, Instant};

use super::copying::{Copies, Wanted};
use super::directory::Directory;
use super::log::LogPosition;
use super::observers::Observers;
use super::rpc::{node_id, Envelope, Follow, Followed, Reply, Request};
use super::server::reply_bytes;
use super::storage::Storage;
use super::{Leadership, RaftError, RaftReply};

/// How many questions are answered at a time. Each node has one or two on the way.
const AT_WORK_MAX: usize = 256;
/// How long anybody may wait for news.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// How many entries, and how many bytes of them, go into one answer, unless one entry alone has more.
const ENTRIES_MAX: u64 = 256;
const ENTRIES_BYTES_MAX: u64 = 1 << 20;

/// What the answers come from.
#[derive(Clone)]
pub(super) struct Source {
    pub id: NodeId,
    pub storage: Arc<Storage>,
    pub directory: Arc<Directory>,
    pub leadership: watch::Receiver<Leadership>,
    pub observers: Arc<Observers>,
    pub copies: Arc<Copies>,
}

/// The questions that are being answered. Dropped with it, they are answered no more.
pub(super) struct Feed {
    source: Source,
    at_work: JoinSet<()>,
}

impl Feed {
    pub fn new(source: Source) -> Feed {
        Feed {
            source,
            at_work: JoinSet::new(),
        }
    }

    /// Whether the question is one of those.
    pub fn serves(request: &Request) -> bool {
        matches!(
            request,
            Request::Follow(_) | Request::Copy(_) | Request::State(_)
        )
    }

    pub fn serve(
        &mut self,
        envelope: Envelope,
        answer: oneshot::Sender<Result<RaftReply, RaftError>>,
    ) {
        while self.at_work.try_join_next().is_some() {}
        if self.at_work.len() >= AT_WORK_MAX {
            // Who asked may have given up.
            let _ = answer.send(Err(RaftError::Busy));
            return;
        }
        let source = self.source.clone();
        self.at_work.spawn(async move {
            let reply = source.answer(envelope).await;
            let reply = reply.map_err(|_| RaftError::Stopped);
            let _ = answer.send(reply.and_then(|reply| reply_bytes(&source.directory, reply)));
        });
    }
}

impl Source {
    async fn answer(&self, envelope: Envelope) -> anyhow::Result<Reply> {
        match envelope.message {
            Request::Follow(follow) => {
                let committed = self.storage.state().applied();
                let (from, directory) = (envelope.from, envelope.directory);
                self.observers.note(
                    from,
                    directory,
                    follow.after.index,
                    committed,
                    Instant::now(),
                );
                self.await_news(&follow).await;
                self.news(follow.after).await
            }
            Request::State(part) => self.copies.part(part, Wanted::Committed).await,
            Request::Copy(part) if self.leads() => self.copies.part(part, Wanted::Latest).await,
            _ => Ok(Reply::NotNow),
        }
    }

    fn leads(&self) -> bool {
        matches!(*self.leadership.borrow(), Leadership::Leader { .. })
    }

    fn leader(&self) -> Option<NodeId> {
        match *self.leadership.borrow() {
            Leadership::Leader { .. } => Some(self.id),
            Leadership::Follower { leader } => leader.and_then(|leader| node_id(leader).ok()),
        }
    }

    /// Until there is something that the node doesn't know, or its time is over.
    async fn await_news(&self, follow: &Follow) {
        let (mut images, mut leadership) = (self.storage.state().images(), self.leadership.clone());
        leadership.mark_unchanged();
        let is_behind = self.storage.state().applied() > follow.after.index;
        if is_behind || self.leader() != follow.leader {
            return;
        }
        let wait = Duration::from_millis(follow.wait_ms.into()).min(WAIT_MAX);
        tokio::select! {
            _ = images.changed() => {}
            _ = leadership.changed() => {}
            () = sleep(wait) => {}
        }
    }

    /// What is committed after a position.
    async fn news(&self, after: LogPosition) -> anyhow::Result<Reply> {
        let log = self.storage.log();
        let committed = self.storage.state().applied();
        if after.index < log.beginning().index {
            return Ok(Reply::Cut);
        }
        let mut entries = Vec::new();
        if after.index <= committed {
            if log.term(after.index) != Some(after.term) {
                return Ok(Reply::Differs);
            }
            let stop = committed.min(after.index + ENTRIES_MAX) + 1;
            let stop = log.fitting(after.index + 1, stop, ENTRIES_BYTES_MAX);
            entries = self.storage.get_log_entries(after.index + 1, stop).await?;
        }
        Ok(Reply::Followed(Followed {
            entries,
            leader: self.leader(),
        }))
    }
}
