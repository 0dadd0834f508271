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
            // It can't read what it doesn't know.
            CallErrorCode::Malformed => {
                log::warn!("the active controller can't read a change: {error}");
                Failed::Refused(Refusal::new(
                    ErrorCode::UnsupportedVersion,
                    "the active controller is of a build that doesn't know this change",
                ))
            }
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
        let error = |code| move |reason: String| CallError::new(code, reason);
        let asked = decode(&body).map_err(error(CallErrorCode::Malformed))?;
        let Asked { change, intent } = asked;
        let answered = match self.controller.change_here(change, intent).await {
            Ok(decided) => Answered::Decided {
                decided,
                version: self.images.borrow().version(),
            },
            Err(Failed::Refused(refusal)) => Answered::Refused(refusal),
            Err(Failed::NotActive) => Answered::NotActive,
        };
        encode(&answered).map_err(error(CallErrorCode::Failed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BrokerId;

    #[test]
    fn a_field_of_a_later_build_is_passed_over_and_a_change_of_one_is_not_read() {
        #[derive(Serialize)]
        enum LaterChange {
            UnregisterBroker { broker: BrokerId, why: &'static str },
            PaintTheTown,
        }
        #[derive(Serialize)]
        struct LaterAsked {
            change: LaterChange,
            intent: Intent,
            colour: u8,
        }
        let asked = |change| {
            let asked = LaterAsked {
                change,
                intent: Intent::Apply,
                colour: 3,
            };
            decode::<Asked>(&Bytes::from(rmp_serde::to_vec_named(&asked).unwrap()))
        };
        let broker = BrokerId(7);
        let read = asked(LaterChange::UnregisterBroker { broker, why: "old" }).unwrap();
        assert_eq!(read.change, Change::UnregisterBroker { broker });
        assert!(asked(LaterChange::PaintTheTown).is_err());
    }
}
