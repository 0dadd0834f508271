//! FindCoordinator: the broker that leads the partition of `__consumer_offsets` in which a group lies.
//!
//! Who wants a transaction is refused at once: there are none yet, and it can't go on without one.
//!
//! Older librdkafkas look for this API's version 0 to tell whether a broker takes lz4.

use super::{offsets_topic, ApiContext};
use crate::actors::group_coordinator::OFFSETS_TOPIC;
use crate::engine::group::partition_of;
use crate::model::{BrokerId, ErrorCode, Refusal};
use crate::protocol::find_coordinator::{
    Coordinator, Request, Response, KEY_GROUP, KEY_SHARE, KEY_TRANSACTION,
};

pub async fn answer(context: &ApiContext, request: Request) -> Response {
    let refusal = match request.key_type {
        KEY_GROUP => offsets_topic::ensure(context).await.err(),
        KEY_TRANSACTION => Some(invalid("this broker has no transactions")),
        KEY_SHARE => Some(invalid("this broker has no share groups")),
        _ => Some(invalid("this type of coordinator isn't known")),
    };
    let refusal = refusal.map(|refusal| match refusal.code {
        ErrorCode::InvalidRequest => refusal,
        _ => Refusal::new(ErrorCode::CoordinatorNotAvailable, refusal.to_string()),
    });
    let find = |key: String| {
        let found = match &refusal {
            Some(refusal) => Err(refusal.clone()),
            None => find(context, &key),
        };
        found.unwrap_or_else(|refusal| Coordinator {
            key,
            node_id: BrokerId::NONE,
            host: String::new(),
            port: -1,
            error_code: refusal.code,
            error_message: refusal.into_message(),
        })
    };
    Response {
        coordinators: request.coordinator_keys.into_iter().map(find).collect(),
        ..Default::default()
    }
}

fn invalid(message: &str) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, message)
}

fn find(context: &ApiContext, group: &str) -> Result<Coordinator, Refusal> {
    let not_available = |message: &str| Refusal::new(ErrorCode::CoordinatorNotAvailable, message);
    let image = context.image();
    let topic = image.topic_by_name(OFFSETS_TOPIC);
    let topic = topic.ok_or_else(|| not_available("the topic of offsets isn't known here yet"))?;
    let partitions = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    let partition = topic.partition(partition_of(group, partitions));
    let leader = partition.map_or(BrokerId::NONE, |partition| partition.leader);
    let is_lost = context.just_lost().contains(&leader);
    let broker = image.broker(leader).filter(|b| !b.is_fenced() && !is_lost);
    let endpoint = broker.and_then(|broker| broker.endpoint(context.listener.name));
    let endpoint =
        endpoint.ok_or_else(|| not_available("the group's partition has no leader now"))?;
    Ok(Coordinator {
        key: group.to_owned(),
        node_id: leader,
        host: endpoint.host.clone(),
        port: endpoint.port.into(),
        error_code: ErrorCode::None,
        error_message: None,
    })
}
