//! FindCoordinator: there are no coordinators yet.
//!
//! A consumer that assigns partitions to itself looks for its group's coordinator all the same, and
//! goes on without it as long as the answer is that it isn't there now. Who wants a transaction is
//! refused at once: it can't go on without one.
//!
//! Older librdkafkas look for this API's version 0 to tell whether a broker takes lz4.

use crate::model::{BrokerId, ErrorCode};
use crate::protocol::find_coordinator::{
    Coordinator, Request, Response, KEY_GROUP, KEY_SHARE, KEY_TRANSACTION,
};

pub fn answer(request: Request) -> Response {
    let (error_code, message) = match request.key_type {
        KEY_GROUP => (
            ErrorCode::CoordinatorNotAvailable,
            "this broker has no consumer groups",
        ),
        KEY_TRANSACTION => (ErrorCode::InvalidRequest, "this broker has no transactions"),
        KEY_SHARE => (ErrorCode::InvalidRequest, "this broker has no share groups"),
        _ => (
            ErrorCode::InvalidRequest,
            "this type of coordinator isn't known",
        ),
    };
    let refuse = |key| Coordinator {
        key,
        node_id: BrokerId::NONE,
        host: String::new(),
        port: -1,
        error_code,
        error_message: Some(message.to_owned()),
    };
    Response {
        coordinators: request.coordinator_keys.into_iter().map(refuse).collect(),
        ..Default::default()
    }
}
