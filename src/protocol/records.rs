//! The bytes of record batches inside a message.

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Record batches, one after the other, as they came or as they lie on disk: MessagePack `bin`.
///
/// They are never copied between socket and file: decoding a frame takes a slice of it, and
/// encoding one hands the slice to a vectored write.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Records(pub Bytes);

impl Serialize for Records {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Records {
    fn deserialize<D: Deserializer<'de>>(_deserializer: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("not yet"))
    }
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes of records", self.0.len())
    }
}
