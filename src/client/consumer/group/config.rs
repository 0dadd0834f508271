//! How a consumer takes part in a group.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use super::assignor::Assignor;
use super::TopicPartition;
use crate::client::cluster::FOREVER;
use crate::client::ClientError;
use crate::model::Offset;

/// When it is committed how far the application has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commits {
    /// Every so long, before a partition goes to another member, and at the end. What a poll has handed out counts
    /// as done when the next poll begins, or the consumer is closed: what isn't done is never committed.
    Automatic(Duration),
    /// By [`Consumer::commit`](crate::client::Consumer::commit) and
    /// [`Consumer::commit_offsets`](crate::client::Consumer::commit_offsets), and by what
    /// [`RebalanceListener::on_revoked`] answers.
    Explicit,
}

/// Which group a consumer joins, and how it behaves there. A group's name alone makes one, with the defaults.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    pub group_id: String,
    /// Makes the consumer a static member (KIP-345): one that comes back under this name before its session ends
    /// has its partitions again, and nobody else notices. It doesn't leave when it is closed.
    pub instance_id: Option<String>,
    /// A member that isn't heard from for so long is taken for dead, and others take over. The broker has limits
    /// for it (`group.min.session.timeout.ms`, `group.max.session.timeout.ms`).
    pub session_timeout: Duration,
    /// How often the coordinator hears from the member, and so how soon the member hears that the group
    /// rebalances; at most a third of the session.
    pub heartbeat_interval: Duration,
    /// A member whose application doesn't poll for so long leaves the group until it does. So long do others also
    /// wait for it when they rebalance.
    pub max_poll_interval: Duration,
    /// How partitions may be spread over the members, the best first. All members must have one in common. The
    /// member rebalances cooperatively if all of its assignors do.
    pub assignors: Vec<Assignor>,
    pub commits: Commits,
}

impl Default for GroupConfig {
    fn default() -> Self {
        GroupConfig {
            group_id: String::new(),
            instance_id: None,
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(1),
            max_poll_interval: Duration::from_secs(300),
            assignors: vec![Assignor::CooperativeSticky],
            commits: Commits::Automatic(Duration::from_secs(5)),
        }
    }
}

impl From<&str> for GroupConfig {
    fn from(group_id: &str) -> Self {
        GroupConfig {
            group_id: group_id.into(),
            ..GroupConfig::default()
        }
    }
}

impl GroupConfig {
    /// With all times short enough to reckon with; refused where it can't work.
    pub(super) fn checked(self) -> Result<GroupConfig, ClientError> {
        let invalid = |reason: &str| Err(ClientError::Invalid(reason.to_owned()));
        if self.group_id.is_empty() {
            return invalid("a group needs a name");
        }
        if self.assignors.is_empty() {
            return invalid("a member of a group needs an assignor");
        }
        if self.heartbeat_interval > self.session_timeout / 3 {
            return invalid("the heartbeat interval may be at most a third of the session timeout");
        }
        Ok(GroupConfig {
            session_timeout: self.session_timeout.min(FOREVER),
            heartbeat_interval: self.heartbeat_interval.min(FOREVER),
            max_poll_interval: self.max_poll_interval.min(FOREVER),
            commits: match self.commits {
                Commits::Automatic(interval) => Commits::Automatic(interval.min(FOREVER)),
                Commits::Explicit => Commits::Explicit,
            },
            ..self
        })
    }

    pub(super) fn is_cooperative(&self) -> bool {
        let mut assignors = self.assignors.iter();
        assignors.all(|assignor| assignor.is_cooperative())
    }
}

/// Is told which partitions come and go. All of it is called by [`Consumer::poll`](crate::client::Consumer::poll)
/// (and `on_revoked` by [`Consumer::close`](crate::client::Consumer::close)), between the records of before and
/// those of after.
pub trait RebalanceListener: Send {
    /// It is in this generation of its group from now on, under this id; what comes and goes with that is told next,
    /// if anything does. So it is until it is told of another one, or of what it has lost.
    ///
    /// Generations only go up, and in each a partition has one owner. So what an application writes elsewhere can be
    /// fenced by the generation. A generation that has passed before the application polled isn't told.
    fn on_joined(&mut self, member_id: &str, generation: i32) {
        let _ = (member_id, generation);
    }

    /// These are read from now on, besides those that were before. Each starts where the group has committed, or
    /// where this answer says, for what keeps its offsets elsewhere.
    fn on_assigned(&mut self, partitions: &[TopicPartition]) -> BTreeMap<TopicPartition, Offset> {
        let _ = partitions;
        BTreeMap::new()
    }

    /// These go to other members, and nothing more of them comes. The answer is committed before they go, as the
    /// offsets that are to be read next.
    fn on_revoked(&mut self, partitions: &[TopicPartition]) -> BTreeMap<TopicPartition, Offset> {
        let _ = partitions;
        BTreeMap::new()
    }

    /// These may be with other members already, as this one wasn't heard from in time. Nothing of them can be
    /// committed any more: what wasn't is done again.
    fn on_lost(&mut self, partitions: &[TopicPartition]) {
        let _ = partitions;
    }
}

/// Who listens to nothing.
pub(super) struct Deaf;

impl RebalanceListener for Deaf {}

/// Where the application listens. The mutex only makes a consumer `Sync`.
pub(super) struct Listener(pub Mutex<Box<dyn RebalanceListener>>);

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}
