//! What lies in a broker's files, whatever its clients believe.

use std::ops::ControlFlow;

use klamm::record::BatchHeader;
use klamm::storage::fs::RealFs;
use klamm::storage::log::inspect;

use crate::broker_process::Broker;

/// The headers of all batches in partition 0 of the only topic.
pub fn batches(broker: &Broker) -> Vec<BatchHeader> {
    let dirs = broker.partition_dirs(0);
    assert_eq!(dirs.len(), 1, "{dirs:?}");
    let mut headers = Vec::new();
    let bad = inspect(&RealFs, &dirs[0], |batch| {
        headers.push(batch.header);
        ControlFlow::Continue(())
    });
    assert_eq!(bad.unwrap(), None);
    headers
}
