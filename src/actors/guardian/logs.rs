//! What the guardian does to the logs of its wards: opens them, and removes those that have gone. Both wait for the
//! disk, and for whoever is still at work on the log.

use std::sync::Arc;

use super::Wards;
use crate::actors::partition_handle::PartitionHandle;
use crate::engine::guardian::{Fate, IfMissing, Unopened};
use crate::model::{PartitionId, Timestamp};
use crate::storage::lease::Lease;
use crate::storage::log::{Log, LogConfig, LogError, Shutdown};
use crate::storage::syncer::abort_if_fatal;

/// Off the arbiter.
pub(super) fn open_log(
    wards: &Wards,
    id: PartitionId,
    (config, left): (LogConfig, Shutdown),
    if_missing: IfMissing,
    lease: Lease,
) -> Result<Log, Unopened> {
    let home = wards.data_dir.log_home(&id);
    let open = || {
        let (file_system, config) = (wards.file_system.clone(), config.clone());
        let opened = Log::open(
            file_system,
            &home,
            config,
            left,
            Timestamp::now(),
            lease.clone(),
        );
        opened.inspect_err(abort_if_fatal)
    };
    let opened = match (open(), if_missing) {
        (Err(error @ LogError::Vanished { .. }), IfMissing::BeginEmpty) => {
            log::warn!("{error}: others have all that it had, so it is filled again by its leader");
            // Its witness goes first, and this is on disk before there is a new log.
            let removed = wards.data_dir.remove_log(&id);
            removed.map_err(|error| Unopened::Broken(error.to_string()))?;
            open()
        }
        (opened, _) => opened,
    };
    opened.map_err(|error| match error {
        LogError::Vanished { .. } => Unopened::Missing(error.to_string()),
        error => Unopened::Broken(error.to_string()),
    })
}

/// Does to the data of a closed log what its fate says, once nobody is at work on it.
pub(super) async fn settle_data(wards: Arc<Wards>, handle: PartitionHandle, fate: Fate) {
    if fate == Fate::Kept {
        return;
    }
    let id = handle.id();
    let _lease = handle.lease_log().await;
    let removed = actix_rt::task::spawn_blocking(move || wards.data_dir.remove_log(&id)).await;
    match removed {
        Ok(Ok(())) => {}
        Ok(Err(error)) => log::error!("the deleted data of {id} could not be removed: {error}"),
        Err(panic) => log::error!("removing the deleted data of {id}: {panic}"),
    }
}
