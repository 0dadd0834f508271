//! Fencing: what becomes of partitions when a broker goes, comes back, or has lost something.
//!
//! Each decision is one proposal of bounded size. One that concerns more partitions than
//! [`super::CHANGES_PER_PROPOSAL_MAX`] is made again by the controller, with the image that the last one
//! made, until it has nothing left to do. The first one changes the broker's state, so whatever is
//! decided in between counts with that.

use std::collections::BTreeSet;

use super::sweep::{Sweep, CHANGES_PER_PROPOSAL_MAX};
use super::{
    BrokerDefaults, BrokerEpoch, BrokerState, MetadataCommand, MetadataImage, Partition, Refusal,
};
use crate::model::{BrokerId, ErrorCode, PartitionId};

/// The broker doesn't answer, or wants to be fenced: it leaves every ISR, and others lead what it
/// led. Where the ISR falls below the minimum it stays eligible (KIP-966); the last who was in sync
/// stays known in any case. Nothing to do if all that is so already.
pub fn fence_broker(
    image: &MetadataImage,
    broker: BrokerId,
    epoch: BrokerEpoch,
    defaults: &BrokerDefaults,
) -> Result<Vec<MetadataCommand>, Refusal> {
    hold_back(image, broker, epoch, BrokerState::Fenced, defaults)
}

/// The broker wants to end: others lead what it led, and it joins no ISR any more, but it serves
/// until it may go. Nothing to do if all that is so already, or if it is fenced.
pub fn begin_controlled_shutdown(
    image: &MetadataImage,
    broker: BrokerId,
    epoch: BrokerEpoch,
    defaults: &BrokerDefaults,
) -> Result<Vec<MetadataCommand>, Refusal> {
    if check_broker(image, broker, epoch)? == BrokerState::Fenced {
        return Ok(Vec::new());
    }
    hold_back(image, broker, epoch, BrokerState::ShuttingDown, defaults)
}

fn hold_back(
    image: &MetadataImage,
    broker: BrokerId,
    epoch: BrokerEpoch,
    state: BrokerState,
    defaults: &BrokerDefaults,
) -> Result<Vec<MetadataCommand>, Refusal> {
    let was = check_broker(image, broker, epoch)?;
    let mut commands = Vec::new();
    if was != state {
        commands.push(MetadataCommand::ChangeBrokerState {
            id: broker,
            epoch,
            state,
        });
    }
    let nothing = Loss::of_broker(broker, HasKept::Everything);
    commands.extend(take_away(image, &nothing, defaults));
    Ok(commands)
}

/// The broker is there again: it leads what nobody else could lead. It joins the other ISRs when
/// their leaders find that it has caught up. Nothing to do if all that is so already.
pub fn unfence_broker(
    image: &MetadataImage,
    broker: BrokerId,
    epoch: BrokerEpoch,
    defaults: &BrokerDefaults,
) -> Result<Vec<MetadataCommand>, Refusal> {
    let mut commands = Vec::new();
    if check_broker(image, broker, epoch)? != BrokerState::Unfenced {
        commands.push(MetadataCommand::ChangeBrokerState {
            id: broker,
            epoch,
            state: BrokerState::Unfenced,
        });
    }
    let sweep = Sweep {
        image,
        defaults,
        may_lead: &|id| id == broker || image.is_active(id),
        loss: None,
    };
    let is_orphan = |p: &Partition| p.leader == BrokerId::NONE && p.replicas.contains(&broker);
    commands.extend(sweep.run(CHANGES_PER_PROPOSAL_MAX, is_orphan, |_| ()));
    Ok(commands)
}

/// What a broker that restarted still has of what it had acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HasKept {
    Everything,
    /// It may lack the end of its logs.
    Something,
    /// Its disk is another one.
    Nothing,
}

/// What a broker may have lost of what it had acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Loss<'a> {
    pub broker: BrokerId,
    pub kept: HasKept,
    /// Of these it has no log any more, whatever it has of the others.
    pub logs: &'a BTreeSet<PartitionId>,
}

impl Loss<'_> {
    /// The same of every partition.
    pub(super) fn of_broker(broker: BrokerId, kept: HasKept) -> Loss<'static> {
        static NO_LOGS: BTreeSet<PartitionId> = BTreeSet::new();
        Loss {
            broker,
            kept,
            logs: &NO_LOGS,
        }
    }

    /// What is left of this partition there.
    pub(super) fn of(&self, partition: PartitionId) -> HasKept {
        match self.kept {
            // If it is the last one that can lead, its log may be found again.
            HasKept::Everything if self.logs.contains(&partition) => HasKept::Something,
            kept => kept,
        }
    }

    fn is_none(&self) -> bool {
        self.kept == HasKept::Everything && self.logs.is_empty()
    }
}

/// The changes after which the broker leads nothing and is in no ISR, and is no eligible leader if
/// it may lack something.
pub(super) fn take_away(
    image: &MetadataImage,
    loss: &Loss<'_>,
    defaults: &BrokerDefaults,
) -> Vec<MetadataCommand> {
    let Loss { broker, kept, .. } = *loss;
    let sweep = Sweep {
        image,
        defaults,
        may_lead: &|id| id != broker && image.is_active(id),
        loss: Some(*loss),
    };
    let concerns = |p: &Partition| {
        p.leader == broker
            || p.isr.contains(&broker)
            || (!loss.is_none() && p.eligible_leaders.contains(&broker))
            || (kept == HasKept::Nothing && p.last_known_leader == broker)
    };
    let wish = |p: &mut Partition| {
        p.isr.retain(|id| *id != broker);
        if kept == HasKept::Nothing && p.last_known_leader == broker {
            p.last_known_leader = BrokerId::NONE;
        }
    };
    sweep.run(CHANGES_PER_PROPOSAL_MAX, concerns, wish)
}

/// The state of a broker that is registered under just this epoch.
pub(super) fn check_broker(
    image: &MetadataImage,
    broker: BrokerId,
    epoch: BrokerEpoch,
) -> Result<BrokerState, Refusal> {
    if !image.has_fencing() {
        let version = image.metadata_version();
        let message = format!("Metadata version {version} knows no fencing of brokers.");
        return Err(Refusal::new(ErrorCode::UnsupportedVersion, message));
    }
    let Some(known) = image.broker(broker) else {
        let message = format!("Broker {broker} is not registered.");
        return Err(Refusal::new(ErrorCode::BrokerIdNotRegistered, message));
    };
    if known.epoch != epoch {
        let message = format!(
            "Broker {broker} is registered in epoch {}, not in {epoch}.",
            known.epoch
        );
        return Err(Refusal::new(ErrorCode::StaleBrokerEpoch, message));
    }
    Ok(known.state)
}
