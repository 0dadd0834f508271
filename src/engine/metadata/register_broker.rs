//! RegisterBroker: a broker joins, comes back, or says where it can be reached now.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::fence_broker::{take_away, HasKept, Loss};
use super::metadata_version::check_knows;
use super::sweep::is_full;
use super::{
    Broker, BrokerDefaults, BrokerEpoch, BrokerState, Endpoint, MetadataCommand, MetadataImage,
    Refusal,
};
use crate::model::{BrokerId, ClusterId, ErrorCode, Incarnation, PartitionId};

/// What a broker says of itself at its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerRegistration {
    /// The cluster that it believes to be in; `None` if it has never been in one.
    pub cluster_id: Option<ClusterId>,
    pub id: BrokerId,
    pub incarnation: Incarnation,
    pub endpoints: Vec<Endpoint>,
    pub rack: Option<String>,
    pub past: Past,
    /// The partitions whose logs should be on its disk and aren't, at most [`LOST_LOGS_MAX`].
    #[serde(default)]
    pub lost: BTreeSet<PartitionId>,
    /// The latest metadata version that its build knows; `None` of builds that didn't say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata_version_max: Option<u16>,
}

/// A broker that has lost more logs than this says that it isn't certain of any.
pub const LOST_LOGS_MAX: usize = 10_000;

/// What a broker knows of the life before this one, from its disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Past {
    /// Nothing: the disk is new, or was wiped.
    #[default]
    Unknown,
    /// It was this broker in this epoch, and ended in a way in which the ends of its logs may be
    /// lost: without the mark of a clean shutdown, and what it acknowledged wasn't synced.
    Unclean(BrokerEpoch),
    /// It was this broker in this epoch, and has everything that it acknowledged: it was shut down
    /// cleanly, or it acknowledges nothing that isn't synced.
    Kept(BrokerEpoch),
}

impl Past {
    /// What counts of it for the broker that is registered in `epoch`, if it still is: whoever was
    /// registered in between may have acknowledged more (KIP-966).
    fn kept(self, epoch: Option<BrokerEpoch>) -> HasKept {
        match self {
            Past::Kept(past) if Some(past) == epoch => HasKept::Everything,
            Past::Kept(_) | Past::Unclean(_) => HasKept::Something,
            Past::Unknown => HasKept::Nothing,
        }
    }
}

/// Nothing to do if the broker is registered just so already.
///
/// A new incarnation begins fenced: it leads nothing and is in no ISR until it is unfenced. What
/// its predecessor led, others lead. If it isn't certain that it kept everything, it isn't eligible
/// to lead either; if nobody else is, it is elected all the same when it is unfenced, as the last
/// known leader, unless its disk is another one.
///
/// What its last life led and was in sync of is taken away first, in as many steps as it takes: while there is more
/// of it than one proposal changes, that is all that is decided, and the registration comes with the last step.
///
/// Where it has no log any more it is taken for one that may lack something, and begins an empty log only
/// once the metadata count on it for nothing (ADR 0006).
pub fn register_broker(
    image: &MetadataImage,
    broker: &BrokerRegistration,
    defaults: &BrokerDefaults,
) -> Result<Vec<MetadataCommand>, Refusal> {
    if let (Some(theirs), Some(ours)) = (&broker.cluster_id, image.cluster_id()) {
        if theirs != ours {
            let message = format!("Expected cluster ID {ours}, but got cluster ID {theirs}.");
            return Err(Refusal::new(ErrorCode::InconsistentClusterId, message));
        }
    }
    if broker.id.0 < 0 {
        let message = format!("A broker's id is 0 or above, and not {}.", broker.id);
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    if broker.endpoints.is_empty() {
        let message = format!("Broker {} has no endpoint.", broker.id);
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    check_knows(image, broker)?;
    let unchanged = image.broker(broker.id).is_some_and(|known| {
        known.incarnation == broker.incarnation
            && known.endpoints == broker.endpoints
            && known.rack == broker.rack
            && known.metadata_version_max == broker.metadata_version_max
    });
    if unchanged {
        return Ok(Vec::new());
    }
    let known = image.broker(broker.id);
    let is_new_life = known.is_none_or(|known| known.incarnation != broker.incarnation);
    let mut commands = Vec::new();
    if image.has_fencing() && is_new_life {
        let loss = Loss {
            broker: broker.id,
            kept: broker.past.kept(known.map(|known| known.epoch)),
            logs: &broker.lost,
        };
        let taken = take_away(image, &loss, defaults);
        if is_full(&taken) {
            // Nobody elects its last life for what is taken away by now.
            commands.extend(known.and_then(fenced));
            commands.extend(taken);
            return Ok(commands);
        }
        commands.extend(taken);
    }
    commands.push(MetadataCommand::RegisterBroker {
        id: broker.id,
        incarnation: broker.incarnation,
        endpoints: broker.endpoints.clone(),
        rack: broker.rack.clone(),
        state: match image.has_fencing() {
            true => BrokerState::Fenced,
            false => BrokerState::Unfenced,
        },
        metadata_version_max: broker.metadata_version_max,
    });
    Ok(commands)
}

/// The command that fences a broker; none if it is.
fn fenced(known: &Arc<Broker>) -> Option<MetadataCommand> {
    (!known.is_fenced()).then_some(MetadataCommand::ChangeBrokerState {
        id: known.id,
        epoch: known.epoch,
        state: BrokerState::Fenced,
    })
}

/// Gives a cluster its identity, and the metadata version that it speaks; nothing to do if it has one.
pub fn bootstrap_cluster(
    image: &MetadataImage,
    cluster_id: ClusterId,
    metadata_version: u16,
) -> Vec<MetadataCommand> {
    if image.cluster_id().is_some() {
        return Vec::new();
    }
    vec![MetadataCommand::BootstrapCluster {
        cluster_id,
        metadata_version,
    }]
}
