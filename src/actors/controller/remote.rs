//! A change on its way to the active controller of another node, and its answer on its way back.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::handle::{ControllerHandle, Failed};
use crate::actors::peer::{PeerError, PeerHandle, PeerIdentity, PeerService};
use crate::engine::metadata::change::{Change, Decided, Intent};
use crate::engine::metadata::MetadataImage;
use crate::model::{ErrorCode, Refusal};
use crate::protocol::peer::{CallError, CallErrorCode, Kind};
use crate::protocol::Segments;

/// Nested as deep as a command of the metadata may be, and no deeper.
const DEPTH_MAX: usize = 32;

#[derive(Serialize, Deserialize)]
struct Asked {
    change: Change,
    intent: Intent,
}

#[derive(Serialize, Deserialize)]
enum Answered {
    Decided {
        decided: Vec<Decided>,
        /// Of an image that has what was decided.
        version: u64,
    },
    Refused(Refusal),
    /// The node isn't the active controller, and nothing has happened.
    NotActive,
}

/// Asks another node's controller. The number is the version of an image that has what was decided.
pub async fn change_there(
    peer: &PeerHandle,
    change: &Change,
    intent: Intent,
    patience: Duration,
) -> Result<(Vec<Decided>, u64), Failed> {
    let asked = Asked {
        change: change.clone(),
        intent,
    };
    let body = encode(&asked).map_err(unknown)?;
    let answer = peer.call(Kind::CONTROLLER, body, patience).await;
    let answer = answer.map_err(|error| failed(&error))?;
    match decode(&answer).map_err(unknown)? {
        Answered::Decided { decided, version } => Ok((decided, version)),
        Answered::Refused(refusal) => Err(Failed::Refused(refusal)),
        Answered::NotActive => Err(Failed::NotActive),
    }
}

/// With the fields' names, so that some can be added.
pub(super) fn encode<T: Serialize>(value: &T) -> Result<Segments, String> {
    let encoded = rmp_serde::to_vec_named(value).map_err(|error| error.to_string())?;
    Ok(Bytes::from(encoded).into())
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, String> {
    let mut decoder = rmp_serde::Deserializer::new(&bytes[..]);
    decoder.set_max_depth(DEPTH_MAX);
    T::deserialize(&mut decoder).map_err(|error| error.to_string())
}

fn failed(error: &PeerError) -> Failed {
    match error {
        PeerError::NotSent(_) => Failed::NotActive,
        PeerError::Refused(refused) => match refused.code {
            CallErrorCode::NotServed => Failed::NotActive,
            CallErrorCode::Overloaded => Failed::Refused(Refusal::new(
                ErrorCode::ThrottlingQuotaExceeded,
                "the controller is overloaded",
            )),
            _ => unknown(error.to_string()),
        },
        PeerError::Lost | PeerError::TimedOut(_) => unknown(error.to_string()),
    }
}

fn unknown(why: String) -> Failed {
    let message = format!("the change may have been made: {why}");
    Failed::Refused(Refusal::new(ErrorCode::RequestTimedOut, message))
}

/// Serves what other nodes ask of the active controller.
pub struct ChangeService {
    controller: ControllerHandle,
    images: watch::Receiver<Arc<MetadataImage>>,
}

impl ChangeService {
    pub fn new(
        controller: ControllerHandle,
        images: watch::Receiver<Arc<MetadataImage>>,
    ) -> ChangeService {
        ChangeService { controller, images }
    }
}

#[async_trait]
impl PeerService for ChangeService {
    async fn call(&self, _: PeerIdentity, body: Bytes) -> Result<Segments, CallError> {
        let malformed = |reason: String| CallError::new(CallErrorCode::Malformed, reason);
        let Asked { change, intent } = decode(&body).map_err(malformed)?;
        let answered = match self.controller.change_here(change, intent).await {
            Ok(decided) => Answered::Decided {
                decided,
                version: self.images.borrow().version(),
            },
            Err(Failed::Refused(refusal)) => Answered::Refused(refusal),
            Err(Failed::NotActive) => Answered::NotActive,
        };
        encode(&answered).map_err(malformed)
    }
}
