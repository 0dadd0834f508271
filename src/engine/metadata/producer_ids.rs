//! Producer ids: handed to brokers in blocks, each id once in the life of a cluster (KIP-730).

use std::ops::Range;

use super::change::Decided;
use super::{BrokerEpoch, MetadataCommand, MetadataImage, Refusal};
use crate::model::{BrokerId, ErrorCode};

/// How many ids a broker gets at once, as in Kafka.
pub const PRODUCER_ID_BLOCK_LEN: i64 = 1_000;

/// The ids that are a broker's own once these commands are committed.
pub fn allocated(commands: &[MetadataCommand]) -> Option<Range<i64>> {
    commands.iter().find_map(|command| match command {
        MetadataCommand::AllocateProducerIds { up_to, .. } => {
            Some(up_to - PRODUCER_ID_BLOCK_LEN..*up_to)
        }
        _ => None,
    })
}

/// The next block, for a broker that is registered under just this epoch.
pub fn allocate_producer_ids(
    image: &MetadataImage,
    broker: BrokerId,
    broker_epoch: BrokerEpoch,
) -> Decided {
    let Some(registered) = image.broker(broker) else {
        let message = format!("Broker {broker} is not registered.");
        return Err(Refusal::new(ErrorCode::BrokerIdNotRegistered, message));
    };
    if registered.epoch != broker_epoch {
        let message = format!(
            "Broker {broker} is registered in epoch {}, not in {broker_epoch}.",
            registered.epoch
        );
        return Err(Refusal::new(ErrorCode::StaleBrokerEpoch, message));
    }
    let first = image.next_producer_id();
    let Some(up_to) = first.checked_add(PRODUCER_ID_BLOCK_LEN) else {
        let message = "All producer ids are used up.";
        return Err(Refusal::new(ErrorCode::UnknownServerError, message));
    };
    Ok(vec![MetadataCommand::AllocateProducerIds {
        broker,
        broker_epoch,
        up_to,
    }])
}
