//! Changes that are decided together, so that they share a write of the metadata log.
//!
//! Each is decided on what those before it come to, as if it had waited for them: the outcome is that of
//! deciding one after the other.

use super::change::{Change, ChangeSettings, Decided, Intent};
use super::{MetadataCommand, MetadataImage};

/// What a batch comes to.
#[derive(Debug)]
pub struct ChangeBatch {
    /// For each change the outcome of each of its parts.
    pub decided: Vec<Vec<Decided>>,
    /// What carries out all of them, in order. They must take effect together: the later ones build on the
    /// earlier ones.
    pub commands: Vec<MetadataCommand>,
}

impl ChangeBatch {
    pub fn decide<'a>(
        changes: impl IntoIterator<Item = (&'a Change, Intent)>,
        image: &MetadataImage,
        settings: &ChangeSettings,
    ) -> ChangeBatch {
        let mut image = image.clone();
        let mut batch = ChangeBatch {
            decided: Vec::new(),
            commands: Vec::new(),
        };
        for (change, intent) in changes {
            let decided = change.decide(&image, settings);
            if intent == Intent::Apply {
                for command in decided.iter().flatten().flatten() {
                    image.replay(command);
                    batch.commands.push(command.clone());
                }
            }
            batch.decided.push(decided);
        }
        batch
    }
}
