//! What the members of a group did, what was seen of it from outside, and whether the two keep what is
//! promised: every record is given to somebody, and before anything behind it is committed; what is committed
//! stays so; whoever gets a partition goes on from there, record by record; in a generation a partition has one
//! owner, and nobody gets it before the former one has given it up; and generations never go back. This is pure,
//! so that each violation can be planted.

mod ownership;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use crate::diary::{Entry, Moment};
use ownership::{Holding, Wrong};

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
    Skipped {
        partition: i32,
        offset: i64,
    },
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
    Ownership {
        partition: i32,
        wrong: Wrong,
    },
    /// A member came into a generation before one in which it had been.
    GenerationWentBack {
        member: String,
        generation: i32,
        before: i32,
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
    holdings: Vec<Holding>,
}

/// What one process of a member did.
pub struct Life<'a> {
    /// A static member is the same in all its lives, any other one in one of them only.
    pub owner: &'a str,
    /// From when to when it stood still: then its session may have ended, and it doesn't know.
    pub still: &'a [(Moment, Moment)],
    /// Whether its library may hand out the last record once more that it had handed out before a rebalance.
    pub repeats_last: bool,
    pub entries: Vec<(Moment, Entry)>,
}

/// A life, as far as it is read.
struct Reading<'a> {
    owner: &'a str,
    still: &'a [(Moment, Moment)],
    /// What it owns, and the record that comes next if one has come.
    owned: HashMap<i32, (Holding, Option<i64>)>,
    repeats_last: bool,
    /// What it has kept in a rebalance, and been given nothing of since.
    kept: BTreeSet<i32>,
    /// The last generation that it was in.
    generation: i32,
}

/// What happened to one group.
pub struct GroupHistory<'a> {
    partitions: Vec<Partition<'a>>,
    looks: Vec<Look>,
    generations: BTreeSet<i32>,
}

impl<'a> GroupHistory<'a> {
    /// `records` are those of each partition, from offset 0 on.
    pub fn new(records: &'a [Vec<(i64, Vec<u8>)>]) -> GroupHistory<'a> {
        let partition = |records: &'a Vec<(i64, Vec<u8>)>| Partition {
            records,
            given: vec![None; records.len()],
            committed: Vec::new(),
            begins: Vec::new(),
            holdings: Vec::new(),
        };
        GroupHistory {
            partitions: records.iter().map(partition).collect(),
            looks: Vec::new(),
            generations: BTreeSet::new(),
        }
    }

    /// How many generations somebody was in.
    pub fn generations(&self) -> usize {
        self.generations.len()
    }

    /// A life is over.
    pub fn lived(&mut self, life: Life<'_>) -> Result<(), Violation> {
        let mut reading = Reading {
            owner: life.owner,
            still: life.still,
            owned: HashMap::new(),
            repeats_last: life.repeats_last,
            kept: BTreeSet::new(),
            generation: 0,
        };
        for (moment, entry) in life.entries {
            match entry {
                Entry::Owns {
                    generation,
                    partitions,
                } => self.owns(&mut reading, moment, generation, &partitions)?,
                Entry::GaveUp {
                    generation,
                    partitions,
                } => self.gave_up(&mut reading, moment, generation, &partitions),
                Entry::Given {
                    partition,
                    offset,
                    value,
                } => self.given(&mut reading, moment, (partition, offset), value)?,
                Entry::Committed { partition, offset } => {
                    self.partition(partition).committed.push((moment, offset));
                }
            }
        }
        for (partition, (holding, _)) in reading.owned {
            self.partition(partition).holdings.push(holding);
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

    fn owns(
        &mut self,
        reading: &mut Reading<'_>,
        moment: Moment,
        generation: i32,
        partitions: &BTreeSet<i32>,
    ) -> Result<(), Violation> {
        if generation > 0 {
            self.generations.insert(generation);
            let before = std::mem::replace(&mut reading.generation, generation);
            if generation < before {
                return Err(Violation::GenerationWentBack {
                    member: reading.owner.into(),
                    generation,
                    before,
                });
            }
        }
        let is_gone = |partition: &i32, _: &mut _| !partitions.contains(partition);
        for (partition, (holding, _)) in reading.owned.extract_if(is_gone) {
            self.partition(partition).holdings.push(holding);
        }
        reading.kept = reading.owned.keys().copied().collect();
        for partition in partitions {
            let owner = reading.owner;
            let begun = || (Holding::begin(owner, moment), None);
            let (holding, _) = reading.owned.entry(*partition).or_insert_with(begun);
            holding.at(generation);
        }
        Ok(())
    }

    fn gave_up(
        &mut self,
        reading: &mut Reading<'_>,
        moment: Moment,
        generation: i32,
        partitions: &BTreeSet<i32>,
    ) {
        for partition in partitions {
            let Some((mut holding, _)) = reading.owned.remove(partition) else {
                continue;
            };
            holding.at(generation);
            let since = holding.since();
            let stood_still = |(from, to): &(Moment, Moment)| *from < moment && since < *to;
            if !reading.still.iter().any(stood_still) {
                holding.gave_up(moment);
            }
            self.partition(*partition).holdings.push(holding);
        }
    }

    fn given(
        &mut self,
        reading: &mut Reading<'_>,
        moment: Moment,
        (partition, offset): (i32, i64),
        value: String,
    ) -> Result<(), Violation> {
        let member = reading.owner;
        let known = self.partition(partition);
        if !known.given(offset, &value, moment) {
            return Err(Violation::Invented {
                member: member.into(),
                partition,
                offset,
                value,
            });
        }
        let Some((holding, next)) = reading.owned.get_mut(&partition) else {
            return Ok(());
        };
        let is_kept = reading.kept.remove(&partition);
        let may_repeat = is_kept && reading.repeats_last;
        match next.replace(offset + 1) {
            None => known.begins.push(Begin {
                member: member.into(),
                owned_since: holding.since(),
                offset,
            }),
            Some(next) if next == offset => {}
            Some(next) if may_repeat && next == offset + 1 => {}
            Some(next) => {
                return Err(Violation::Jumped {
                    member: member.into(),
                    partition,
                    next,
                    given: offset,
                })
            }
        }
        Ok(())
    }

    /// Once everything is told.
    pub fn check(self) -> Result<(), Violation> {
        for (number, mut partition) in (0..).zip(self.partitions) {
            partition.committed.sort_unstable();
            let looks = self.looks.iter();
            let looks = looks.map(|look| (look.asked, look.told, look.committed[number as usize]));
            partition.check(number, looks)?;
            let owned = ownership::check(partition.holdings);
            let partition = number;
            owned.map_err(|wrong| Violation::Ownership { partition, wrong })?;
        }
        Ok(())
    }
}

impl Partition<'_> {
    /// Whether the record is there.
    fn given(&mut self, offset: i64, value: &str, moment: Moment) -> bool {
        let at = offset as usize;
        let there = self.records.get(at);
        let is_there = there.is_some_and(|(_, there)| there.trim_ascii_end() == value.as_bytes());
        if is_there {
            let first = self.given[at].map_or(moment, |first| first.min(moment));
            self.given[at] = Some(first);
        }
        is_there
    }

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
