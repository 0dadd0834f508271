//! One pass over the partitions of the cluster, and the commands that change those which it picks.
//!
//! What concerns a whole broker may concern every partition that there is. So a pass stops after
//! [`CHANGES_PER_PROPOSAL_MAX`] changes, and the controller decides again, with the image that they
//! made, until there is nothing left to change ([`super::change::Change::is_unfinished`]).

use std::sync::Arc;

use super::election::{settle, Election, Terms};
use super::fence_broker::Loss;
use super::{
    BrokerDefaults, MetadataCommand, MetadataImage, Partition, PartitionChange, Topic, TopicConfig,
};
use crate::model::{BrokerId, PartitionId};

/// How many partitions one proposal changes: about a megabyte with three replicas each.
pub const CHANGES_PER_PROPOSAL_MAX: usize = 10_000;

/// What a pass looks for, and what it is to change.
pub(super) struct Sweep<'a> {
    pub image: &'a MetadataImage,
    pub defaults: &'a BrokerDefaults,
    /// Which brokers may lead, as of after the change.
    pub may_lead: &'a dyn Fn(BrokerId) -> bool,
    /// Of a broker that may have lost what it had acknowledged.
    pub loss: Option<Loss<'a>>,
}

impl Sweep<'_> {
    /// Changes each partition that `concerns` picks into what `wish` makes of it, with an election
    /// that is unclean where the topic allows it. At most `limit` partitions.
    pub fn run(
        &self,
        limit: usize,
        concerns: impl Fn(&Partition) -> bool,
        wish: impl Fn(&mut Partition),
    ) -> Vec<MetadataCommand> {
        let mut commands = Vec::new();
        let mut left = limit;
        for topic in self.image.topics_by_id() {
            if left == 0 {
                break;
            }
            let mut concerned = numbered(topic).filter(|(_, p)| concerns(p)).peekable();
            if concerned.peek().is_none() {
                continue;
            }
            let terms = self.terms(topic, None);
            let change = |(number, now): (i32, &Arc<Partition>)| {
                let mut wanted = Partition::clone(now);
                wish(&mut wanted);
                let id = PartitionId {
                    topic_id: topic.id,
                    partition: number,
                };
                let terms = Terms {
                    has_lost: self.loss.map(|loss| (loss.broker, loss.of(id))),
                    ..terms
                };
                settle(number, now, wanted, &terms)
            };
            let changes: Vec<_> = concerned.filter_map(change).take(left).collect();
            left -= changes.len();
            commands.extend(of_topic(topic, changes));
        }
        commands
    }

    /// The terms of a change in one topic; the election is the one that is asked for, or else as
    /// the topic allows.
    pub fn terms(&self, topic: &Topic, election: Option<Election>) -> Terms<'_> {
        let configured =
            || match TopicConfig::allows_unclean_election(&topic.configs, self.defaults) {
                true => Election::Unclean,
                false => Election::IfNeeded,
            };
        Terms {
            election: election.unwrap_or_else(configured),
            may_lead: self.may_lead,
            min_insync_replicas: TopicConfig::min_insync_replicas(&topic.configs, self.defaults),
            has_lost: None,
        }
    }
}

/// Whether these commands change as many partitions as one proposal may, and there may be more.
pub(super) fn is_full<'a>(commands: impl IntoIterator<Item = &'a MetadataCommand>) -> bool {
    let changes = commands.into_iter().map(|command| match command {
        MetadataCommand::ChangePartitions { changes, .. } => changes.len(),
        _ => 0,
    });
    changes.sum::<usize>() >= CHANGES_PER_PROPOSAL_MAX
}

/// The partitions of a topic with their numbers.
pub(super) fn numbered(topic: &Topic) -> impl Iterator<Item = (i32, &Arc<Partition>)> {
    (0..).zip(&topic.partitions)
}

/// The command for some changes of one topic; none for no change.
pub(super) fn of_topic(topic: &Topic, changes: Vec<PartitionChange>) -> Option<MetadataCommand> {
    (!changes.is_empty()).then_some(MetadataCommand::ChangePartitions {
        topic: topic.id,
        changes,
    })
}
