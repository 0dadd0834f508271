//! The words that every other module speaks: ids, offsets, epochs, timestamps and error codes.
//!
//! Each is a newtype, so that an offset can't be passed for an epoch. Nothing here does I/O, and
//! nothing here imports another module.

mod error_code;
mod ids;
mod offset;
mod refusal;

pub use error_code::ErrorCode;
pub use ids::{
    BrokerId, ClusterId, DirectoryId, Incarnation, LeaderEpoch, PartitionEpoch, PartitionId,
    TopicId, TopicName, TopicPartition,
};
pub use offset::{Offset, Timestamp};
pub use refusal::{cut_message, Refusal, ERROR_MESSAGE_BYTES_MAX};
