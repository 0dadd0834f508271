//! UnregisterBroker: the cluster forgets a broker that is gone for good.

use super::{outcome, ApiContext};
use crate::engine::metadata::change::Change;
use crate::protocol::unregister_broker::{Request, Response};

pub async fn answer(context: &ApiContext, request: Request) -> Response {
    let change = Change::UnregisterBroker {
        broker: request.broker_id,
    };
    let (error_code, error_message) = outcome(context.controller.change_one(change).await);
    Response {
        error_code,
        error_message,
        ..Default::default()
    }
}
