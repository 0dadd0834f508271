//! Bytes that the broker keeps for clients and never looks into: what members of a group tell each
//! other.

use std::fmt;

use bytes::Bytes;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// MessagePack `bin`. Unlike record batches they are copied out of their frame: a group keeps them, and
/// would keep the whole frame with them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Opaque(pub Bytes);

impl Serialize for Opaque {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Opaque {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(OpaqueVisitor)
    }
}

struct OpaqueVisitor;

impl Visitor<'_> for OpaqueVisitor {
    type Value = Opaque;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes as bin")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Opaque, E> {
        Ok(Opaque(Bytes::copy_from_slice(bytes)))
    }
}

impl fmt::Debug for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}
