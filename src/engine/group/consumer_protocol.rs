//! What the broker reads of what consumers tell each other: which topics they subscribe to, and, where classic
//! members are in a consumer group, what they own. And what it tells them in their leader's place. The formats
//! are `ConsumerProtocolSubscription` 0 to 3 and `ConsumerProtocolAssignment`, each behind its version.

use bytes::{Buf, BufMut, Bytes};

use super::record_bytes::put_string;

/// The protocol type of Kafka's consumers.
pub(super) const CONSUMER: &str = "consumer";

/// The latest version of an assignment.
const VERSION_MAX: i16 = 3;

/// Partitions by their topics' names.
pub(super) type NamedPartitions<'a> = Vec<(&'a str, Vec<i32>)>;

/// What a consumer subscribes to and owns.
#[derive(Debug, PartialEq)]
pub(super) struct Subscription<'a> {
    pub version: i16,
    pub topics: Vec<&'a str>,
    pub owned: NamedPartitions<'a>,
    pub rack: Option<&'a str>,
}

/// `None` if this isn't a subscription.
pub(super) fn subscribed_topics(metadata: &Bytes) -> Option<Vec<&str>> {
    let mut input = Input(metadata);
    input.i16()?;
    input.topics()
}

/// `None` if this isn't a subscription.
pub(super) fn subscription(metadata: &Bytes) -> Option<Subscription<'_>> {
    let mut input = Input(metadata);
    let version = input.i16()?;
    let topics = input.topics()?;
    input.nullable_bytes()?;
    let owned = match version {
        1.. => input.partitions()?,
        _ => Vec::new(),
    };
    if version >= 2 {
        let _generation = input.i32()?;
    }
    let rack = match version {
        3.. => input.nullable_string()?,
        _ => None,
    };
    Some(Subscription {
        version,
        topics,
        owned,
        rack,
    })
}

/// `None` if this isn't an assignment. No bytes at all assign nothing.
pub(super) fn assigned(assignment: &Bytes) -> Option<NamedPartitions<'_>> {
    if assignment.is_empty() {
        return Some(Vec::new());
    }
    let mut input = Input(assignment);
    input.i16()?;
    input.partitions()
}

/// An assignment for a member whose subscription has this version.
pub(super) fn assignment(version: i16, partitions: &NamedPartitions<'_>) -> Bytes {
    let mut out = Vec::new();
    out.put_i16(version.clamp(0, VERSION_MAX));
    out.put_i32(partitions.len() as i32);
    for (topic, numbers) in partitions {
        put_string(&mut out, topic);
        out.put_i32(numbers.len() as i32);
        numbers.iter().for_each(|number| out.put_i32(*number));
    }
    // No user data.
    out.put_i32(-1);
    out.into()
}

/// Nothing is said of what is wrong: it is between the members.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn i16(&mut self) -> Option<i16> {
        self.0.try_get_i16().ok()
    }

    fn i32(&mut self) -> Option<i32> {
        self.0.try_get_i32().ok()
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn string(&mut self) -> Option<&'a str> {
        self.nullable_string()?
    }

    fn nullable_string(&mut self) -> Option<Option<&'a str>> {
        let Ok(length) = usize::try_from(self.i16()?) else {
            return Some(None);
        };
        Some(Some(std::str::from_utf8(self.take(length)?).ok()?))
    }

    fn nullable_bytes(&mut self) -> Option<()> {
        let length = self.i32()?;
        self.take(usize::try_from(length).unwrap_or(0)).map(|_| ())
    }

    /// Each element takes at least so many bytes.
    fn count(&mut self, element_bytes: usize) -> Option<usize> {
        let count = usize::try_from(self.i32()?).ok()?;
        (count <= self.0.len() / element_bytes).then_some(count)
    }

    fn topics(&mut self) -> Option<Vec<&'a str>> {
        let count = self.count(2)?;
        (0..count).map(|_| self.string()).collect()
    }

    fn partitions(&mut self) -> Option<NamedPartitions<'a>> {
        let count = self.count(6)?;
        let topics = (0..count).map(|_| {
            let topic = self.string()?;
            let count = self.count(4)?;
            let numbers = (0..count).map(|_| self.i32());
            Some((topic, numbers.collect::<Option<_>>()?))
        });
        topics.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_of_all_versions_are_read() {
        let topics = b"\0\0\0\x02\0\x01t\0\x01u\xff\xff\xff\xff";
        let owned = b"\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\x01\0\0\0\x02";
        let whole = [&b"\0\x03"[..], topics, owned, b"\0\0\0\x07\0\x01r"].concat();
        let whole = Bytes::from(whole);
        let read = subscription(&whole).unwrap();
        assert_eq!(read.topics, ["t", "u"]);
        assert_eq!(read.owned, [("t", vec![1, 2])]);
        assert_eq!(read.rack, Some("r"));
        let first = Bytes::from([&b"\0\0"[..], topics].concat());
        let read = subscription(&first).unwrap();
        assert_eq!((read.version, read.owned.len(), read.rack), (0, 0, None));
        for length in 0..whole.len() {
            assert_eq!(
                subscription(&whole.slice(..length)),
                None,
                "cut at {length}"
            );
        }
    }

    #[test]
    fn an_assignment_reads_back() {
        let partitions = vec![("t", vec![3, 4]), ("u", vec![])];
        let bytes = assignment(1, &partitions);
        assert_eq!(&bytes[..2], b"\0\x01");
        assert_eq!(assigned(&bytes), Some(partitions));
        assert_eq!(assigned(&Bytes::new()), Some(Vec::new()));
        assert_eq!(assigned(&Bytes::from_static(b"x")), None);
    }
}
