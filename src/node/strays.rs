//! Logs that are on the disk without a replica of this node: what becomes of them at its start.

use crate::engine::guardian::has_moved_away;
use crate::engine::metadata::MetadataImage;
use crate::model::{BrokerId, Incarnation, PartitionId};
use crate::storage::data_dir::{DataDir, DataDirError};

/// Removes the logs of topics whose deletion, and of partitions whose moving away, a crash has cut off; and
/// names those of topics that the metadata doesn't know: perhaps it was lost, so they stay.
///
/// Nobody may have opened a log yet.
pub fn settle_strays(
    image: &MetadataImage,
    data_dir: &DataDir,
    node: BrokerId,
    incarnation: Incarnation,
) -> Result<(), DataDirError> {
    let is_here = |id: &PartitionId| {
        let partition = image.partition(*id);
        partition.is_some_and(|partition| partition.replicas.contains(&node))
    };
    for id in data_dir.traces()?.into_iter().filter(|id| !is_here(id)) {
        let dir = data_dir.log_dir(&id);
        let why = if image.was_deleted(id.topic_id) {
            "its topic was deleted"
        } else if has_moved_away(image, node, incarnation, id) {
            "other brokers have its partition"
        } else {
            let whose = match image.partition(id) {
                Some(_) => "to a partition that has no replica here as far as is known yet",
                None => "to no topic",
            };
            log::warn!("{} belongs {whose}, and is left alone", dir.display());
            continue;
        };
        log::info!("removing {}: {why}", dir.display());
        if let Err(error) = data_dir.remove_log(&id) {
            log::error!("{error}; the next start tries again");
        }
    }
    Ok(())
}
