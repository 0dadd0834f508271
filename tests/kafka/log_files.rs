//! What lies in a broker's files, whatever its clients believe.

use std::ops::ControlFlow;

use klamm::record::BatchHeader;
use klamm::storage::fs::RealFs;
use klamm::storage::log::inspect;

use crate::broker_process::Broker;

/// The headers of all batches in partition 0 of the only topic that was written to. The broker's own is
/// there too, since librdkafka looks for its group's coordinator.
pub fn batches(broker: &Broker) -> Vec<BatchHeader> {
    let logs = broker.partition_dirs(0).into_iter().map(|dir| {
        let mut headers = Vec::new();
        let bad = inspect(&RealFs, &dir, |batch| {
            headers.push(batch.header);
            ControlFlow::Continue(())
        });
        assert_eq!(bad.unwrap(), None);
        headers
    });
    let mut written: Vec<_> = logs.filter(|headers| !headers.is_empty()).collect();
    assert_eq!(written.len(), 1);
    written.pop().unwrap()
}
