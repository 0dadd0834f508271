//! ApiVersions: what this broker speaks, and which cluster it belongs to.

use super::ApiContext;
use crate::model::ErrorCode;
use crate::protocol::api_versions::{Request, Response};
use crate::protocol::Encoding;

pub fn answer(context: &ApiContext, request: Request) -> Response {
    log::debug!(
        "a client greets: {} {}",
        request.client_software_name,
        request.client_software_version
    );
    match context.listener.encoding {
        Encoding::MessagePack => {
            Response::of_message_pack(context.cluster_id.0.clone(), ErrorCode::None)
        }
        Encoding::Kafka => Response::of_kafka(ErrorCode::None),
    }
}
