//! The one thing that the broker reads of what consumers tell each other: which topics they subscribe to
//! (`ConsumerProtocolSubscription`, all versions: a version, then the topics).

use bytes::{Buf, Bytes};

/// The protocol type of Kafka's consumers.
pub(super) const CONSUMER: &str = "consumer";

/// `None` if this isn't a subscription.
pub(super) fn subscribed_topics(metadata: &Bytes) -> Option<Vec<&str>> {
    let mut rest = &metadata[..];
    let _version = rest.try_get_i16().ok()?;
    let count = rest.try_get_i32().ok()?;
    // Each takes at least the two bytes of its length.
    let count = usize::try_from(count)
        .ok()
        .filter(|c| *c <= rest.len() / 2)?;
    let mut topics = Vec::with_capacity(count);
    for _ in 0..count {
        let length = usize::try_from(rest.try_get_i16().ok()?).ok()?;
        let (topic, after) = rest.split_at_checked(length)?;
        topics.push(std::str::from_utf8(topic).ok()?);
        rest = after;
    }
    Some(topics)
}
