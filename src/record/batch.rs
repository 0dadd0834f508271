//! The batch's header: 61 bytes, big-endian, the same for each codec.
//!
//! | at | field | |
//! |---|---|---|
//! | 0 | base offset | i64, stamped by the leader |
//! | 8 | batch length | i32, the bytes that follow this field |
//! | 12 | partition leader epoch | i32, stamped by the leader |
//! | 16 | magic | i8, 2 |
//! | 17 | CRC-32C | u32, of all that follows this field |
//! | 21 | attributes | i16 |
//! | 23 | last offset delta | i32 |
//! | 27 | base timestamp | i64 |
//! | 35 | max timestamp | i64 |
//! | 43 | producer id | i64 |
//! | 51 | producer epoch | i16 |
//! | 53 | base sequence | i32 |
//! | 57 | record count | i32 |
//! | 61 | records | compressed as one by the attributes' codec |

use bytes::{Buf, BufMut, Bytes};
use thiserror::Error;

use crate::model::{ErrorCode, LeaderEpoch, Offset, Timestamp};

/// What is wrong with a batch, or with a record in it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RecordError {
    #[error(
        "{have} bytes can't hold a record batch, whose header alone has {}",
        BatchHeader::LEN
    )]
    TooShort { have: usize },
    #[error("the batch says it has {says} bytes, and {have} are there")]
    Length { says: i64, have: usize },
    #[error("magic {0} isn't record batch format 2")]
    Magic(i8),
    #[error("the batch's CRC-32C is {says:#010x}, and that of its bytes {is:#010x}")]
    Checksum { says: u32, is: u32 },
    #[error("compression codec {0} isn't known")]
    UnknownCodec(i16),
    #[error("{0}")]
    Invalid(String),
    #[error("record {0} has no key, and a compacted topic takes none without one")]
    Keyless(i32),
    #[error("a transactional batch, outside of any transaction")]
    Transactional,
    #[error("timestamp {0} is outside of what the topic allows")]
    Timestamp(Timestamp),
    #[error("the batch has {size} bytes, and at most {size_max} are allowed")]
    TooLarge { size: usize, size_max: usize },
    #[error("the records can't be decompressed: {0}")]
    Compression(String),
}

impl RecordError {
    /// What the producer is answered.
    pub fn code(&self) -> ErrorCode {
        match self {
            RecordError::TooShort { .. }
            | RecordError::Length { .. }
            | RecordError::Checksum { .. } => ErrorCode::CorruptMessage,
            RecordError::Magic(_) => ErrorCode::UnsupportedForMessageFormat,
            RecordError::UnknownCodec(_) => ErrorCode::UnsupportedCompressionType,
            RecordError::Invalid(_) | RecordError::Keyless(_) | RecordError::Compression(_) => {
                ErrorCode::InvalidRecord
            }
            RecordError::Transactional => ErrorCode::InvalidTxnState,
            RecordError::Timestamp(_) => ErrorCode::InvalidTimestamp,
            RecordError::TooLarge { .. } => ErrorCode::MessageTooLarge,
        }
    }
}

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Codec {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Codec {
    /// Every codec, in the order of their numbers.
    pub const ALL: [Codec; 5] = [
        Codec::None,
        Codec::Gzip,
        Codec::Snappy,
        Codec::Lz4,
        Codec::Zstd,
    ];

    fn from_bits(bits: i16) -> Result<Codec, RecordError> {
        match bits {
            0 => Ok(Codec::None),
            1 => Ok(Codec::Gzip),
            2 => Ok(Codec::Snappy),
            3 => Ok(Codec::Lz4),
            4 => Ok(Codec::Zstd),
            other => Err(RecordError::UnknownCodec(other)),
        }
    }

    fn bits(self) -> i16 {
        match self {
            Codec::None => 0,
            Codec::Gzip => 1,
            Codec::Snappy => 2,
            Codec::Lz4 => 3,
            Codec::Zstd => 4,
        }
    }
}

/// Whose clock the batch's timestamps come from: `message.timestamp.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

/// The batch's attribute bits: codec (0–2), timestamp type (3), transactional (4), control (5),
/// delete horizon (6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes(pub i16);

impl Attributes {
    const CODEC: i16 = 0b111;
    const LOG_APPEND_TIME: i16 = 1 << 3;
    const TRANSACTIONAL: i16 = 1 << 4;
    const CONTROL: i16 = 1 << 5;
    const DELETE_HORIZON: i16 = 1 << 6;

    pub fn with_codec(self, codec: Codec) -> Self {
        Attributes(self.0 & !Self::CODEC | codec.bits())
    }

    pub fn with_timestamp_type(self, timestamp_type: TimestampType) -> Self {
        match timestamp_type {
            TimestampType::CreateTime => Attributes(self.0 & !Self::LOG_APPEND_TIME),
            TimestampType::LogAppendTime => Attributes(self.0 | Self::LOG_APPEND_TIME),
        }
    }

    pub(super) fn with_delete_horizon(self) -> Self {
        Attributes(self.0 | Self::DELETE_HORIZON)
    }

    pub fn codec(self) -> Result<Codec, RecordError> {
        Codec::from_bits(self.0 & Self::CODEC)
    }

    pub fn timestamp_type(self) -> TimestampType {
        match self.0 & Self::LOG_APPEND_TIME {
            0 => TimestampType::CreateTime,
            _ => TimestampType::LogAppendTime,
        }
    }

    pub fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    pub fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// The base timestamp isn't one: compaction keeps there when tombstones may go (KIP-534).
    pub fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }
}

/// The decoded header of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: Offset,
    /// Bytes after the length field: the whole batch has 12 more.
    pub batch_length: i32,
    pub leader_epoch: LeaderEpoch,
    pub magic: i8,
    pub crc: u32,
    pub attributes: Attributes,
    pub last_offset_delta: i32,
    pub base_timestamp: Timestamp,
    pub max_timestamp: Timestamp,
    /// -1 where the producer isn't idempotent.
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
}

impl BatchHeader {
    /// The header's size in bytes.
    pub const LEN: usize = 61;
    /// The bytes up to and with the length field, which `batch_length` does not count.
    pub const LENGTH_END: usize = 12;
    /// Where the checksum lies.
    pub const CRC_AT: usize = 17;
    /// What the checksum covers starts here.
    pub const CRC_FROM: usize = 21;

    /// Reads the header at the start of `bytes`, which may go on beyond the batch.
    ///
    /// Only the fields that say how to read the rest are checked: magic, and a batch length that
    /// can hold a header. `Err(TooShort)` means that more bytes are needed.
    pub fn decode(bytes: &[u8]) -> Result<BatchHeader, RecordError> {
        if bytes.len() < Self::LEN {
            return Err(RecordError::TooShort { have: bytes.len() });
        }
        let mut at = bytes;
        let header = BatchHeader {
            base_offset: Offset(at.get_i64()),
            batch_length: at.get_i32(),
            leader_epoch: LeaderEpoch(at.get_i32()),
            magic: at.get_i8(),
            crc: at.get_u32(),
            attributes: Attributes(at.get_i16()),
            last_offset_delta: at.get_i32(),
            base_timestamp: Timestamp(at.get_i64()),
            max_timestamp: Timestamp(at.get_i64()),
            producer_id: at.get_i64(),
            producer_epoch: at.get_i16(),
            base_sequence: at.get_i32(),
            record_count: at.get_i32(),
        };
        if header.magic != 2 {
            return Err(RecordError::Magic(header.magic));
        }
        if (header.batch_length as i64) < (Self::LEN - Self::LENGTH_END) as i64 {
            return Err(RecordError::Length {
                says: header.batch_length as i64 + Self::LENGTH_END as i64,
                have: bytes.len(),
            });
        }
        Ok(header)
    }

    /// Writes the header over the first [`Self::LEN`] bytes of `batch`, with the checksum of what
    /// the batch then holds. Panics if `batch` is shorter than a header.
    pub(super) fn encode(&self, batch: &mut [u8]) {
        let mut at = &mut batch[..Self::LEN];
        at.put_i64(self.base_offset.0);
        at.put_i32(self.batch_length);
        at.put_i32(self.leader_epoch.0);
        at.put_i8(self.magic);
        at.put_u32(0);
        at.put_i16(self.attributes.0);
        at.put_i32(self.last_offset_delta);
        at.put_i64(self.base_timestamp.0);
        at.put_i64(self.max_timestamp.0);
        at.put_i64(self.producer_id);
        at.put_i16(self.producer_epoch);
        at.put_i32(self.base_sequence);
        at.put_i32(self.record_count);
        let crc = crc32c::crc32c(&batch[Self::CRC_FROM..]);
        batch[Self::CRC_AT..Self::CRC_FROM].copy_from_slice(&crc.to_be_bytes());
    }

    /// The whole batch's size in bytes, header included.
    pub fn size(&self) -> usize {
        self.batch_length as usize + Self::LENGTH_END
    }

    /// The last record's offset. Stays below the end of all offsets, whatever the header says.
    pub fn last_offset(&self) -> Offset {
        let delta = i64::from(self.last_offset_delta);
        Offset(self.base_offset.0.saturating_add(delta))
    }

    /// The offset after the batch's last, with the same bound.
    pub fn next_offset(&self) -> Offset {
        Offset(self.last_offset().0.saturating_add(1))
    }

    /// Compares the checksum with the bytes of the whole batch.
    pub fn check_crc(&self, batch: &[u8]) -> Result<(), RecordError> {
        let is = crc32c::crc32c(&batch[Self::CRC_FROM..]);
        if is == self.crc {
            Ok(())
        } else {
            Err(RecordError::Checksum { says: self.crc, is })
        }
    }
}

/// One whole batch whose header and checksum are right: the bytes are exactly one batch.
#[derive(Clone, Debug)]
pub struct Batch {
    header: BatchHeader,
    bytes: Bytes,
}

impl Batch {
    /// Checks length, magic and checksum. What lies in the records isn't looked at.
    pub fn parse(bytes: Bytes) -> Result<Batch, RecordError> {
        let header = BatchHeader::decode(&bytes)?;
        if header.size() != bytes.len() {
            return Err(RecordError::Length {
                says: header.size() as i64,
                have: bytes.len(),
            });
        }
        header.check_crc(&bytes)?;
        Ok(Batch { header, bytes })
    }

    /// A batch that isn't what its header says, for tests of those who must notice.
    #[cfg(test)]
    pub(crate) fn rotten(bytes: Bytes, header: BatchHeader) -> Batch {
        Batch { header, bytes }
    }

    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What follows the header: the records, compressed by the header's codec.
    pub fn payload(&self) -> Bytes {
        self.bytes.slice(BatchHeader::LEN..)
    }
}
