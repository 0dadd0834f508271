//! A record as JSON: what `klamm consume` and `klamm log dump` print for programs.

use base64::prelude::{Engine, BASE64_STANDARD};
use serde::Serialize;

use crate::record::{Header, RecordView};

#[derive(Serialize)]
pub struct JsonRecord<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<&'a str>,
    partition: i32,
    offset: i64,
    /// In milliseconds since 1970.
    timestamp: i64,
    key: Option<JsonBytes<'a>>,
    value: Option<JsonBytes<'a>>,
    headers: Vec<JsonHeader<'a>>,
}

#[derive(Serialize)]
struct JsonHeader<'a> {
    key: &'a str,
    value: Option<JsonBytes<'a>>,
}

/// A string where it is one.
#[derive(Serialize)]
#[serde(untagged)]
enum JsonBytes<'a> {
    Text(&'a str),
    Binary { base64: String },
}

impl<'a> JsonRecord<'a> {
    pub fn new(partition: i32, record: &RecordView<'a>) -> JsonRecord<'a> {
        JsonRecord {
            topic: None,
            partition,
            offset: record.offset.0,
            timestamp: record.timestamp.0,
            key: record.key.map(JsonBytes::from),
            value: record.value.map(JsonBytes::from),
            headers: record.headers.iter().map(JsonHeader::from).collect(),
        }
    }

    /// Where records of several topics come.
    pub fn of(self, topic: &'a str) -> JsonRecord<'a> {
        JsonRecord {
            topic: Some(topic),
            ..self
        }
    }
}

impl<'a> From<Header<'a>> for JsonHeader<'a> {
    fn from(header: Header<'a>) -> JsonHeader<'a> {
        JsonHeader {
            key: header.key,
            value: header.value.map(JsonBytes::from),
        }
    }
}

impl<'a> From<&'a [u8]> for JsonBytes<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => JsonBytes::Text(text),
            Err(_) => JsonBytes::Binary {
                base64: BASE64_STANDARD.encode(bytes),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_base64_in_json() {
        let line = serde_json::to_string(&JsonHeader {
            key: "k",
            value: Some(JsonBytes::from(&b"\xff\x00"[..])),
        });
        assert_eq!(line.unwrap(), r#"{"key":"k","value":{"base64":"/wA="}}"#);
        let text = serde_json::to_string(&JsonBytes::from("grün".as_bytes()));
        assert_eq!(text.unwrap(), "\"grün\"");
    }
}
