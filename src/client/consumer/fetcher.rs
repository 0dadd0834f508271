//! Fetches for a consumer: decides what to fetch from whom, and takes in what comes.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::{sleep_until, Instant};

use super::state::{cut_batches, request, ByLeader, Wanted};
use super::{OffsetReset, Shared};
use crate::client::cluster::is_stale_metadata;
use crate::client::connection::Purpose;
use crate::client::ClientError;
use crate::model::{BrokerId, ErrorCode};
use crate::protocol::fetch;
use crate::protocol::list_offsets::{EARLIEST_TIMESTAMP, LATEST_TIMESTAMP};

/// Runs as long as the consumer lives; its fetches end with it.
pub(super) async fn drive(shared: Arc<Shared>) {
    let mut fetches = JoinSet::new();
    loop {
        let (wanted, later) = shared.state().fetchable(shared.config.buffer_bytes);
        for (leader, wanted) in by_leader(&shared, wanted).await {
            let mut state = shared.state();
            wanted.iter().for_each(|wanted| state.begin_fetch(wanted));
            drop(state);
            fetches.spawn(fetch(shared.clone(), leader, wanted));
        }
        let pause = async {
            match later {
                Some(later) => sleep_until(later).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shared.wanted.notified() => {}
            () = pause => {}
            Some(_) = fetches.join_next() => {}
        }
    }
}

/// Groups partitions; those without a leader pause.
async fn by_leader(shared: &Shared, wanted: Vec<Wanted>) -> ByLeader {
    let mut groups = ByLeader::new();
    for wanted in wanted {
        let (topic, partition) = &wanted.key;
        match shared.client.leader(topic, *partition).await {
            Ok(leader) => groups.entry(leader).or_default().push(wanted),
            Err(error) => {
                try_again(shared, &wanted, error).await;
                // The driver has to look again at when its pause ends.
                shared.wanted.notify_one();
                shared.came.notify_one();
            }
        }
    }
    groups
}

async fn fetch(shared: Arc<Shared>, leader: BrokerId, wanted: Vec<Wanted>) {
    match ask(&shared, leader, &wanted).await {
        Ok(response) if response.error_code.is_ok() => {
            take_in(&shared, &wanted, response).await;
        }
        Ok(response) => {
            for wanted in &wanted {
                let error = partition_error(wanted, response.error_code);
                try_again(&shared, wanted, error).await;
            }
        }
        Err(error) => {
            for wanted in &wanted {
                try_again(&shared, wanted, error.clone()).await;
            }
        }
    }
    shared.came.notify_one();
}

async fn ask(
    shared: &Shared,
    leader: BrokerId,
    wanted: &[Wanted],
) -> Result<fetch::Response, ClientError> {
    let connection = shared.client.broker(leader, Purpose::Fetch).await?;
    let request = request(wanted, &shared.config);
    connection
        .call::<fetch::Api>(&request, shared.config.max_wait)
        .await
}

async fn take_in(shared: &Shared, wanted: &[Wanted], response: fetch::Response) {
    for topic in &response.responses {
        for data in &topic.partitions {
            let asked = wanted.iter().find(|wanted| {
                *wanted.key.0 == *topic.topic && wanted.key.1 == data.partition_index
            });
            if let Some(asked) = asked {
                take_in_partition(shared, asked, data).await;
            }
        }
    }
    for wanted in wanted {
        let answered = response.responses.iter().any(|topic| {
            let mut partitions = topic.partitions.iter();
            *wanted.key.0 == *topic.topic
                && partitions.any(|data| data.partition_index == wanted.key.1)
        });
        if !answered {
            let error = partition_error(wanted, ErrorCode::UnknownServerError);
            shared.state().halt(wanted, error);
        }
    }
}

async fn take_in_partition(shared: &Shared, wanted: &Wanted, data: &fetch::PartitionData) {
    match data.error_code {
        ErrorCode::None => {
            let content = cut_batches(wanted, &data.records, &shared.config);
            let content = content.map_err(|error| ClientError::Corrupt {
                topic: wanted.key.0.to_string(),
                partition: wanted.key.1,
                offset: wanted.from,
                error,
            });
            let bytes = data.records.0.len();
            shared
                .state()
                .take_in(wanted, data.high_watermark, content, bytes);
        }
        ErrorCode::OffsetOutOfRange => reset_offset(shared, wanted).await,
        code => try_again(shared, wanted, partition_error(wanted, code)).await,
    }
}

async fn reset_offset(shared: &Shared, wanted: &Wanted) {
    let (topic, partition) = &wanted.key;
    let timestamp = match shared.config.offset_reset {
        OffsetReset::Earliest => EARLIEST_TIMESTAMP,
        OffsetReset::Latest => LATEST_TIMESTAMP,
        OffsetReset::Error => {
            let error = ClientError::OffsetOutOfRange {
                topic: topic.to_string(),
                partition: *partition,
                offset: wanted.from,
            };
            return shared.state().halt(wanted, error);
        }
    };
    match shared
        .client
        .admin()
        .list_offset(topic, *partition, timestamp)
        .await
    {
        Ok(offset) => shared.state().reset(wanted, offset),
        Err(error) => try_again(shared, wanted, error).await,
    }
}

/// Pauses a partition, and asks for its leader if it may be another one. An error that no retry
/// helps is told.
async fn try_again(shared: &Shared, wanted: &Wanted, error: ClientError) {
    if !error.is_retriable() {
        return shared.state().halt(wanted, error);
    }
    log::debug!("fetching {}-{} again: {error}", wanted.key.0, wanted.key.1);
    let failures = shared.state().failed(wanted);
    let since = Instant::now();
    if error.code().is_none_or(is_stale_metadata) {
        // If this fails, so will the next attempt.
        let _ = shared.client.topic_since(&wanted.key.0, since).await;
    }
    let until = since + shared.client.config().backoff(failures);
    shared.state().pause(wanted, until);
}

fn partition_error(wanted: &Wanted, code: ErrorCode) -> ClientError {
    ClientError::Partition {
        topic: wanted.key.0.to_string(),
        partition: wanted.key.1,
        code,
        message: String::new(),
    }
}
