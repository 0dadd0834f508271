//! Who leads a partition, told along with an error so that the client needn't ask (KIP-951).

use klamm_kafka_derive::Kafka;
use serde::{Deserialize, Serialize};

use crate::model::{BrokerId, LeaderEpoch};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct LeaderIdAndEpoch {
    pub leader_id: BrokerId,
    #[kafka(default = LeaderEpoch::NONE)]
    pub leader_epoch: LeaderEpoch,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct NodeEndpoint {
    pub node_id: BrokerId,
    pub host: String,
    pub port: i32,
    pub rack: Option<String>,
}
