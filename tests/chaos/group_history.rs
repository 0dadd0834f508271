//! What the members of a group did, what was seen of it from outside, and whether the two keep what is
//! promised: every record is given to somebody, and before anything behind it is committed; what is committed
//! stays so; whoever gets a partition goes on from there, record by record; and in a generation a partition
//! has one owner. This is pure, so that each violation can be planted.

use std::collections::HashMap;
use std::fmt;

use crate::diary::{Entry, Moment};

/// What an outsider was told of the committed offsets.
#[derive(Clone, Debug)]
pub struct Look {
    pub asked: Moment,
    pub told: Moment,
    /// By partition; 0 where nothing is committed.
    pub committed: Vec<i64>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Violation {
    /// Nobody was ever given this record.
    Skipped { partition: i32, offset: i64 },
    /// Somebody was given what isn't there.
    Invented {
        member: String,
        partition: i32,
        offset: i64,
        value: String,
    },
    /// While a member owned the partition it was given something else than the next record.
    Jumped {
        member: String,
        partition: i32,
        next: i64,
        given: i64,
    },
    /// The committed offset lay behind a record that nobody had been given.
    CommittedUnseen {
        partition: i32,
        committed: i64,
        unseen: i64,
    },
    /// The committed offset was lower than it had been before it was asked for.
    Regressed {
        partition: i32,
        committed: i64,
        before: i64,
    },
    /// A member began before what was committed before it owned the partition.
    BeganBefore {
        member: String,
        partition: i32,
        offset: i64,
        committed: i64,
    },
    TwoOwners {
        generation: i32,
        partition: i32,
        members: [String; 2],
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// A member's first record of a partition that it has come to own.
struct Begin {
    member: String,
    owned_since: Moment,
    offset: i64,
}

/// What is known of one partition.
struct Partition<'a> {
    /// All that is there, from offset 0 on.
    records: &'a [(i64, Vec<u8>)],
    /// When each record was given to anybody first.
    given: Vec<Option<Moment>>,
    /// What somebody was told to be committed, and when.
    committed: Vec<(Moment, i64)>,
    begins: Vec<Begin>,
}

/// What happened to one group.
pub struct GroupHistory<'a> {
    partitions: Vec<Partition<'a>>,
    /// By generation and partition.
    owners: HashMap<(i32, i32), String>,
    looks: Vec<Look>,
}

impl<'a> GroupHistory<'a> {
    /// `records` are those of each partition, from offset 0 on.
    pub fn new(records: &'a [Vec<(i64, Vec<u8>)>]) -> GroupHistory<'a> {
        let partition = |records: &'a Vec<(i64, Vec<u8>)>| Partition {
            records,
            given: vec![None; records.len()],
            committed: Vec::new(),
            begins: Vec::new(),
        };
        GroupHistory {
            partitions: records.iter().map(partition).collect(),
            owners: HashMap::new(),
            looks: Vec::new(),
        }
    }

    /// What one life of a member has noted. A static member is `owner` in all its lives, any other one in one
    /// of them only.
    pub fn lived(
        &mut self,
        owner: &str,
        entries: impl IntoIterator<Item = (Moment, Entry)>,
    ) -> Result<(), Violation> {
        // Since when it owns what it owns, and the record that comes next if one has come.
        let mut owned: HashMap<i32, (Moment, Option<i64>)> = HashMap::new();
        for (moment, entry) in entries {
            match entry {
                Entry::Owns {
                    generation,
                    partitions,
                } => {
                    owned.retain(|partition, _| partitions.contains(partition));
                    for partition in partitions {
                        owned.entry(partition).or_insert((moment, None));
                        self.owns(owner, generation, partition)?;
                    }
                }
                Entry::Given {
                    partition,
                    offset,
                    value,
                } => {
                    let known = self.given(partition, offset, &value, moment);
                    if !known {
                        return Err(Violation::Invented {
                            member: owner.into(),
                            partition,
                            offset,
                            value,
                        });
                    }
                    if let Some((since, next)) = owned.get_mut(&partition) {
                        self.follows(owner, partition, offset, *since, *next)?;
                        *next = Some(offset + 1);
                    }
                }
                Entry::Committed { partition, offset } => {
                    self.partition(partition).committed.push((moment, offset));
                }
            }
        }
        Ok(())
    }

    /// Somebody has looked.
    pub fn seen(&mut self, look: Look) {
        for (partition, committed) in self.partitions.iter_mut().zip(&look.committed) {
            partition.committed.push((look.told, *committed));
        }
        self.looks.push(look);
    }

    fn partition(&mut self, number: i32) -> &mut Partition<'a> {
        &mut self.partitions[number as usize]
    }

    fn owns(&mut self, owner: &str, generation: i32, partition: i32) -> Result<(), Violation> {
        if generation < 0 {
            return Ok(());
        }
        let known = self.owners.entry((generation, partition));
        let known = known.or_insert_with(|| owner.into());
        match known == owner {
            true => Ok(()),
            false => Err(Violation::TwoOwners {
                generation,
                partition,
                members: [known.clone(), owner.into()],
            }),
        }
    }

    /// Whether the record is there.
    fn given(&mut self, partition: i32, offset: i64, value: &str, moment: Moment) -> bool {
        let partition = self.partition(partition);
        let at = offset as usize;
        let there = partition.records.get(at);
        let is_there = there.is_some_and(|(_, there)| there.trim_ascii_end() == value.as_bytes());
        if is_there {
            let first = partition.given[at].map_or(moment, |first| first.min(moment));
            partition.given[at] = Some(first);
        }
        is_there
    }

    fn follows(
        &mut self,
        owner: &str,
        partition: i32,
        offset: i64,
        owned_since: Moment,
        next: Option<i64>,
    ) -> Result<(), Violation> {
        match next {
            None => {
                let member = owner.into();
                self.partition(partition).begins.push(Begin {
                    member,
                    owned_since,
                    offset,
                });
                Ok(())
            }
            Some(next) if next == offset => Ok(()),
            Some(next) => Err(Violation::Jumped {
                member: owner.into(),
                partition,
                next,
                given: offset,
            }),
        }
    }

    /// Once everything is told.
    pub fn check(self) -> Result<(), Violation> {
        for (number, mut partition) in (0..).zip(self.partitions) {
            partition.committed.sort_unstable();
            let looks = self.looks.iter();
            let looks = looks.map(|look| (look.asked, look.told, look.committed[number as usize]));
            partition.check(number, looks)?;
        }
        Ok(())
    }
}

impl Partition<'_> {
    fn check(
        &self,
        number: i32,
        looks: impl Iterator<Item = (Moment, Moment, i64)>,
    ) -> Result<(), Violation> {
        if let Some(skipped) = self.given.iter().position(Option::is_none) {
            let (partition, offset) = (number, skipped as i64);
            return Err(Violation::Skipped { partition, offset });
        }
        let highest = running_max(self.committed.iter().map(|(_, offset)| *offset));
        let before = |moment: Moment| match self.committed.partition_point(|c| c.0 < moment) {
            0 => 0,
            count => highest[count - 1],
        };
        let all_given = running_max(self.given.iter().map(|given| given.unwrap_or(Moment(0))));
        for (asked, told, committed) in looks {
            self.check_seen(number, committed, told, &all_given)?;
            if committed < before(asked) {
                return Err(Violation::Regressed {
                    partition: number,
                    committed,
                    before: before(asked),
                });
            }
        }
        for begin in &self.begins {
            let committed = before(begin.owned_since);
            if begin.offset < committed {
                return Err(Violation::BeganBefore {
                    member: begin.member.clone(),
                    partition: number,
                    offset: begin.offset,
                    committed,
                });
            }
        }
        Ok(())
    }

    /// `all_given` says of each offset when it and all before it had been given.
    fn check_seen(
        &self,
        number: i32,
        committed: i64,
        told: Moment,
        all_given: &[Moment],
    ) -> Result<(), Violation> {
        let is_seen = match committed {
            0 => true,
            _ => {
                let last = all_given.get(committed as usize - 1);
                last.is_some_and(|given| *given < told)
            }
        };
        if is_seen {
            return Ok(());
        }
        let late = |given: &Option<Moment>| given.is_none_or(|given| given >= told);
        let unseen = self.given.iter().position(late);
        Err(Violation::CommittedUnseen {
            partition: number,
            committed,
            unseen: unseen.unwrap_or(self.given.len()) as i64,
        })
    }
}

/// The highest so far, at each place.
fn running_max<T: Copy + Ord>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut highest: Vec<T> = Vec::new();
    for value in values {
        highest.push(highest.last().map_or(value, |last| value.max(*last)));
    }
    highest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Vec<(i64, Vec<u8>)>> {
        let values = ["a", "b", "c", "d"].map(|value| value.as_bytes().to_vec());
        vec![(0..).zip(values).collect()]
    }

    fn owns(generation: i32, partitions: &[i32]) -> Entry {
        let partitions = partitions.iter().copied().collect();
        Entry::Owns {
            generation,
            partitions,
        }
    }

    fn given(offset: i64, value: &str) -> Entry {
        Entry::Given {
            partition: 0,
            offset,
            value: value.into(),
        }
    }

    fn committed(offset: i64) -> Entry {
        let partition = 0;
        Entry::Committed { partition, offset }
    }

    type Life = Vec<(u64, Entry)>;

    /// One member does half of the work and is gone, and another one begins where the commits end.
    fn lives() -> [Life; 2] {
        let first = vec![
            (10, owns(1, &[0])),
            (11, given(0, "a")),
            (12, given(1, "b")),
            (13, committed(1)),
        ];
        let second = vec![
            (20, owns(2, &[0])),
            (21, given(1, "b")),
            (22, given(2, "c")),
            (23, committed(3)),
            (24, given(3, "d")),
            (25, committed(4)),
        ];
        [first, second]
    }

    fn check(lives: [Life; 2], looks: &[(u64, u64, i64)]) -> Result<(), Violation> {
        let records = records();
        let mut history = GroupHistory::new(&records);
        for (owner, life) in ["first", "second"].into_iter().zip(lives) {
            let entries = life.into_iter();
            history.lived(owner, entries.map(|(at, entry)| (Moment(at), entry)))?;
        }
        for (asked, told, committed) in looks {
            history.seen(Look {
                asked: Moment(*asked),
                told: Moment(*told),
                committed: vec![*committed],
            });
        }
        history.check()
    }

    const LOOKS: [(u64, u64, i64); 4] = [(9, 10, 0), (14, 15, 1), (22, 26, 3), (30, 31, 4)];

    /// With one entry of one of them replaced or taken out.
    fn with(life: usize, at: usize, entry: Option<Entry>) -> Result<(), Violation> {
        let mut lives = lives();
        match entry {
            Some(entry) => lives[life][at].1 = entry,
            None => drop(lives[life].remove(at)),
        }
        check(lives, &LOOKS)
    }

    #[test]
    fn a_history_that_keeps_what_is_promised_passes() {
        assert_eq!(check(lives(), &LOOKS), Ok(()));
    }

    #[test]
    fn a_record_that_nobody_was_given_is_found() {
        let mut lives = lives();
        lives[1].truncate(4);
        let (partition, offset) = (0, 3);
        let skipped = Violation::Skipped { partition, offset };
        assert_eq!(check(lives, &LOOKS[..3]), Err(skipped));
    }

    #[test]
    fn a_record_that_is_not_there_is_found() {
        for invented in [given(2, "x"), given(4, "e")] {
            let found = with(1, 2, Some(invented)).unwrap_err();
            assert!(matches!(found, Violation::Invented { .. }), "{found}");
        }
    }

    #[test]
    fn an_owner_that_does_not_go_on_with_the_next_record_is_found() {
        for jumped in [given(3, "d"), given(1, "b")] {
            let found = with(1, 2, Some(jumped)).unwrap_err();
            assert!(
                matches!(found, Violation::Jumped { next: 2, .. }),
                "{found}"
            );
        }
    }

    #[test]
    fn a_commit_that_passes_what_nobody_was_given_is_found() {
        // Nobody had been given c and d when it was looked at.
        let looks = [LOOKS[0], (14, 15, 3)];
        let expected = Violation::CommittedUnseen {
            partition: 0,
            committed: 3,
            unseen: 2,
        };
        assert_eq!(check(lives(), &looks), Err(expected));
        let beyond = check(lives(), &[(30, 31, 5)]).unwrap_err();
        assert!(
            matches!(beyond, Violation::CommittedUnseen { unseen: 4, .. }),
            "{beyond}"
        );
    }

    #[test]
    fn a_committed_offset_that_goes_back_is_found() {
        let regressed = |looks: &[(u64, u64, i64)], committed, before| {
            let expected = Violation::Regressed {
                partition: 0,
                committed,
                before,
            };
            assert_eq!(check(lives(), looks), Err(expected));
        };
        // Behind what another look has seen, and behind what a member was told.
        regressed(&[LOOKS[2], (27, 28, 1)], 1, 4);
        regressed(&[(14, 15, 0)], 0, 1);
        // It may have been asked for before.
        assert_eq!(check(lives(), &[(12, 15, 0)]), Ok(()));
    }

    #[test]
    fn a_member_that_begins_before_what_is_committed_is_found() {
        let mut lives = lives();
        lives[1].insert(1, (20, given(0, "a")));
        let expected = Violation::BeganBefore {
            member: "second".into(),
            partition: 0,
            offset: 0,
            committed: 1,
        };
        assert_eq!(check(lives, &LOOKS), Err(expected));
    }

    #[test]
    fn two_owners_in_a_generation_are_found_and_one_that_comes_back_is_none() {
        let expected = Violation::TwoOwners {
            generation: 1,
            partition: 0,
            members: ["first".into(), "second".into()],
        };
        assert_eq!(with(1, 0, Some(owns(1, &[0]))), Err(expected));
        // Out of the group it owns nothing in anybody's eyes.
        assert_eq!(with(1, 0, Some(owns(-1, &[0]))), Ok(()));
        let records = records();
        let mut history = GroupHistory::new(&records);
        for life in lives() {
            let entries = life.into_iter().map(|(at, entry)| match entry {
                Entry::Owns { partitions, .. } => (
                    Moment(at),
                    Entry::Owns {
                        generation: 1,
                        partitions,
                    },
                ),
                entry => (Moment(at), entry),
            });
            history.lived("the same", entries).unwrap();
        }
        assert_eq!(history.check(), Ok(()));
    }
}
