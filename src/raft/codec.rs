//! How what Raft keeps is written: MessagePack with the fields' names, so that fields can be added.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::RaftError;
use crate::engine::metadata::{MetadataCommand, ProposalId};

/// Metadata is nested a few levels; what is deeper isn't ours.
const DEPTH_MAX: usize = 32;

/// What one entry of the Raft log holds: proposals that waited for the same write.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct LogBatch {
    pub proposals: Vec<LoggedProposal>,
}

/// One proposal, its commands encoded by whoever proposed it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct LoggedProposal {
    pub id: ProposalId,
    pub commands: Bytes,
}

/// async-raft's answer to a write.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Applied {
    pub index: u64,
}

impl async_raft::AppData for LogBatch {}
impl async_raft::AppDataResponse for Applied {}

/// Fails only for types that MessagePack can't hold, of which there are none here.
pub(super) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, RaftError> {
    let encoded = rmp_serde::to_vec_named(value);
    encoded.map_err(|error| RaftError::Damaged(format!("it can't be written: {error}")))
}

/// `what` names the value in the error.
pub(super) fn decode<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, RaftError> {
    let mut decoder = rmp_serde::Deserializer::new(bytes);
    decoder.set_max_depth(DEPTH_MAX);
    T::deserialize(&mut decoder)
        .map_err(|error| RaftError::Damaged(format!("{what} can't be read: {error}")))
}

/// The commands of a proposal. Errs if one of them needs a later metadata version than this node knows.
pub(super) fn decode_commands(
    bytes: &[u8],
    metadata_version_max: u16,
) -> Result<Vec<MetadataCommand>, RaftError> {
    let (needed, commands) = match decode::<Vec<MetadataCommand>>("a metadata command", bytes) {
        Ok(commands) => (
            commands.iter().map(MetadataCommand::needs).max(),
            Ok(commands),
        ),
        // A command that only a later build knows comes with the one that says so.
        Err(error) => (raised_to(bytes), Err(error)),
    };
    check_version(needed.unwrap_or(0), metadata_version_max)?;
    commands
}

/// Errs if the cluster speaks a later metadata version than this node knows.
pub(super) fn check_version(spoken: u16, known: u16) -> Result<(), RaftError> {
    match spoken <= known {
        true => Ok(()),
        false => Err(RaftError::LaterVersion { spoken, known }),
    }
}

/// The metadata version that a proposal raises the cluster to, whatever else is in it.
fn raised_to(bytes: &[u8]) -> Option<u16> {
    /// The fields of any command.
    #[derive(Deserialize)]
    struct Fields {
        version: Option<u16>,
    }
    let commands: Vec<BTreeMap<String, Fields>> = decode("any command", bytes).ok()?;
    let raises = commands
        .iter()
        .filter_map(|command| command.get("SetMetadataVersion")?.version);
    raises.max()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a later build writes it.
    #[derive(Serialize)]
    enum Later {
        SetMetadataVersion { version: u16 },
        PaintTheTown { colour: &'static str },
    }

    #[test]
    fn a_proposal_of_a_later_build_is_no_damaged_one() {
        let raise = Later::SetMetadataVersion { version: 6 };
        let paint = Later::PaintTheTown { colour: "red" };
        let proposal = encode(&[&raise, &paint]).unwrap();
        let refused = decode_commands(&proposal, 5).unwrap_err();
        let named = RaftError::LaterVersion {
            spoken: 6,
            known: 5,
        };
        assert_eq!(refused.to_string(), named.to_string());
        // Of a build that knows the version and not the command, and of one that was told of neither.
        let damaged = decode_commands(&proposal, 6).unwrap_err();
        assert!(matches!(damaged, RaftError::Damaged(_)), "{damaged}");
        let damaged = decode_commands(&encode(&[paint]).unwrap(), 5).unwrap_err();
        assert!(matches!(damaged, RaftError::Damaged(_)), "{damaged}");
    }

    #[test]
    fn a_command_of_a_later_version_is_not_replayed() {
        let command = MetadataCommand::ReadmitVoter {
            voter: crate::model::BrokerId(1),
            directory: crate::model::DirectoryId(uuid::Uuid::from_u128(1)),
        };
        let proposal = encode(&[command]).unwrap();
        assert_eq!(decode_commands(&proposal, 3).unwrap().len(), 1);
        let refused = decode_commands(&proposal, 2).unwrap_err();
        assert!(matches!(
            refused,
            RaftError::LaterVersion {
                spoken: 3,
                known: 2
            }
        ));
    }
}
