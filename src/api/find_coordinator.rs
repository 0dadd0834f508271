//! FindCoordinator: there are no coordinators yet, and who asks is told so at once.
//!
//! librdkafka looks for this API's version 0 to tell whether a broker takes lz4.

use crate::model::{BrokerId, ErrorCode};
use crate::protocol::find_coordinator::{
    Coordinator, Request, Response, KEY_GROUP, KEY_SHARE, KEY_TRANSACTION,
};

pub fn answer(request: Request) -> Response {
    let message = match request.key_type {
        KEY_GROUP => "this broker has no consumer groups",
        KEY_TRANSACTION => "this broker has no transactions",
        KEY_SHARE => "this broker has no share groups",
        _ => "this type of coordinator isn't known",
    };
    let refuse = |key| Coordinator {
        key,
        node_id: BrokerId::NONE,
        host: String::new(),
        port: -1,
        error_code: ErrorCode::InvalidRequest,
        error_message: Some(message.to_owned()),
    };
    Response {
        coordinators: request.coordinator_keys.into_iter().map(refuse).collect(),
        ..Default::default()
    }
}
