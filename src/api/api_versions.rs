//! ApiVersions: what this broker speaks, and which cluster it belongs to.

use super::ApiContext;
use crate::engine::metadata::METADATA_VERSION;
use crate::model::ErrorCode;
use crate::protocol::api_versions::{Request, Response};
use crate::protocol::Encoding;

pub fn answer(context: &ApiContext, request: Request) -> Response {
    let (name, version) = (
        &request.client_software_name,
        &request.client_software_version,
    );
    let error_code = match is_plain(name) && is_plain(version) {
        true => ErrorCode::None,
        false => ErrorCode::InvalidRequest,
    };
    if error_code.is_ok() {
        log::debug!("a client greets: {name} {version}");
    }
    let response = match context.listener.encoding {
        Encoding::MessagePack => {
            Response::of_message_pack(context.cluster_id.0.clone(), error_code)
        }
        Encoding::Kafka => Response::of_kafka(error_code),
    };
    let image = context.image();
    let itself = image.broker(context.node);
    let known = itself.and_then(|broker| broker.metadata_version_max);
    let level = |version: u16| i16::try_from(version).unwrap_or(i16::MAX);
    response.with_metadata_version(
        level(image.metadata_version()),
        i64::try_from(image.version()).unwrap_or(i64::MAX),
        level(known.unwrap_or(METADATA_VERSION)),
    )
}

/// Whether a client's name or version is one as KIP-511 wants it: letters, digits, and between them
/// `-` and `.`. Older versions of the request have none.
fn is_plain(text: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let is_end = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    text.chars().all(is_inner) && is_end(text.chars().next()) && is_end(text.chars().next_back())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_software_are_plain() {
        for name in [
            "",
            "a",
            "librdkafka",
            "apache-kafka-java",
            "4.3.1",
            "v1.7-rc.2",
        ] {
            assert!(is_plain(name), "{name}");
        }
        for name in ["-a", "a.", "a b", "a\nb", "größe", "a/b"] {
            assert!(!is_plain(name), "{name:?}");
        }
    }
}
