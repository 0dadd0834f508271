//! What writers did, what readers then found, and whether the two fit together.
//!
//! The promise: an acknowledged record is at its offset with its bytes, a writer's records keep
//! their order, nothing that was not sent is there, and nothing is there more often than it was
//! sent (once, for an idempotent writer). This is pure, so that each violation can be planted.

use std::collections::{HashMap, HashSet};
use std::fmt;

/// What the writer was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged by all in-sync replicas, at this offset.
    Acknowledged(i64),
    /// Acknowledged, and its offset wasn't told: librdkafka takes the acknowledgement of a later batch for
    /// that of the earlier ones, whose answers were lost.
    AcknowledgedSomewhere,
    /// No answer, or one that leaves it open. The record may be in the log.
    Unknown,
}

/// One record of one writer. A writer's records stand in the order in which it first sent them.
#[derive(Clone, Debug)]
pub struct Sent {
    pub writer: usize,
    /// Unique among all writers.
    pub value: Vec<u8>,
    /// How often it was sent.
    pub sends: usize,
    pub outcome: Outcome,
}

/// How often a record may be in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copies {
    AsOftenAsSent,
    One,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Violation {
    Lost {
        value: String,
        /// -1 if nobody was told it.
        offset: i64,
    },
    Changed {
        offset: i64,
        sent: String,
        read: String,
    },
    Invented {
        offset: i64,
        value: String,
    },
    Duplicated {
        value: String,
        /// Of the copy that is one too many.
        offset: i64,
        times: usize,
    },
    Reordered {
        writer: usize,
        offset: i64,
        value: String,
    },
    Gap {
        after: i64,
        next: i64,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Compares what was sent to a partition with all that is read from it, start to end.
pub fn check(sent: &[Sent], read: &[(i64, Vec<u8>)], copies: Copies) -> Result<(), Violation> {
    check_offsets(read)?;
    let by_offset: HashMap<i64, &[u8]> = read.iter().map(|(at, v)| (*at, &v[..])).collect();
    let values: HashSet<&[u8]> = read.iter().map(|(_, v)| &v[..]).collect();
    for record in sent {
        let is_missing = !values.contains(&record.value[..]);
        if record.outcome == Outcome::AcknowledgedSomewhere && is_missing {
            let (value, offset) = (text(&record.value), -1);
            return Err(Violation::Lost { value, offset });
        }
        if let Outcome::Acknowledged(offset) = record.outcome {
            match by_offset.get(&offset) {
                None => {
                    let value = text(&record.value);
                    return Err(Violation::Lost { value, offset });
                }
                Some(read) if *read != record.value => {
                    let (sent, read) = (text(&record.value), text(read));
                    return Err(Violation::Changed { offset, sent, read });
                }
                Some(_) => {}
            }
        }
    }
    check_copies_and_order(sent, read, copies)
}

fn check_offsets(read: &[(i64, Vec<u8>)]) -> Result<(), Violation> {
    for pair in read.windows(2) {
        let (after, next) = (pair[0].0, pair[1].0);
        if next != after + 1 {
            return Err(Violation::Gap { after, next });
        }
    }
    Ok(())
}

fn check_copies_and_order(
    sent: &[Sent],
    read: &[(i64, Vec<u8>)],
    copies: Copies,
) -> Result<(), Violation> {
    let numbers: HashMap<&[u8], usize> = sent.iter().map(|s| &s.value[..]).zip(0..).collect();
    let mut times = vec![0; sent.len()];
    let mut last_of_writer: HashMap<usize, usize> = HashMap::new();
    for (offset, value) in read {
        let offset = *offset;
        let Some(&number) = numbers.get(&value[..]) else {
            let value = text(value);
            return Err(Violation::Invented { offset, value });
        };
        let record = &sent[number];
        times[number] += 1;
        let allowed = match copies {
            Copies::AsOftenAsSent => record.sends,
            Copies::One => 1,
        };
        if times[number] > allowed {
            return Err(Violation::Duplicated {
                value: text(value),
                offset,
                times: times[number],
            });
        }
        if times[number] == 1 {
            let last = last_of_writer.insert(record.writer, number);
            if last.is_some_and(|last| last > number) {
                let (writer, value) = (record.writer, text(value));
                return Err(Violation::Reordered {
                    writer,
                    offset,
                    value,
                });
            }
        }
    }
    Ok(())
}

/// The start of a value, for people.
fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(&value[..value.len().min(40)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(writer: usize, value: &str, sends: usize, outcome: Outcome) -> Sent {
        Sent {
            writer,
            value: value.into(),
            sends,
            outcome,
        }
    }

    fn history() -> Vec<Sent> {
        vec![
            sent(0, "a0", 1, Outcome::Acknowledged(0)),
            sent(1, "b0", 2, Outcome::Acknowledged(3)),
            sent(0, "a1", 2, Outcome::Unknown),
            sent(0, "a2", 1, Outcome::Acknowledged(4)),
            sent(1, "b1", 1, Outcome::Unknown),
        ]
    }

    fn checked(read: &[(i64, &str)], copies: Copies) -> Result<(), Violation> {
        let read: Vec<_> = read
            .iter()
            .map(|(at, v)| (*at, v.as_bytes().to_vec()))
            .collect();
        check(&history(), &read, copies)
    }

    const GOOD: [(i64, &str); 5] = [(0, "a0"), (1, "b0"), (2, "a1"), (3, "b0"), (4, "a2")];

    #[test]
    fn a_history_that_keeps_the_promise_passes() {
        assert_eq!(checked(&GOOD, Copies::AsOftenAsSent), Ok(()));
    }

    #[test]
    fn each_planted_violation_is_found() {
        let broken = |at: usize, with: (i64, &'static str)| {
            let mut read = GOOD;
            read[at] = with;
            checked(&read, Copies::AsOftenAsSent).unwrap_err()
        };
        let lost = checked(&GOOD[..4], Copies::AsOftenAsSent).unwrap_err();
        assert!(matches!(lost, Violation::Lost { offset: 4, .. }), "{lost}");
        let changed = broken(4, (4, "a2'"));
        assert!(
            matches!(changed, Violation::Changed { offset: 4, .. }),
            "{changed}"
        );
        let invented = broken(2, (2, "c0"));
        assert!(
            matches!(invented, Violation::Invented { offset: 2, .. }),
            "{invented}"
        );
        let duplicated = broken(2, (2, "a0"));
        assert!(
            matches!(duplicated, Violation::Duplicated { times: 2, .. }),
            "{duplicated}"
        );
        let gap = checked(&[(0, "a0"), (2, "a1")], Copies::AsOftenAsSent).unwrap_err();
        assert_eq!(gap, Violation::Gap { after: 0, next: 2 });
    }

    #[test]
    fn a_record_that_was_acknowledged_somewhere_is_there() {
        let told = [sent(0, "a0", 1, Outcome::AcknowledgedSomewhere)];
        let there = [(0, b"a0".to_vec())];
        assert_eq!(check(&told, &there, Copies::One), Ok(()));
        let lost = check(&told, &[], Copies::One).unwrap_err();
        assert!(matches!(lost, Violation::Lost { offset: -1, .. }), "{lost}");
    }

    #[test]
    fn records_of_a_writer_that_changed_places_are_found() {
        let read = [(0, "a0"), (1, "b1"), (2, "a1"), (3, "b0"), (4, "a2")];
        let reordered = checked(&read, Copies::AsOftenAsSent).unwrap_err();
        assert!(
            matches!(reordered, Violation::Reordered { writer: 1, .. }),
            "{reordered}"
        );
    }

    #[test]
    fn an_idempotent_writers_record_is_there_once() {
        let twice = checked(&GOOD, Copies::One).unwrap_err();
        assert!(
            matches!(twice, Violation::Duplicated { times: 2, .. }),
            "{twice}"
        );
    }
}
