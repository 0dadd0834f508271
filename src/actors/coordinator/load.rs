//! Loading: a core replays its partition's records.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Notify;

use super::Hosted;
use crate::actors::partition_handle::PartitionHandle;
use crate::actors::partition_leader::{
    FindEpochEnd, FindOffset, FirstBatch, Read, ReadFrom, Reader,
};
use crate::engine::coordinator::Record;
use crate::model::{ErrorCode, LeaderEpoch, Offset, Refusal};
use crate::protocol::list_offsets::EARLIEST_TIMESTAMP;
use crate::record::{Batch, BatchHeader, RecordError};

/// What is read at once.
const READ_BYTES: usize = 1024 * 1024;
/// The most that the records of one batch become when they are decompressed. Ours are not compressed.
const BATCH_RECORDS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Replays all that is in the log when the epoch begins, once it is committed: what a former leader has
/// acknowledged is among it, and this one may not know yet that it is committed.
pub(super) async fn load<C: Hosted>(
    partition: PartitionHandle,
    epoch: LeaderEpoch,
    mut core: C,
) -> Result<C, Refusal> {
    let end = partition.find_epoch_end(FindEpochEnd {
        current_leader_epoch: epoch,
        leader_epoch: epoch,
    });
    let end = end.await?.map_or(Offset::ZERO, |end| end.end_offset);
    let start = partition.find_offset(FindOffset {
        current_leader_epoch: epoch,
        timestamp: EARLIEST_TIMESTAMP,
    });
    let mut next = start.await?.offset;
    while next < end {
        let more = Arc::new(Notify::new());
        let reply = partition.read(Read {
            current_leader_epoch: epoch,
            offset: next,
            bytes_max: READ_BYTES,
            first: FirstBatch::Always,
            rack: None,
            reader: Some(Reader::new(&more)),
        });
        let ReadFrom::Here(plan) = reply.await?.found? else {
            // Only readers who name a rack are sent elsewhere.
            return Err(ErrorCode::NotLeaderOrFollower.into());
        };
        let bytes = plan.carry_out(READ_BYTES, FirstBatch::Always).await?;
        if bytes.is_empty() {
            more.notified().await;
            continue;
        }
        next = replay(&mut core, bytes)?;
        // Others of this arbiter want to get on too.
        tokio::task::yield_now().await;
    }
    Ok(core)
}

/// Replays whole batches, and says which offset follows them.
fn replay<C: Hosted>(core: &mut C, mut bytes: Bytes) -> Result<Offset, Refusal> {
    let mut next = Offset::ZERO;
    while !bytes.is_empty() {
        let size = BatchHeader::decode(&bytes).map_err(|e| corrupt(&e))?.size();
        if size > bytes.len() {
            let (says, have) = (size as i64, bytes.len());
            return Err(corrupt(&RecordError::Length { says, have }));
        }
        let batch = Batch::parse(bytes.split_to(size)).map_err(|e| corrupt(&e))?;
        next = batch.header().next_offset();
        if !batch.header().attributes.is_control() {
            replay_batch(core, &batch)?;
        }
    }
    Ok(next)
}

fn replay_batch<C: Hosted>(core: &mut C, batch: &Batch) -> Result<(), Refusal> {
    let records = batch.records(BATCH_RECORDS_BYTES_MAX);
    for record in &records.map_err(|e| corrupt(&e))? {
        let record = record.map_err(|e| corrupt(&e))?;
        let Some(key) = record.key else {
            log::warn!("offset {} has no key, and is passed over", record.offset);
            continue;
        };
        match C::Record::decode(key, record.value) {
            Ok(Some(known)) => core.replay(&known),
            Ok(None) => log::warn!("offset {} is of a kind that isn't known", record.offset),
            Err(why) => {
                let message = format!("the record at offset {}: {why}", record.offset);
                return Err(Refusal::new(ErrorCode::CorruptMessage, message));
            }
        }
    }
    Ok(())
}

fn corrupt(error: &RecordError) -> Refusal {
    Refusal::new(ErrorCode::CorruptMessage, error.to_string())
}
