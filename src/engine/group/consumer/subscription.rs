//! What the members of a group subscribe to: names, and regular expressions over the names of all topics.
//!
//! The expressions are resolved here, and what they meant is recorded. A hash of the topics that the group
//! subscribes to says whether they have changed since the group's epoch began: a topic was created or
//! deleted, got more partitions, or its replicas moved to other racks.

use std::collections::BTreeSet;
use std::sync::Arc;

use regex::{Regex, RegexBuilder};

use super::draft::{Draft, Moment};
use super::stored::{ConsumerRecord, ResolvedRegex};
use super::ConsumerState;
use crate::engine::metadata::{MetadataImage, Topic};
use crate::model::{ErrorCode, Refusal};

/// What a compiled expression may take up. Matching one takes no more steps than the name has bytes times
/// this, and in practice far fewer.
const REGEX_COMPILED_BYTES_MAX: usize = 256 * 1024;

/// The expression must match the whole of a topic's name, as with Kafka's RE2/J.
pub(super) fn compile(expression: &str) -> Result<Regex, Refusal> {
    // Checked alone first: together with what is put round it something else might be well-formed.
    let built = |expression: &str| {
        let mut builder = RegexBuilder::new(expression);
        builder.size_limit(REGEX_COMPILED_BYTES_MAX).build()
    };
    let whole = built(expression).and_then(|_| built(&format!("^(?:{expression})$")));
    whole.map_err(|error| {
        // It draws where the error is, in several lines; the last one says what it is.
        let error = error.to_string();
        let why = error.lines().last().unwrap_or_default();
        let why = why.trim_start_matches("error: ").trim_end_matches('.');
        let message = format!(
            "SubscribedTopicRegex `{expression}` is not a valid regular expression: {why}."
        );
        Refusal::new(ErrorCode::InvalidRegularExpression, message)
    })
}

/// Brings what the group's expressions mean up to date, and forgets those that nobody uses any more.
/// An expression was checked when a member named it; one that still isn't any means no topics.
pub(super) fn resolve(draft: &mut Draft, moment: Moment<'_>) {
    let members = draft.state().members().values();
    let used = members.filter_map(|member| member.metadata.topic_regex.clone());
    let used: BTreeSet<Arc<str>> = used.filter(|regex| !regex.is_empty()).collect();
    let known = draft.state().regexes().keys();
    let unused: Vec<Arc<str>> = known
        .filter(|regex| !used.contains(*regex))
        .cloned()
        .collect();
    draft.record_all(
        unused
            .into_iter()
            .map(|regex| ConsumerRecord::Regex(regex, None)),
    );
    for regex in used {
        let compiled = compile(&regex).ok();
        let is_meant = |name: &str| compiled.as_ref().is_some_and(|regex| regex.is_match(name));
        let names = moment.image.topics().map(|topic| &topic.name);
        let names = names.filter(|name| is_meant(name.as_str()));
        let topics: BTreeSet<Arc<str>> = names.map(|name| name.clone().into()).collect();
        let known = draft.state().regexes().get(&regex);
        if known.is_none_or(|known| known.topics != topics) {
            let resolved = ResolvedRegex {
                topics,
                version: i64::try_from(moment.image.version()).unwrap_or(i64::MAX),
                timestamp: moment.now,
            };
            draft.record(ConsumerRecord::Regex(regex, Some(resolved)));
        }
    }
}

/// Whether no member uses an expression that isn't resolved, and none is kept that nobody uses.
pub(super) fn is_resolved(state: &ConsumerState) -> bool {
    let members = state.members().values();
    let used = members.filter_map(|member| member.metadata.topic_regex.as_ref());
    let used: BTreeSet<&Arc<str>> = used.filter(|regex| !regex.is_empty()).collect();
    used.into_iter().eq(state.regexes().keys())
}

/// All that an assignment depends on in the topics that the group subscribes to; 0 if there are none.
pub(super) fn metadata_hash(state: &ConsumerState, image: &MetadataImage) -> i64 {
    let names = state.topic_names();
    let topics = names
        .into_iter()
        .filter_map(|name| image.topic_by_name(name));
    let mut hash = Fnv::default();
    let mut any = false;
    for topic in topics {
        any = true;
        hash.add(topic.name.as_str().as_bytes());
        hash.add(topic.id.0.as_bytes());
        for racks in racks_of(topic, image) {
            racks.into_iter().for_each(|rack| hash.add(rack.as_bytes()));
            hash.add(&[]);
        }
    }
    match (any, hash.finish()) {
        (false, _) => 0,
        // No topics have it.
        (true, 0) => 1,
        (true, hash) => hash,
    }
}

/// Of each partition, the racks that have a replica of it.
pub(super) fn racks_of<'a>(
    topic: &'a Topic,
    image: &'a MetadataImage,
) -> impl Iterator<Item = BTreeSet<&'a str>> {
    topic.partitions.iter().map(|partition| {
        let brokers = partition.replicas.iter().filter_map(|id| image.broker(*id));
        brokers
            .filter_map(|broker| broker.rack.as_deref())
            .collect()
    })
}

/// FNV-1a of 64 bits: the next coordinator must find the same.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    /// With the length, so that no two lists of texts are the same bytes.
    fn add(&mut self, bytes: &[u8]) {
        let length = (bytes.len() as u64).to_be_bytes();
        for byte in length.iter().chain(bytes) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    fn finish(self) -> i64 {
        self.0 as i64
    }
}
