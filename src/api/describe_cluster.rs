//! DescribeCluster: the cluster's id, controller and brokers.

use super::ApiContext;
use crate::model::{ErrorCode, Timestamp};
use crate::protocol::describe_cluster::{DescribeClusterBroker, Response};

pub fn answer(context: &ApiContext) -> Response {
    let image = context.image();
    let brokers = image.brokers().filter_map(|broker| {
        let endpoint = broker.endpoint(context.listener.name)?;
        Some(DescribeClusterBroker {
            broker_id: broker.id,
            host: endpoint.host.clone(),
            port: endpoint.port.into(),
            rack: broker.rack.clone(),
            process_id: std::process::id(),
            uptime_ms: Timestamp::now() - context.started,
            software_version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Default::default()
        })
    });
    Response {
        error_code: ErrorCode::None,
        cluster_id: context.cluster_id.0.clone(),
        controller_id: context.node,
        brokers: brokers.collect(),
        ..Default::default()
    }
}
