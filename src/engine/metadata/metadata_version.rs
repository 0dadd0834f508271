//! Which metadata version the cluster speaks, and when it goes on to a later one.
//!
//! A node that reads a command of a later version than its build knows has to stop, so nothing of that version may be
//! proposed before all nodes know it. Each broker says at its registration what its build knows, as KRaft's brokers
//! do with their features. A change whose commands need a later version than the cluster speaks raises it in the same
//! proposal, to just what it needs, if all who are registered know it, and all voters. Else it is refused, and the
//! refusal names those who don't (`docs/adr/0025-the-first-change-that-needs-it-raises-the-version.md`).
//!
//! So the nodes of a cluster are upgraded one at a time, in any order, and as long as nobody has asked for anything
//! new they can go back. Registrations are replayed in the order in which changes are, hence no node of an earlier build
//! can slip in while the version is raised: it registers before, and counts, or after, and is refused.

use super::change::Decided;
use super::register_broker::BrokerRegistration;
use super::{MetadataCommand, MetadataImage, Refusal};
use crate::model::{BrokerId, ErrorCode};

/// What builds know at most that don't say what they know.
const UNSAID_VERSION_MAX: u16 = 5;

/// The commands, after the one that raises the metadata version if they need a later one. `gone` isn't asked.
///
/// Refused with UNSUPPORTED_VERSION if somebody is not known to know it.
pub(super) fn raised_for(
    image: &MetadataImage,
    commands: Vec<MetadataCommand>,
    voters: &[BrokerId],
    gone: Option<BrokerId>,
) -> Decided {
    let version = commands.iter().map(MetadataCommand::needs).max();
    let Some(version) = version.filter(|version| *version > image.metadata_version()) else {
        return Ok(commands);
    };
    let behind = held_back_by(image, version, voters, gone);
    if !behind.is_empty() {
        let message = format!(
            "This needs metadata version {version}, and the cluster speaks {}, because {}. It can be done when \
             all nodes run a build that knows version {version}.",
            image.metadata_version(),
            behind.join(", ")
        );
        return Err(Refusal::new(ErrorCode::UnsupportedVersion, message));
    }
    let raise = MetadataCommand::SetMetadataVersion { version };
    Ok([raise].into_iter().chain(commands).collect())
}

/// What is said of each node that isn't known to know this version.
fn held_back_by(
    image: &MetadataImage,
    version: u16,
    voters: &[BrokerId],
    gone: Option<BrokerId>,
) -> Vec<String> {
    let counts = |id: BrokerId| gone != Some(id);
    let brokers = image.brokers().filter(|broker| counts(broker.id));
    let behind = brokers.filter_map(|broker| match broker.metadata_version_max {
        Some(known) if known >= version => None,
        Some(known) => Some(format!("broker {} knows none above {known}", broker.id)),
        None => Some(format!("broker {} doesn't say what it knows", broker.id)),
    });
    let is_missing = |id: &BrokerId| counts(*id) && image.broker(*id).is_none();
    let missing = voters.iter().copied().filter(is_missing);
    let missing = missing.map(|id| format!("voter {id} isn't registered"));
    behind.chain(missing).collect()
}

/// Refuses a broker that doesn't know what the cluster speaks.
pub(super) fn check_knows(
    image: &MetadataImage,
    broker: &BrokerRegistration,
) -> Result<(), Refusal> {
    let known = broker.metadata_version_max.unwrap_or(UNSAID_VERSION_MAX);
    let spoken = image.metadata_version();
    if known >= spoken {
        return Ok(());
    }
    let message = format!(
        "Broker {} knows no metadata version above {known}, and the cluster speaks {spoken}: it needs a later build.",
        broker.id
    );
    Err(Refusal::new(ErrorCode::UnsupportedVersion, message))
}
