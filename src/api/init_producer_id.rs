//! InitProducerId: an identity for an idempotent producer, from a block that the metadata gave
//! this broker (KIP-730).

use std::ops::Range;

use tokio::sync::Mutex;

use super::ApiContext;
use crate::engine::metadata::change::Change;
use crate::engine::metadata::producer_ids::allocated;
use crate::model::{ErrorCode, Refusal};
use crate::protocol::init_producer_id::{Request, Response};

/// The producer ids that are this broker's to give.
#[derive(Default)]
pub struct ProducerIds(Mutex<Range<i64>>);

pub async fn answer(context: &ApiContext, request: Request) -> Response {
    match next_id(context, &request).await {
        Ok(producer_id) => Response {
            error_code: ErrorCode::None,
            producer_id,
            producer_epoch: 0,
            ..Default::default()
        },
        Err(refusal) => {
            log::debug!("no producer id: {refusal}");
            Response {
                error_code: refusal.code,
                producer_id: -1,
                producer_epoch: -1,
                ..Default::default()
            }
        }
    }
}

async fn next_id(context: &ApiContext, request: &Request) -> Result<i64, Refusal> {
    if request.transactional_id.is_some() {
        return Err(Refusal::new(
            ErrorCode::InvalidRequest,
            "there are no transactions",
        ));
    }
    let mut ids = context.producer_ids.0.lock().await;
    if ids.is_empty() {
        *ids = next_block(context).await?;
    }
    ids.next()
        .ok_or_else(|| ErrorCode::UnknownServerError.into())
}

async fn next_block(context: &ApiContext) -> Result<Range<i64>, Refusal> {
    let broker = context.node;
    let registered = context.image().broker(broker).map(|broker| broker.epoch);
    let change = Change::AllocateProducerIds {
        broker,
        broker_epoch: registered.unwrap_or_default(),
    };
    let commands = context.controller.change_one(change).await?;
    allocated(&commands).ok_or_else(|| ErrorCode::UnknownServerError.into())
}
