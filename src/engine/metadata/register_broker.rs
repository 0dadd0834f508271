//! RegisterBroker: a broker joins, comes back, or says where it can be reached now.

use serde::{Deserialize, Serialize};

use super::{Endpoint, MetadataCommand, MetadataImage, Refusal};
use crate::model::{BrokerId, ClusterId, ErrorCode, Incarnation};

/// What a broker says of itself at its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerRegistration {
    /// The cluster that it believes to be in; `None` if it has never been in one.
    pub cluster_id: Option<ClusterId>,
    pub id: BrokerId,
    pub incarnation: Incarnation,
    pub endpoints: Vec<Endpoint>,
    pub rack: Option<String>,
}

/// Nothing to do if the broker is registered just so already.
pub fn register_broker(
    image: &MetadataImage,
    broker: &BrokerRegistration,
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
    let unchanged = image.broker(broker.id).is_some_and(|known| {
        known.incarnation == broker.incarnation
            && known.endpoints == broker.endpoints
            && known.rack == broker.rack
    });
    if unchanged {
        return Ok(Vec::new());
    }
    Ok(vec![MetadataCommand::RegisterBroker {
        id: broker.id,
        incarnation: broker.incarnation,
        endpoints: broker.endpoints.clone(),
        rack: broker.rack.clone(),
    }])
}

/// Gives a cluster its identity; nothing to do if it has one.
pub fn bootstrap_cluster(image: &MetadataImage, cluster_id: ClusterId) -> Vec<MetadataCommand> {
    if image.cluster_id().is_some() {
        return Vec::new();
    }
    vec![MetadataCommand::BootstrapCluster {
        cluster_id,
        metadata_version: super::METADATA_VERSION,
    }]
}
