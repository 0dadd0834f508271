//! A voter's life: it joins, and takes part. Now and then async-raft is stopped for a moment and started again,
//! on a state that was copied from the leader.

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;

use async_raft::{Config, NodeId};
use tokio::sync::{mpsc, watch};

use super::catch_up::missing_state;
use super::copying::{Copies, StateCopy};
use super::directory::Directory;
use super::feed::{Feed, Source};
use super::followers::Followers;
use super::forming::Forming;
use super::handle::{told_to_stop, Core, Stop};
use super::leadership::{self, Announcer};
use super::network::{Network, Speaker};
use super::observers::Observers;
use super::proposer::{Proposer, Waiting};
use super::rpc::Append;
use super::server::{Asked, Server};
use super::storage::Storage;
use super::{Leadership, RaftSettings};

/// What lives on Raft's own thread.
pub(super) struct Voter {
    pub id: NodeId,
    /// The voters but this one.
    pub others: HashSet<NodeId>,
    pub settings: RaftSettings,
    pub config: Arc<Config>,
    pub speaker: Arc<Speaker>,
    pub network: Arc<Network>,
    pub directory: Arc<Directory>,
    pub storage: Arc<Storage>,
    pub followers: Arc<Followers>,
    pub observers: Arc<Observers>,
    pub waiting: mpsc::Receiver<Waiting>,
    pub questions: mpsc::Receiver<Asked>,
    pub announced: watch::Sender<Leadership>,
    pub stopping: watch::Receiver<Stop>,
}

/// Why async-raft is stopped.
enum Ended {
    /// For good.
    Stopped,
    /// To go on with this.
    Copied(Box<StateCopy>),
}

impl Voter {
    /// Runs until it is told to stop, or can't go on.
    pub async fn run(mut self) {
        let stop = told_to_stop(self.stopping.clone());
        tokio::pin!(stop);
        if !self.directory.has_joined() {
            let forming = Forming {
                speaker: &self.speaker,
                others: &self.others,
                directory: &self.directory,
                storage: &self.storage,
                patience: self.settings.election_timeout_min,
                heartbeat: self.settings.heartbeat,
            };
            tokio::select! {
                () = &mut stop => return,
                joined = forming.run(&mut self.questions) => if let Err(error) = joined {
                    return self.storage.report(&error.to_string());
                },
            }
        }
        loop {
            let (config, network) = (self.config.clone(), self.network.clone());
            let core = Core::new(self.id, config, network, self.storage.clone());
            begin(&core, self.id, &self.others, &self.storage).await;
            let ended = self.take_part(&core, &mut stop).await;
            let nobody = Leadership::Follower { leader: None };
            self.announced.send_replace(nobody);
            if let Err(error) = core.shutdown().await {
                log::error!("async-raft didn't stop as it should: {error}");
            }
            let goes_on = match ended {
                Ended::Copied(copy) => self.install(*copy).await,
                Ended::Stopped => false,
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Runs with async-raft.
    async fn take_part(&mut self, core: &Core, stop: impl Future<Output = ()>) -> Ended {
        let (behind, is_behind) = watch::channel(None);
        let proposer = Proposer {
            core: core.clone(),
            node: self.settings.node,
            waiting: &mut self.waiting,
            leadership: self.announced.subscribe(),
            images: self.storage.state().images(),
        };
        let server = Server {
            core: core.clone(),
            storage: self.storage.clone(),
            directory: self.directory.clone(),
            feed: Feed::new(Source {
                id: self.id,
                storage: self.storage.clone(),
                directory: self.directory.clone(),
                leadership: self.announced.subscribe(),
                observers: self.observers.clone(),
                copies: Arc::new(Copies::new(self.storage.clone())),
            }),
            others: &self.others,
            asked: &mut self.questions,
            behind: &behind,
        };
        let announcer = Announcer {
            core: core.clone(),
            id: self.id,
            followers: self.followers.clone(),
            patience: self.settings.election_timeout_max,
            heartbeat: self.settings.heartbeat,
            announced: &self.announced,
        };
        tokio::select! {
            () = stop => {}
            () = proposer.run() => {}
            () = server.run() => {}
            () = announcer.run() => self.storage.report("async-raft has stopped by itself"),
            () = leadership::repair(core, &self.followers, &self.storage) => {}
            () = self.storage.write_snapshots() => {}
            missing = missing_state(&self.speaker, &self.storage, is_behind) => match missing {
                Ok(copy) => return Ended::Copied(Box::new(copy)),
                Err(error) => self.storage.report(&error.to_string()),
            },
        }
        Ended::Stopped
    }

    /// Goes on with a copy, unless what it has has come meanwhile. Returns whether there is no fault.
    async fn install(&self, copy: StateCopy) -> bool {
        let position = copy.position;
        if !self.storage.lacks(position) {
            return true;
        }
        log::info!(
            "this voter was away for long: it goes on with the metadata up to entry {}, copied from another one",
            position.index
        );
        let hard_state = self.storage.log().hard_state();
        self.storage.install(copy, hard_state).await.is_ok()
    }
}

/// Makes async-raft take part.
async fn begin(core: &Core, id: NodeId, others: &HashSet<NodeId>, storage: &Storage) {
    if !others.is_empty() {
        // It would wait for half a minute before its first election, but not after it has heard a
        // leader. So it hears one, who says nothing.
        let nothing = Append {
            term: storage.log().hard_state().current_term,
            leader_id: id,
            prev_log_index: 0,
            prev_log_term: 0,
            entries: Vec::new(),
            leader_commit: 0,
        };
        if let Err(error) = core.append_entries(nothing).await {
            storage.report(&format!("Raft can't be started: {error}"));
        }
    } else if storage.is_pristine() {
        // A single voter without a log waits to be told that it is one.
        if let Err(error) = core.initialize(HashSet::from([id])).await {
            storage.report(&format!("Raft can't be initialised: {error}"));
        }
    }
}
