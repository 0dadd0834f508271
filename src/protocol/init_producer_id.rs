//! InitProducerId: an identity for an idempotent producer (KIP-98).

use serde::{Deserialize, Serialize};

use crate::model::ErrorCode;

pub struct Api;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Must be nil: this broker has no transactions yet.
    pub transactional_id: Option<String>,
    pub transaction_timeout_ms: i32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Response {
    pub error_code: ErrorCode,
    pub producer_id: i64,
    pub producer_epoch: i16,
}
