//! What the members of a group tell each other through the broker, in the encoding of Kafka's
//! `ConsumerProtocol`, so that other consumers can be in the same group: big-endian integers, strings and arrays
//! with their lengths before them. A version that is newer than ours has our fields first.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::TopicPartition;

/// The protocol type of all consumers.
pub(super) const PROTOCOL_TYPE: &str = "consumer";
/// Of both messages, as Kafka's own clients write them.
const VERSION: i16 = 3;
/// The first version of a subscription with what the member owns (KIP-429).
const VERSION_OF_OWNED: i16 = 1;
/// The first version with the generation in which it owns that (KIP-792).
const VERSION_OF_GENERATION: i16 = 2;
/// Who owns nothing does so in this generation.
pub(super) const NO_GENERATION: i32 = -1;
const NULL: i32 = -1;

/// What a member wants and has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subscription {
    pub topics: BTreeSet<Arc<str>>,
    /// Empty unless it rebalances cooperatively.
    pub owned: BTreeSet<TopicPartition>,
    /// In which generation it owned that.
    pub generation: i32,
}

impl Subscription {
    /// The generation stands in it twice: members that read no version 2 look for it in the user data, as
    /// `cooperative-sticky` has it.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_i16(VERSION);
        put_len(&mut out, self.topics.len());
        for topic in &self.topics {
            put_string(&mut out, topic);
        }
        put_len(&mut out, size_of::<i32>());
        out.put_i32(self.generation);
        put_partitions(&mut out, &self.owned);
        out.put_i32(self.generation);
        // No rack.
        out.put_i16(NULL as i16);
        out.freeze()
    }

    /// `None` if it can't be read.
    pub fn decode(bytes: &[u8]) -> Option<Subscription> {
        let mut rest = bytes;
        let version = rest.try_get_i16().ok().filter(|version| *version >= 0)?;
        let mut topics = BTreeSet::new();
        for _ in 0..get_len(&mut rest)? {
            topics.insert(get_string(&mut rest)?.into());
        }
        let user_data = get_bytes(&mut rest)?;
        let owned = match version {
            VERSION_OF_OWNED.. => get_partitions(&mut rest)?,
            _ => BTreeSet::new(),
        };
        let generation = match version {
            VERSION_OF_GENERATION.. => rest.try_get_i32().ok()?,
            _ => <[u8; 4]>::try_from(user_data).map_or(NO_GENERATION, i32::from_be_bytes),
        };
        Some(Subscription {
            topics,
            owned,
            generation,
        })
    }
}

/// What a member is assigned.
pub(super) fn encode_assignment(partitions: &BTreeSet<TopicPartition>) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(VERSION);
    put_partitions(&mut out, partitions);
    // No user data.
    out.put_i32(NULL);
    out.freeze()
}

/// `None` if it can't be read. Nothing at all is said to a member that is assigned nothing.
pub(super) fn decode_assignment(bytes: &[u8]) -> Option<BTreeSet<TopicPartition>> {
    let mut rest = bytes;
    if rest.is_empty() {
        return Some(BTreeSet::new());
    }
    let _version = rest.try_get_i16().ok().filter(|version| *version >= 0)?;
    get_partitions(&mut rest)
}

fn put_len(out: &mut BytesMut, len: usize) {
    // Its parts are in memory, and far fewer.
    out.put_i32(i32::try_from(len).unwrap_or(i32::MAX));
}

fn put_string(out: &mut BytesMut, text: &str) {
    // A topic's name has at most 249 bytes.
    out.put_i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
    out.put_slice(text.as_bytes());
}

/// In the order of the topics, each once.
fn put_partitions(out: &mut BytesMut, partitions: &BTreeSet<TopicPartition>) {
    let all: Vec<&TopicPartition> = partitions.iter().collect();
    let topics: Vec<&[&TopicPartition]> = all.chunk_by(|a, b| a.0 == b.0).collect();
    put_len(out, topics.len());
    for of_topic in topics {
        put_string(out, &of_topic[0].0);
        put_len(out, of_topic.len());
        of_topic.iter().for_each(|it| out.put_i32(it.1));
    }
}

/// How many elements follow, each of which takes at least two bytes; so a length that can't be true costs
/// nothing.
fn get_len(rest: &mut &[u8]) -> Option<usize> {
    let len = usize::try_from(rest.try_get_i32().ok()?).ok()?;
    (len <= rest.len() / 2).then_some(len)
}

fn get_string<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let len = usize::try_from(rest.try_get_i16().ok()?).ok()?;
    let (text, after) = rest.split_at_checked(len)?;
    *rest = after;
    std::str::from_utf8(text).ok()
}

/// Empty if there are none.
fn get_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = match rest.try_get_i32().ok()? {
        NULL => 0,
        len => usize::try_from(len).ok()?,
    };
    let (bytes, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(bytes)
}

fn get_partitions(rest: &mut &[u8]) -> Option<BTreeSet<TopicPartition>> {
    let mut partitions = BTreeSet::new();
    for _ in 0..get_len(rest)? {
        let topic: Arc<str> = get_string(rest)?.into();
        for _ in 0..get_len(rest)? {
            partitions.insert((topic.clone(), rest.try_get_i32().ok()?));
        }
    }
    Some(partitions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::consumer_protocol_assignment as theirs_assignment;
    use kafka_protocol::messages::consumer_protocol_subscription as theirs_subscription;
    use kafka_protocol::messages::{
        ConsumerProtocolAssignment, ConsumerProtocolSubscription, TopicName,
    };
    use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
    use proptest::prelude::*;

    fn partitions(of: &[(&str, i32)]) -> BTreeSet<TopicPartition> {
        let partitions = of.iter();
        partitions.map(|(t, p)| ((*t).into(), *p)).collect()
    }

    fn subscription() -> Subscription {
        Subscription {
            topics: ["orders".into(), "bills".into()].into(),
            owned: partitions(&[("orders", 3), ("orders", 1), ("bills", 0)]),
            generation: 7,
        }
    }

    fn name(text: &str) -> TopicName {
        TopicName(StrBytes::from_string(text.to_owned()))
    }

    #[test]
    fn kafkas_own_encoding_is_the_same_byte_for_byte() {
        let owned = |topic, partitions: &[i32]| {
            theirs_subscription::TopicPartition::default()
                .with_topic(name(topic))
                .with_partitions(partitions.to_vec())
        };
        let theirs = ConsumerProtocolSubscription::default()
            .with_topics(["bills", "orders"].map(StrBytes::from_static_str).to_vec())
            .with_user_data(Some(Bytes::copy_from_slice(&7i32.to_be_bytes())))
            .with_owned_partitions(vec![owned("bills", &[0]), owned("orders", &[1, 3])])
            .with_generation_id(7)
            .with_rack_id(None);
        let mut bytes = BytesMut::new();
        bytes.put_i16(VERSION);
        theirs.encode(&mut bytes, VERSION).unwrap();
        assert_eq!(subscription().encode(), bytes);

        let theirs = ConsumerProtocolAssignment::default().with_assigned_partitions(vec![
            theirs_assignment::TopicPartition::default()
                .with_topic(name("orders"))
                .with_partitions(vec![1, 3]),
        ]);
        let mut bytes = BytesMut::new();
        bytes.put_i16(VERSION);
        theirs.encode(&mut bytes, VERSION).unwrap();
        let ours = encode_assignment(&partitions(&[("orders", 1), ("orders", 3)]));
        assert_eq!(ours, bytes);
        let mut rest = ours.slice(2..);
        let read = ConsumerProtocolAssignment::decode(&mut rest, VERSION).unwrap();
        assert_eq!(read, theirs);
    }

    #[test]
    fn every_version_is_read() {
        let bytes = subscription().encode();
        assert_eq!(Subscription::decode(&bytes), Some(subscription()));
        let mut newer = bytes.to_vec();
        newer[..2].copy_from_slice(&9i16.to_be_bytes());
        newer.extend_from_slice(b"and what we don't know");
        assert_eq!(Subscription::decode(&newer), Some(subscription()));
        // Version 1 has its generation in the user data, version 0 owns nothing.
        let mut first = bytes.slice(..bytes.len() - 6).to_vec();
        first[..2].copy_from_slice(&1i16.to_be_bytes());
        assert_eq!(Subscription::decode(&first), Some(subscription()));
        first[..2].copy_from_slice(&0i16.to_be_bytes());
        let read = Subscription::decode(&first).unwrap();
        assert_eq!((read.owned.len(), read.generation), (0, 7));
        assert_eq!(decode_assignment(b""), Some(BTreeSet::new()));
    }

    proptest! {
        #[test]
        fn what_is_no_message_is_refused_and_costs_nothing(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            len in any::<i32>(),
        ) {
            let _ = Subscription::decode(&bytes);
            let _ = decode_assignment(&bytes);
            let mut lying = VERSION.to_be_bytes().to_vec();
            lying.extend(len.to_be_bytes());
            lying.extend(&bytes[..bytes.len().min(8)]);
            let _ = Subscription::decode(&lying);
            let _ = decode_assignment(&lying);
        }
    }
}
