//! A consumer that shares the partitions of some topics with the other members of its group, by Kafka's classic
//! group protocol, so that members may be of any library.
//!
//! A task of its own keeps the membership: it joins, sends heartbeats, assigns if the member leads, and commits in
//! between. What it does when is decided by a state machine without I/O ([`membership`]). The application's
//! partitions change only while it polls: the task puts what happens on a [`desk`], and a poll takes notice of it
//! before it hands out the next record. So nothing of a partition is handed out after its revocation, and what was
//! handed out before is committed before another member reads on.

mod assignor;
mod commits;
mod config;
mod desk;
mod membership;
mod task;
mod voice;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

pub use assignor::Assignor;
pub use config::{Commits, GroupConfig, RebalanceListener};

use super::state::{Handed, State};
use super::{OffsetReset, Shared, TopicPartition};
use crate::client::coordinator::Coordinator;
use crate::client::groups::GroupOffsets;
use crate::client::ClientError;
use crate::model::Offset;
use commits::{Committer, Offsets};
use config::{Deaf, Listener};
use desk::{Desk, GivenUp, Poll};
use membership::{Event, Identity};

/// How long a consumer that ends tries to commit at most.
const LAST_COMMIT_TIMEOUT: Duration = Duration::from_secs(10);

/// The application's side of a membership. Dropped, it leaves the group, and commits nothing more.
#[derive(Debug)]
pub(super) struct Group {
    config: Arc<GroupConfig>,
    desk: Arc<Desk>,
    committer: Arc<Committer>,
    listener: Listener,
    task: Option<JoinHandle<()>>,
}

impl Drop for Group {
    fn drop(&mut self) {
        self.desk.end();
    }
}

impl Group {
    /// Begins to be a member.
    pub(super) fn join(
        shared: &Arc<Shared>,
        topics: BTreeSet<Arc<str>>,
        config: GroupConfig,
        listener: Option<Box<dyn RebalanceListener>>,
    ) -> Result<Group, ClientError> {
        if topics.is_empty() {
            return Err(ClientError::Invalid("a group reads some topics".into()));
        }
        let config = Arc::new(config.checked()?);
        let desk = Arc::new(Desk::new());
        let coordinator = Coordinator::new(shared.client.clone(), &config.group_id);
        let committer = Arc::new(Committer::new(
            shared.clone(),
            desk.clone(),
            Arc::new(coordinator),
            config.clone(),
        ));
        let task = tokio::spawn(task::run(committer.clone(), topics));
        Ok(Group {
            config,
            desk,
            committer,
            listener: Listener(Mutex::new(listener.unwrap_or(Box::new(Deaf)))),
            task: Some(task),
        })
    }

    /// The application polls as long as the answer is there.
    pub(super) fn poll(&self) -> Poll {
        self.desk.poll()
    }

    /// Takes notice of all that has happened.
    pub(super) fn serve(&mut self, shared: &Shared) -> Result<(), ClientError> {
        while let Some(event) = self.desk.next_event() {
            match event {
                Event::Joined(Identity {
                    member_id,
                    generation,
                }) => self.listener().on_joined(&member_id, generation),
                Event::Assigned(partitions) => self.take(shared, partitions),
                Event::Revoked(turn, partitions) => {
                    let offsets = self.give_up(shared, partitions);
                    self.desk.give_up(GivenUp { turn, offsets });
                }
                Event::Lost(partitions) => {
                    let lost = remove(shared, partitions);
                    if !lost.is_empty() {
                        self.listener().on_lost(&lost);
                    }
                }
                Event::Failed(error) => return Err(error),
            }
        }
        match self.desk.refusal() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn listener(&mut self) -> &mut dyn RebalanceListener {
        let listener = self.listener.0.get_mut();
        &mut **listener.unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads these, each from where the listener says or the group has come to.
    fn take(&mut self, shared: &Shared, partitions: BTreeMap<TopicPartition, Option<Offset>>) {
        let keys: Vec<TopicPartition> = partitions.keys().cloned().collect();
        let elsewhere = self.listener().on_assigned(&keys);
        let mut state = shared.state();
        for (key, committed) in partitions {
            match (elsewhere.get(&key), committed) {
                (Some(from), _) => state.place(key, *from),
                (None, Some(from)) => state.place_committed(key, from),
                (None, None) if shared.config.offset_reset == OffsetReset::Error => {
                    let error = ClientError::NoCommittedOffset {
                        group: self.config.group_id.clone(),
                        topic: key.0.to_string(),
                        partition: key.1,
                    };
                    state.place_halted(key, error);
                }
                (None, None) => state.place_somewhere(key),
            }
        }
        drop(state);
        shared.wanted.notify_one();
    }

    /// Reads these no more, and answers what is to be committed of them.
    fn give_up(&mut self, shared: &Shared, partitions: BTreeSet<TopicPartition>) -> Offsets {
        let keys: Vec<TopicPartition> = partitions.iter().cloned().collect();
        let mut offsets = match self.config.commits {
            Commits::Automatic(_) => shared.state().uncommitted(Handed::Out),
            Commits::Explicit => Offsets::new(),
        };
        if !keys.is_empty() {
            offsets.extend(self.listener().on_revoked(&keys));
        }
        offsets.retain(|key, _| partitions.contains(key));
        remove(shared, partitions);
        offsets
    }

    /// Commits all that was handed out.
    pub(super) async fn commit(&self) -> Result<(), ClientError> {
        let within = self.committer.shared.client.config().request_timeout;
        let wanted = |state: &State| Ok(state.uncommitted(Handed::Out));
        self.committer.commit(within, wanted).await
    }

    /// Commits these offsets of partitions that the member has.
    pub(super) async fn commit_offsets(&self, offsets: &GroupOffsets) -> Result<(), ClientError> {
        let named = offsets.iter();
        let offsets: Offsets = named
            .map(|((topic, partition), offset)| ((topic.as_str().into(), *partition), *offset))
            .collect();
        let within = self.committer.shared.client.config().request_timeout;
        let wanted = |state: &State| {
            for ((topic, partition), offset) in &offsets {
                let key = (topic.clone(), *partition);
                if !state.is_assigned(&key) || *offset < Offset::ZERO {
                    let message = format!("{offset} of {topic}-{partition} can't be committed");
                    return Err(ClientError::Invalid(message));
                }
            }
            Ok(offsets.clone())
        };
        self.committer.commit(within, wanted).await
    }

    /// Commits what was handed out, unless commits are explicit, gives all partitions up, and leaves.
    pub(super) async fn close(mut self, shared: &Shared) -> Result<(), ClientError> {
        let served = self.serve(shared);
        let partitions = shared.state().assigned();
        let mut offsets = self.give_up(shared, partitions);
        // What it was told to give up just now.
        let given_up = self.desk.take_given_up();
        offsets.extend(given_up.into_iter().flat_map(|given_up| given_up.offsets));
        let committed = self
            .committer
            .commit(LAST_COMMIT_TIMEOUT, |_| Ok(offsets.clone()));
        let committed = committed.await;
        self.leave().await;
        served.and(committed)
    }

    pub(super) async fn leave(mut self) {
        self.desk.end();
        if let Some(task) = self.task.take() {
            // That it panicked is no news to whoever leaves.
            let _ = task.await;
        }
    }
}

/// Answers those that were read until now.
fn remove(shared: &Shared, partitions: BTreeSet<TopicPartition>) -> Vec<TopicPartition> {
    let mut state = shared.state();
    let mut removed: Vec<TopicPartition> = partitions.into_iter().collect();
    removed.retain(|key| state.is_assigned(key));
    removed.iter().for_each(|key| state.remove(key));
    removed
}
