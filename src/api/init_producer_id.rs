//! InitProducerId: an identity for an idempotent producer, from a block that the metadata gave
//! this broker (KIP-730).

use std::ops::Range;

use tokio::sync::Mutex;

use super::ApiContext;
use crate::engine::metadata::producer_ids::allocate_producer_ids;
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
    let node = context.node;
    let change = context.controller.change(move |image| {
        let epoch = image.broker(node).map(|broker| broker.epoch);
        let allocated = allocate_producer_ids(image, node, epoch.unwrap_or_default());
        match allocated {
            Ok((block, commands)) => (commands, Ok(block)),
            Err(refusal) => (Vec::new(), Err(refusal)),
        }
    });
    let block = change.await??;
    Ok(block.first..block.first + block.len)
}
