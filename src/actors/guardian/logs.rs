//! What the guardian does to the logs of its wards: opens them, puts corrupt ones aside, and removes those that have
//! gone. All of it waits for the disk, and for whoever is still at work on the log.

use std::sync::Arc;

use super::{Opening, Wards};
use crate::actors::partition_handle::PartitionHandle;
use crate::engine::guardian::{Fate, IfLost, LastUser, Unopened};
use crate::model::{PartitionId, Timestamp};
use crate::storage::data_dir::DataDirError;
use crate::storage::lease::Lease;
use crate::storage::log::{Log, LogConfig, LogError, Shutdown};
use crate::storage::syncer::abort_if_fatal;

/// Off the arbiter.
pub(super) fn open_log(
    wards: &Wards,
    opening: &Opening,
    (config, left): (LogConfig, Shutdown),
    lease: Lease,
) -> Result<Log, Unopened> {
    let id = opening.id;
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
    let broken = |error: DataDirError| Unopened::Broken(error.to_string());
    if opening.last_user == LastUser::CorruptReplica {
        put_aside(wards, id).map_err(broken)?;
    }
    let opened = match (open(), opening.if_lost) {
        (Err(error @ LogError::Vanished { .. }), IfLost::BeginEmpty) => {
            log::warn!("{error}: others have all that it had, so it is filled again by its leader");
            // Its witness goes first, and this is on disk before there is a new log.
            wards.data_dir.remove_log(&id).map_err(broken)?;
            open()
        }
        (Err(error @ LogError::Corrupt { .. }), IfLost::BeginEmpty) => {
            log::error!("{error}");
            put_aside(wards, id).map_err(broken)?;
            open()
        }
        (opened, _) => opened,
    };
    opened.map_err(|error| match error {
        LogError::Vanished { .. } => Unopened::Missing(error.to_string()),
        LogError::Corrupt { .. } => Unopened::Corrupt(error.to_string()),
        error if error.is_full_disk() => Unopened::NoRoom(error.to_string()),
        error => Unopened::Broken(error.to_string()),
    })
}

/// Others have all that a corrupt log has, and nobody counts on it.
fn put_aside(wards: &Wards, id: PartitionId) -> Result<(), DataDirError> {
    let aside = wards.data_dir.put_aside(&id)?;
    log::error!(
        "the corrupt log of {id} is put aside as {}, and filled again by its leader",
        aside.display()
    );
    Ok(())
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
