//! The records' bytes are Kafka's, and no history gives a partition to two members. What requests do is told
//! by `tests/scripts/consumer`.

mod history;
mod records;
