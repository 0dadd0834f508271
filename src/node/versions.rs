//! What this node speaks with the others.

use std::ops::RangeInclusive;

use crate::engine::metadata::METADATA_VERSION;
use crate::protocol::peer::VERSIONS;

/// What a build speaks of what nodes have to agree on: by default this one. In chaos tests a node stands for one of
/// another build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The latest metadata version that it knows; it knows all before.
    pub metadata_max: u16,
    /// Of the peers' protocol.
    pub links: RangeInclusive<u16>,
}

impl Default for Versions {
    fn default() -> Versions {
        Versions {
            metadata_max: METADATA_VERSION,
            links: VERSIONS,
        }
    }
}
