//! Commits of a member: one after the other, so that none overtakes another, each as the member that it is at that
//! moment, and again while the coordinator moves or the group rebalances.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, Instant};

use super::desk::Desk;
use super::membership::Identity;
use super::{GroupConfig, TopicPartition};
use crate::client::consumer::state::State;
use crate::client::consumer::Shared;
use crate::client::coordinator::{refused, Coordinator};
use crate::client::groups::{first_error, topics_to_commit};
use crate::client::ClientError;
use crate::model::{ErrorCode, Offset};
use crate::protocol::offset_commit;

/// Longer pauses would only make a fail-over longer.
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// The offsets of the next records to be read.
pub(super) type Offsets = BTreeMap<TopicPartition, Offset>;

#[derive(Debug)]
pub(super) struct Committer {
    pub shared: Arc<Shared>,
    pub desk: Arc<Desk>,
    pub coordinator: Arc<Coordinator>,
    pub config: Arc<GroupConfig>,
    turn: tokio::sync::Mutex<()>,
}

impl Committer {
    pub fn new(
        shared: Arc<Shared>,
        desk: Arc<Desk>,
        coordinator: Arc<Coordinator>,
        config: Arc<GroupConfig>,
    ) -> Committer {
        Committer {
            shared,
            desk,
            coordinator,
            config,
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// Commits what `wanted` says, which is asked before each attempt: what the member has lost meanwhile isn't
    /// its to commit. Tries again for so long.
    pub async fn commit(
        &self,
        within: Duration,
        wanted: impl Fn(&State) -> Result<Offsets, ClientError>,
    ) -> Result<(), ClientError> {
        let _turn = self.turn.lock().await;
        let deadline = Instant::now() + within;
        let mut failures = 0;
        loop {
            let offsets = wanted(&self.shared.state())?;
            if offsets.is_empty() {
                return Ok(());
            }
            let standing = self.desk.standing();
            let error = match standing.identity {
                Some(identity) => match self.ask(&identity, offsets).await {
                    Ok(()) => return Ok(()),
                    Err(error) => self.judge(&identity, error)?,
                },
                None => {
                    let error = self.refused(ErrorCode::UnknownMemberId);
                    match standing.is_joining {
                        true => error,
                        false => return Err(error),
                    }
                }
            };
            failures += 1;
            let pause = self.shared.client.config().backoff(failures).min(PAUSE_MAX);
            if Instant::now() + pause > deadline {
                return Err(error);
            }
            sleep(pause).await;
        }
    }

    async fn ask(&self, identity: &Identity, offsets: Offsets) -> Result<(), ClientError> {
        let named = offsets.iter().map(|((t, p), offset)| (&**t, *p, *offset));
        let request = offset_commit::Request {
            group_id: self.config.group_id.clone(),
            generation_id_or_member_epoch: identity.generation,
            member_id: identity.member_id.clone(),
            group_instance_id: self.config.instance_id.clone(),
            topics: topics_to_commit(named),
            ..Default::default()
        };
        let answer =
            self.coordinator
                .call::<offset_commit::Api>(&request, Duration::ZERO, first_error);
        let response = answer.await?;
        self.take_in(offsets, &response);
        match first_error(&response) {
            None => Ok(()),
            Some(code) => Err(self.refused(code)),
        }
    }

    /// Of several partitions some may be committed, and others not.
    fn take_in(&self, mut offsets: Offsets, response: &offset_commit::Response) {
        let mut state = self.shared.state();
        for topic in &response.topics {
            let name: Arc<str> = topic.name.as_str().into();
            let done = topic.partitions.iter().filter(|it| it.error_code.is_ok());
            for partition in done {
                let key = (name.clone(), partition.partition_index);
                if let Some(offset) = offsets.remove(&key) {
                    state.committed(&key, offset);
                }
            }
        }
    }

    /// Whether it can be tried again after this error.
    fn judge(&self, identity: &Identity, error: ClientError) -> Result<ClientError, ClientError> {
        match error.code() {
            Some(ErrorCode::RebalanceInProgress) => Ok(error),
            Some(
                ErrorCode::IllegalGeneration
                | ErrorCode::UnknownMemberId
                | ErrorCode::GroupIdNotFound,
            ) => {
                let standing = self.desk.standing();
                if standing.is_joining || standing.identity.as_ref() != Some(identity) {
                    return Ok(error);
                }
                self.desk.suspect();
                Err(error)
            }
            Some(ErrorCode::FencedInstanceId) => {
                self.desk.suspect();
                Err(error)
            }
            // It is asked for only after somebody has read it: it was deleted.
            Some(ErrorCode::UnknownTopicOrPartition) => Err(error),
            _ if error.is_retriable() => Ok(error),
            _ => Err(error),
        }
    }

    fn refused(&self, code: ErrorCode) -> ClientError {
        refused(&self.config.group_id, "OffsetCommit", code)
    }
}
