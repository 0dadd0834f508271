//! Fencing: what becomes of partitions when a broker goes, comes back, or has lost something.
//!
//! Each decision is one proposal of bounded size. One that concerns more partitions than
//! [`super::CHANGES_PER_PROPOSAL_MAX`] is asked for again, with the image that the last one made,
//! until it has nothing left to do. The first one changes the broker's state, so whatever is decided
//! in between counts with that.

use super::election::Loss;
use super::sweep::{Sweep, CHANGES_PER_PROPOSAL_MAX};
use super::{
    BrokerDefaults, BrokerEpoch, BrokerState, MetadataCommand, MetadataImage, Partition, Refusal,
};
use crate::model::{BrokerId, ErrorCode};

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
    commands.extend(take_away(image, broker, HasKept::Everything, defaults));
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
        has_lost: None,
    };
    let is_orphan = |p: &Partition| p.leader == BrokerId::NONE && p.replicas.contains(&broker);
    commands.extend(sweep.run(CHANGES_PER_PROPOSAL_MAX, is_orphan, |_| ()));
    Ok(commands)
}

/// What a broker that restarted still has of what it had acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HasKept {
    Everything,
    /// It may lack the end of its logs.
    Something,
    /// Its disk is another one.
    Nothing,
}

/// The changes after which the broker leads nothing and is in no ISR, and is no eligible leader if
/// it may lack something.
pub(super) fn take_away(
    image: &MetadataImage,
    broker: BrokerId,
    kept: HasKept,
    defaults: &BrokerDefaults,
) -> Vec<MetadataCommand> {
    let loss = match kept {
        HasKept::Everything => None,
        HasKept::Something => Some(Loss::Some),
        HasKept::Nothing => Some(Loss::All),
    };
    let has_lost = loss.map(|loss| (broker, loss));
    let sweep = Sweep {
        image,
        defaults,
        may_lead: &|id| id != broker && image.is_active(id),
        has_lost,
    };
    let concerns = |p: &Partition| {
        p.leader == broker
            || p.isr.contains(&broker)
            || (has_lost.is_some() && p.eligible_leaders.contains(&broker))
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
