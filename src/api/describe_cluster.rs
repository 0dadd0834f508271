//! DescribeCluster: the cluster's id, controller and brokers.

use std::sync::Arc;

use super::authorized_operations::CLUSTER_OPERATIONS;
use super::ApiContext;
use crate::engine::metadata::Broker;
use crate::model::{ErrorCode, Timestamp};
use crate::protocol::describe_cluster::{DescribeClusterBroker, Request, Response};

/// `endpoint_type` of brokers.
const BROKERS: i8 = 1;
/// `endpoint_type` of controllers.
const CONTROLLERS: i8 = 2;

pub fn answer(context: &ApiContext, request: Request) -> Response {
    if request.endpoint_type != BROKERS {
        return refuse(context, request.endpoint_type);
    }
    let image = context.image();
    let is_asked_for =
        |broker: &&Arc<Broker>| request.include_fenced_brokers || !broker.is_fenced();
    let brokers = image.brokers().filter(is_asked_for);
    let brokers = brokers.filter_map(|broker| {
        let endpoint = broker.endpoint(context.listener.name)?;
        let described = DescribeClusterBroker {
            broker_id: broker.id,
            host: endpoint.host.clone(),
            port: endpoint.port.into(),
            rack: broker.rack.clone(),
            is_fenced: broker.is_fenced(),
            ..Default::default()
        };
        Some(match broker.id == context.node {
            true => with_process(described, context),
            false => described,
        })
    });
    Response {
        error_code: ErrorCode::None,
        cluster_id: context.cluster_id.0.clone(),
        controller_id: context.controller.active_broker(),
        brokers: brokers.collect(),
        cluster_authorized_operations: match request.include_cluster_authorized_operations {
            true => CLUSTER_OPERATIONS,
            false => i32::MIN,
        },
        ..Default::default()
    }
}

/// A broker tells of its own process only.
fn with_process(broker: DescribeClusterBroker, context: &ApiContext) -> DescribeClusterBroker {
    DescribeClusterBroker {
        process_id: std::process::id(),
        uptime_ms: Timestamp::now() - context.started,
        software_version: env!("CARGO_PKG_VERSION").to_owned(),
        ..broker
    }
}

/// Clients talk to brokers only: no controller has a listener of its own (KIP-919).
fn refuse(context: &ApiContext, endpoint_type: i8) -> Response {
    let (error_code, message) = match endpoint_type {
        CONTROLLERS => (
            ErrorCode::MismatchedEndpointType,
            "this listener is the brokers'".to_owned(),
        ),
        other => (
            ErrorCode::UnsupportedEndpointType,
            format!("endpoint type {other} isn't known"),
        ),
    };
    Response {
        error_code,
        error_message: Some(message),
        cluster_id: context.cluster_id.0.clone(),
        ..Default::default()
    }
}
