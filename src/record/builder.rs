//! Makes batches: the client's side of the format.

use bytes::{BufMut, Bytes, BytesMut};

use super::compression::compress;
use super::{varint, Attributes, BatchHeader, Codec, RecordError};
use crate::model::{LeaderEpoch, Offset, Timestamp};

/// A record's header: a name and an optional value, for what isn't the record itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    pub key: &'a str,
    pub value: Option<&'a [u8]>,
}

/// Whose batch it is, if its producer is idempotent (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerStamp {
    pub producer_id: i64,
    pub producer_epoch: i16,
    /// The first record's number; each later one has the next.
    pub base_sequence: i32,
}

impl ProducerStamp {
    /// "Not idempotent", as Kafka writes it.
    pub const NONE: ProducerStamp = ProducerStamp {
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
    };
}

/// The sizes of a record's varints, attributes and key and value lengths are at most this.
const RECORD_HEAD_BYTES_MAX: usize = 2 * varint::VARLONG_BYTES_MAX + 3 * varint::VARINT_BYTES_MAX;

/// Collects records and turns them into a batch; then it is empty and can be used again.
///
/// Records are encoded as they come, behind room for the header, so that an uncompressed batch is
/// finished without copying.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    buffer: BytesMut,
    count: i32,
    base_timestamp: Timestamp,
    max_timestamp: Timestamp,
}

impl BatchBuilder {
    /// A builder whose buffer has room for a batch of this many bytes; it grows if needed.
    pub fn with_capacity(bytes: usize) -> Self {
        BatchBuilder {
            buffer: BytesMut::with_capacity(bytes),
            ..BatchBuilder::default()
        }
    }

    /// Adds a record, and returns its position in the batch.
    ///
    /// Key, value and headers together must be less than 2 GiB.
    #[inline]
    pub fn append(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> i32 {
        if self.count == 0 {
            self.buffer.put_bytes(0, BatchHeader::LEN);
            self.base_timestamp = timestamp;
            self.max_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let offset_delta = self.count;
        let timestamp_delta = timestamp - self.base_timestamp;

        // Attributes, timestamp and offset, up to the key's bytes.
        let mut head = [0u8; RECORD_HEAD_BYTES_MAX];
        let mut head_len = 1;
        head_len += varint::write(&mut head[head_len..], timestamp_delta);
        head_len += varint::write(&mut head[head_len..], offset_delta as i64);
        head_len += varint::write(&mut head[head_len..], length_of(key));
        let key = key.unwrap_or_default();
        let value_length = length_of(value);
        let value = value.unwrap_or_default();
        let body =
            head_len + key.len() + varint::len(value_length) + value.len() + headers_len(headers);

        self.buffer.reserve(body + varint::VARINT_BYTES_MAX);
        self.put_varint(body as i64);
        self.buffer.extend_from_slice(&head[..head_len]);
        self.buffer.extend_from_slice(key);
        self.put_varint(value_length);
        self.buffer.extend_from_slice(value);
        self.put_varint(headers.len() as i64);
        for header in headers {
            self.put_varint(header.key.len() as i64);
            self.buffer.extend_from_slice(header.key.as_bytes());
            self.put_varint(length_of(header.value));
            self.buffer
                .extend_from_slice(header.value.unwrap_or_default());
        }
        self.count += 1;
        offset_delta
    }

    #[inline]
    fn put_varint(&mut self, value: i64) {
        let mut bytes = [0u8; varint::VARLONG_BYTES_MAX];
        let len = varint::write(&mut bytes, value);
        self.buffer.extend_from_slice(&bytes[..len]);
    }

    /// How many bytes a record takes at most in any batch.
    pub fn record_size_max(
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> usize {
        RECORD_HEAD_BYTES_MAX
            + key.map_or(0, <[u8]>::len)
            + value.map_or(0, <[u8]>::len)
            + headers_len(headers)
    }

    /// The batch's size as it is, uncompressed, header included.
    pub fn size(&self) -> usize {
        self.buffer.len()
    }

    /// How many records it holds.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Finishes the batch: compresses the records, and writes the header with its checksum. Base
    /// offset 0 and no leader epoch: the leader stamps both.
    ///
    /// Refused without records, and where the batch is too large for its length field.
    pub fn build(&mut self, codec: Codec, stamp: ProducerStamp) -> Result<Bytes, RecordError> {
        if self.count == 0 {
            return Err(RecordError::Invalid(
                "a batch has at least one record".into(),
            ));
        }
        let mut batch = match codec {
            Codec::None => self.buffer.split(),
            codec => {
                let mut compressed = Vec::with_capacity(self.buffer.len());
                compressed.resize(BatchHeader::LEN, 0);
                compress(codec, &self.buffer[BatchHeader::LEN..], &mut compressed)?;
                self.buffer.clear();
                BytesMut::from(Bytes::from(compressed))
            }
        };
        let batch_length = i32::try_from(batch.len() - BatchHeader::LENGTH_END).map_err(|_| {
            RecordError::TooLarge {
                size: batch.len(),
                size_max: i32::MAX as usize,
            }
        })?;
        let header = BatchHeader {
            base_offset: Offset(0),
            batch_length,
            leader_epoch: LeaderEpoch::NONE,
            magic: 2,
            crc: 0,
            attributes: Attributes::default().with_codec(codec),
            last_offset_delta: self.count - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: stamp.producer_id,
            producer_epoch: stamp.producer_epoch,
            base_sequence: stamp.base_sequence,
            record_count: self.count,
        };
        header.encode(&mut batch);
        self.count = 0;
        Ok(batch.freeze())
    }
}

/// The same batch with another producer's stamp: a copy, since the stamp lies under the checksum.
pub fn restamp(batch: &[u8], stamp: ProducerStamp) -> Result<Bytes, RecordError> {
    let header = BatchHeader {
        producer_id: stamp.producer_id,
        producer_epoch: stamp.producer_epoch,
        base_sequence: stamp.base_sequence,
        ..BatchHeader::decode(batch)?
    };
    let mut copy = BytesMut::from(batch);
    header.encode(&mut copy);
    Ok(copy.freeze())
}

fn length_of(bytes: Option<&[u8]>) -> i64 {
    bytes.map_or(-1, |bytes| bytes.len() as i64)
}

/// The bytes of a record's headers, their count included.
fn headers_len(headers: &[Header<'_>]) -> usize {
    let each = headers.iter().map(|header| {
        varint::len(header.key.len() as i64)
            + header.key.len()
            + varint::len(length_of(header.value))
            + header.value.map_or(0, <[u8]>::len)
    });
    varint::len(headers.len() as i64) + each.sum::<usize>()
}
