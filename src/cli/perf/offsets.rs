//! Where partitions start and end, as loads ask for it.

use std::collections::HashMap;

use super::super::error::CliError;
use super::load::{Share, Topic};
use super::wire::Wire;
use crate::model::{LeaderEpoch, Offset, Timestamp};
use crate::protocol::list_offsets;

/// Where partitions start, end, or have a time: an offset for each of `partitions`.
pub fn offsets(
    wire: &mut Wire,
    topic: &str,
    partitions: &[i32],
    timestamp: Timestamp,
) -> Result<HashMap<i32, Offset>, CliError> {
    let ask = |partition: &i32| list_offsets::ListOffsetsPartition {
        partition_index: *partition,
        current_leader_epoch: LeaderEpoch::NONE,
        timestamp,
    };
    let response = wire.call::<list_offsets::Api>(&list_offsets::Request {
        topics: vec![list_offsets::ListOffsetsTopic {
            name: topic.to_owned(),
            partitions: partitions.iter().map(ask).collect(),
        }],
        ..Default::default()
    })?;
    let mut offsets = HashMap::new();
    for partition in response
        .topics
        .into_iter()
        .flat_map(|topic| topic.partitions)
    {
        wire.check("ListOffsets", partition.error_code)?;
        offsets.insert(partition.partition_index, partition.offset);
    }
    match partitions.iter().find(|p| !offsets.contains_key(p)) {
        None => Ok(offsets),
        Some(missing) => Err(CliError::failed(format!(
            "ListOffsets says nothing of partition {missing}"
        ))),
    }
}

/// The ends of a topic's partitions: a connection to each leader.
pub struct Ends<'a> {
    topic: &'a str,
    leaders: Vec<(Wire, Share)>,
}

impl Ends<'_> {
    pub fn of(topic: &Topic) -> Result<Ends<'_>, CliError> {
        let connect = |share: Share| Ok((Wire::connect(&share.address)?, share));
        let leaders: Result<_, CliError> = topic.shares(1).into_iter().map(connect).collect();
        Ok(Ends {
            topic: &topic.name,
            leaders: leaders?,
        })
    }

    /// All high watermarks together: it grows by one for each record that is written.
    pub fn sum(&mut self) -> Result<u64, CliError> {
        let mut sum = 0;
        for (wire, share) in &mut self.leaders {
            let at = list_offsets::LATEST_TIMESTAMP;
            let ends = offsets(wire, self.topic, &share.partitions, at)?;
            let ends = ends.values().map(|end| u64::try_from(end.0).unwrap_or(0));
            sum += ends.sum::<u64>();
        }
        Ok(sum)
    }
}
