//! A voter whose copy of the metadata is lost for good takes part with a new one.
//!
//! When this is committed, a majority of the others has everything that was committed before, since the voter
//! itself isn't there; so nothing depends any more on what the lost copy had
//! (`docs/adr/0012-a-voter-is-its-copy-of-the-metadata.md`).

use super::{MetadataCommand, MetadataImage, Refusal};
use crate::model::{BrokerId, DirectoryId, ErrorCode};

/// Lets a voter in with this copy. Refused while the broker is there: then its known copy isn't lost.
pub fn readmit_voter(
    image: &MetadataImage,
    voter: BrokerId,
    directory: DirectoryId,
) -> Result<Vec<MetadataCommand>, Refusal> {
    let Some(broker) = image.broker(voter) else {
        let message = format!("There is no broker {voter}.");
        return Err(Refusal::new(ErrorCode::BrokerIdNotRegistered, message));
    };
    if !broker.is_fenced() {
        let message = format!("Broker {voter} is there, so its copy of the metadata isn't lost.");
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    if image.readmitted(voter) == Some(directory) {
        return Ok(Vec::new());
    }
    Ok(vec![MetadataCommand::ReadmitVoter { voter, directory }])
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::engine::metadata::BrokerState;
    use crate::model::Incarnation;

    fn image(state: BrokerState) -> MetadataImage {
        let mut image = MetadataImage::default();
        image.replay(&MetadataCommand::RegisterBroker {
            id: BrokerId(2),
            incarnation: Incarnation(Uuid::from_u128(1)),
            endpoints: Vec::new(),
            rack: None,
            state,
            metadata_version_max: None,
        });
        image
    }

    #[test]
    fn only_who_is_not_there_is_readmitted_and_with_one_copy() {
        let copy = DirectoryId(Uuid::from_u128(7));
        let readmit = |image: &MetadataImage, voter| readmit_voter(image, BrokerId(voter), copy);
        let gone = image(BrokerState::Fenced);
        let unknown = readmit(&gone, 1).unwrap_err();
        assert_eq!(unknown.code, ErrorCode::BrokerIdNotRegistered);
        let there = readmit(&image(BrokerState::Unfenced), 2).unwrap_err();
        assert_eq!(there.code, ErrorCode::InvalidRequest);
        let mut gone = gone;
        for command in readmit(&gone, 2).unwrap() {
            gone.replay(&command);
        }
        assert_eq!(gone.readmitted(BrokerId(2)), Some(copy));
        assert_eq!(readmit(&gone, 2), Ok(Vec::new()));
    }
}
