//! The fields of Kafka's flexible message files (KIP-482): compact lengths, and tagged fields behind each
//! struct.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{BufMut, Bytes};
use uuid::Uuid;

use super::consumer::{AssignmentEpochs, Partitions};
use super::record_bytes::Reader;
use crate::model::TopicId;

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// A length that may be null is written as one more.
fn put_length(out: &mut Vec<u8>, length: usize) {
    put_varint(out, length as u32 + 1);
}

pub(super) fn put_compact(out: &mut Vec<u8>, text: &str) {
    put_compact_bytes(out, text.as_bytes());
}

pub(super) fn put_compact_nullable(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => put_compact(out, text),
        None => put_varint(out, 0),
    }
}

pub(super) fn put_compact_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.put_slice(bytes);
}

pub(super) fn put_array<E>(
    out: &mut Vec<u8>,
    elements: impl ExactSizeIterator<Item = E>,
    mut put: impl FnMut(&mut Vec<u8>, E),
) {
    put_length(out, elements.len());
    elements.for_each(|element| put(out, element));
}

/// Each is written by its bytes, in the order of the tags.
pub(super) fn put_tagged(out: &mut Vec<u8>, fields: &[(u32, Vec<u8>)]) {
    put_varint(out, fields.len() as u32);
    for (tag, bytes) in fields {
        put_varint(out, *tag);
        put_varint(out, bytes.len() as u32);
        out.put_slice(bytes);
    }
}

/// Of the tagged field with the epoch of each partition.
const ASSIGNMENT_EPOCHS_TAG: u32 = 0;

/// Topics with their partitions.
pub(super) fn put_partitions(out: &mut Vec<u8>, partitions: &Partitions) {
    put_array(out, partitions.by_topic(), |out, (topic, numbers)| {
        out.put_slice(topic.0.as_bytes());
        put_array(out, numbers.iter(), |out, number| out.put_i32(*number));
        put_tagged(out, &[]);
    });
}

/// The same, each partition with its epoch.
pub(super) fn put_partitions_since(
    out: &mut Vec<u8>,
    partitions: &Partitions,
    since: &AssignmentEpochs,
) {
    put_array(out, partitions.by_topic(), |out, (topic, numbers)| {
        out.put_slice(topic.0.as_bytes());
        put_array(out, numbers.iter(), |out, number| out.put_i32(*number));
        let mut epochs = Vec::new();
        put_array(&mut epochs, numbers.iter(), |out, number| {
            out.put_i32(since.get(&(topic, *number)).copied().unwrap_or(0));
        });
        put_tagged(out, &[(ASSIGNMENT_EPOCHS_TAG, epochs)]);
    });
}

impl Reader<'_> {
    fn varint(&mut self, field: &str) -> Result<u32, String> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.take(1, field)?[0];
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(format!("{field} has a length that isn't one"))
    }

    /// `None`: null.
    fn length(&mut self, field: &str) -> Result<Option<usize>, String> {
        Ok((self.varint(field)? as usize).checked_sub(1))
    }

    pub(super) fn compact_nullable(&mut self, field: &str) -> Result<Option<Arc<str>>, String> {
        let Some(length) = self.length(field)? else {
            return Ok(None);
        };
        let text = std::str::from_utf8(self.take(length, field)?);
        text.map(|text| Some(text.into()))
            .map_err(|_| format!("{field} isn't UTF-8"))
    }

    pub(super) fn compact(&mut self, field: &str) -> Result<Arc<str>, String> {
        let text = self.compact_nullable(field)?;
        text.ok_or_else(|| format!("{field} can't be null"))
    }

    pub(super) fn compact_bytes(&mut self, field: &str) -> Result<Bytes, String> {
        let length = self.length(field)?.unwrap_or_default();
        Ok(Bytes::copy_from_slice(self.take(length, field)?))
    }

    /// Null means none. It grows as far as there are elements, whatever its length says.
    pub(super) fn array<E>(
        &mut self,
        field: &str,
        mut element: impl FnMut(&mut Self) -> Result<E, String>,
    ) -> Result<Vec<E>, String> {
        let count = self.length(field)?.unwrap_or_default();
        (0..count).map(|_| element(self)).collect()
    }

    /// Gives each tagged field that is there to `read`, with what it holds.
    pub(super) fn tagged(
        &mut self,
        mut read: impl FnMut(u32, &mut Reader<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        for _ in 0..self.varint("the tagged fields")? {
            let tag = self.varint("a tag")?;
            let size = self.varint("a tagged field")? as usize;
            read(tag, &mut Reader(self.take(size, "a tagged field")?))?;
        }
        Ok(())
    }

    pub(super) fn topic_id(&mut self, field: &str) -> Result<TopicId, String> {
        let id = Uuid::from_slice(self.take(16, field)?);
        id.map(TopicId).map_err(|e| format!("{field}: {e}"))
    }

    pub(super) fn partitions(&mut self, field: &str) -> Result<Partitions, String> {
        self.partitions_since(field, 0, &mut BTreeMap::new())
    }

    /// The same, each partition with its epoch, which is `epoch` for those that were written without one.
    pub(super) fn partitions_since(
        &mut self,
        field: &str,
        epoch: i32,
        since: &mut AssignmentEpochs,
    ) -> Result<Partitions, String> {
        let mut partitions = Partitions::default();
        self.array(field, |input| {
            let id = input.topic_id(field)?;
            let numbers = input.array(field, |input| input.i32(field))?;
            let mut epochs = Vec::new();
            input.tagged(|tag, value| {
                if tag == ASSIGNMENT_EPOCHS_TAG {
                    epochs = value.array("assignment_epochs", |value| value.i32("an epoch"))?;
                }
                Ok(())
            })?;
            for (index, number) in numbers.into_iter().enumerate() {
                partitions.insert(id, number);
                let epoch = epochs.get(index).copied().unwrap_or(epoch);
                since.insert((id, number), epoch);
            }
            Ok(())
        })?;
        Ok(partitions)
    }
}
