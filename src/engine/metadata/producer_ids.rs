//! Producer ids: handed to brokers in blocks, each id once in the life of a cluster (KIP-730).

use super::{BrokerEpoch, MetadataCommand, MetadataImage, Refusal};
use crate::model::{BrokerId, ErrorCode};

/// How many ids a broker gets at once, as in Kafka.
pub const PRODUCER_ID_BLOCK_LEN: i64 = 1_000;

/// Ids that are a broker's own once the command is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdBlock {
    pub first: i64,
    pub len: i64,
}

/// The next block, for a broker that is registered under just this epoch.
pub fn allocate_producer_ids(
    image: &MetadataImage,
    broker: BrokerId,
    broker_epoch: BrokerEpoch,
) -> Result<(ProducerIdBlock, Vec<MetadataCommand>), Refusal> {
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
    let command = MetadataCommand::AllocateProducerIds {
        broker,
        broker_epoch,
        up_to,
    };
    let block = ProducerIdBlock {
        first,
        len: PRODUCER_ID_BLOCK_LEN,
    };
    Ok((block, vec![command]))
}
