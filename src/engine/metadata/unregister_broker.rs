//! UnregisterBroker: the cluster forgets a broker that is gone for good (KIP-631).

use super::fence_broker::{take_away, HasKept, Loss};
use super::sweep::is_full;
use super::{BrokerDefaults, MetadataCommand, MetadataImage, Refusal};
use crate::model::{BrokerId, ErrorCode};

/// Forgets the broker. It is no eligible leader any more, but stays the last hope for what it led, unless it
/// comes back with another disk. Its replicas stay assigned to it, as in Kafka: a reassignment gives them to
/// others.
///
/// | refused with | because |
/// |---|---|
/// | BROKER_ID_NOT_REGISTERED | nobody knows it |
/// | INVALID_REQUEST | it is there: it would go on as if it were one of the cluster, and be in nobody's ISR |
pub fn unregister_broker(
    image: &MetadataImage,
    broker: BrokerId,
    defaults: &BrokerDefaults,
) -> Result<Vec<MetadataCommand>, Refusal> {
    let Some(known) = image.broker(broker) else {
        let message = format!("Broker ID {broker} is not currently registered.");
        return Err(Refusal::new(ErrorCode::BrokerIdNotRegistered, message));
    };
    if !known.is_fenced() {
        let message = format!("Broker {broker} is there. End it first.");
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    let loss = Loss::of_broker(broker, HasKept::Something);
    let mut commands = take_away(image, &loss, defaults);
    if !is_full(&commands) {
        commands.push(MetadataCommand::UnregisterBroker {
            id: broker,
            epoch: known.epoch,
        });
    }
    Ok(commands)
}
