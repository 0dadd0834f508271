//! ElectLeaders: a partition is led by its preferred replica, the first of its replicas, where that one
//! is in sync; or, where nobody leads, by a replica that may lack committed records (KIP-460).

use serde::{Deserialize, Serialize};

use super::change::Decided;
use super::election::{settle, Election};
use super::sweep::{numbered, of_topic, Sweep};
use super::{BrokerDefaults, MetadataImage, Partition, Refusal};
use crate::model::{BrokerId, ErrorCode, TopicPartition};

/// Which election is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ElectionType {
    /// The first of the replicas shall lead.
    Preferred,
    /// Somebody shall lead where nobody does, even if committed records are lost by it.
    Unclean,
}

impl ElectionType {
    /// Whether the partition is led as this election would have it.
    fn is_satisfied(self, partition: &Partition) -> bool {
        match self {
            ElectionType::Preferred => partition.replicas.first() == Some(&partition.leader),
            ElectionType::Unclean => partition.leader != BrokerId::NONE,
        }
    }

    /// What says that it has no candidate.
    fn unavailable(self) -> Refusal {
        match self {
            ElectionType::Preferred => Refusal::new(
                ErrorCode::PreferredLeaderNotAvailable,
                "The preferred replica isn't in sync, or isn't there.",
            ),
            ElectionType::Unclean => Refusal::new(
                ErrorCode::EligibleLeadersNotAvailable,
                "None of the replicas is there.",
            ),
        }
    }
}

/// The partitions that aren't led as the election would have it, whether or not they can be.
pub fn in_need_of(
    image: &MetadataImage,
    election: ElectionType,
) -> impl Iterator<Item = TopicPartition> + '_ {
    image.topics().flat_map(move |topic| {
        let needing = numbered(topic).filter(move |(_, now)| !election.is_satisfied(now));
        needing.map(|(partition, _)| TopicPartition {
            topic: topic.name.clone(),
            partition,
        })
    })
}

/// The partitions that aren't led by their preferred replica although it is there and in sync.
pub fn not_led_by_preferred(image: &MetadataImage) -> impl Iterator<Item = TopicPartition> + '_ {
    in_need_of(image, ElectionType::Preferred).filter(|name| {
        let topic = image.topic_by_name(name.topic.as_str());
        let partition = topic.and_then(|topic| topic.partition(name.partition));
        partition.is_some_and(|now| {
            let preferred = now.replicas.first();
            preferred.is_some_and(|id| now.isr.contains(id) && image.is_active(*id))
        })
    })
}

/// Decides one election.
///
/// | refused with | because |
/// |---|---|
/// | UNKNOWN_TOPIC_OR_PARTITION | there is no such partition |
/// | ELECTION_NOT_NEEDED | the preferred replica leads already; or, for an unclean one, anybody does |
/// | PREFERRED_LEADER_NOT_AVAILABLE | the preferred replica isn't in sync, or isn't there |
/// | ELIGIBLE_LEADERS_NOT_AVAILABLE | none of the replicas is there |
pub fn elect_leader(
    image: &MetadataImage,
    election: ElectionType,
    name: &TopicPartition,
    defaults: &BrokerDefaults,
) -> Decided {
    let topic = image.topic_by_name(name.topic.as_str());
    let Some((topic, now)) = topic.and_then(|t| Some((t, t.partition(name.partition)?))) else {
        let message = format!("There is no partition {name}.");
        return Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, message));
    };
    if election.is_satisfied(now) {
        let message = "The partition is led as it would be.";
        return Err(Refusal::new(ErrorCode::ElectionNotNeeded, message));
    }
    let sweep = Sweep {
        image,
        defaults,
        may_lead: &|id| image.is_active(id),
        loss: None,
    };
    let rule = match election {
        ElectionType::Preferred => Election::Preferred,
        ElectionType::Unclean => Election::Unclean,
    };
    let terms = sweep.terms(topic, Some(rule));
    let change = settle(name.partition, now, now.clone(), &terms);
    let elects = |leader: BrokerId| match election {
        ElectionType::Preferred => now.replicas.first() == Some(&leader),
        ElectionType::Unclean => leader != BrokerId::NONE,
    };
    let change = change.filter(|change| change.leader.is_some_and(elects));
    let change = change.ok_or_else(|| election.unavailable())?;
    Ok(of_topic(topic, vec![change]).into_iter().collect())
}
