//! Who owned one partition of a group, in which generations, and from when to when.
//!
//! In the consumer protocol (KIP-848) the epochs of the members are what generations are in the classic one: each
//! member has its own, and stays behind the group's until it has given up what others are to have. So a partition
//! has one owner at each epoch, as in each generation. What a member owned in two generations it owned in all
//! between.

use crate::diary::Moment;

/// One owner, from when it was told so to when it had the partition no more.
#[derive(Clone, Debug)]
pub struct Holding {
    owner: String,
    since: Moment,
    /// The first and the last generation in which it is known to have owned it; `None` outside of any.
    generations: Option<(i32, i32)>,
    /// When it gave the partition up because it was told to, unless others may have owned it already then.
    given_up: Option<Moment>,
}

impl Holding {
    pub fn begin(owner: &str, since: Moment) -> Holding {
        Holding {
            owner: owner.into(),
            since,
            generations: None,
            given_up: None,
        }
    }

    pub fn since(&self) -> Moment {
        self.since
    }

    /// It was owned in this generation too.
    pub fn at(&mut self, generation: i32) {
        if generation > 0 {
            let (first, _) = self.generations.unwrap_or((generation, generation));
            self.generations = Some((first, generation));
        }
    }

    pub fn gave_up(&mut self, moment: Moment) {
        self.given_up = Some(moment);
    }
}

/// What is wrong with a partition's owners.
#[derive(Debug, PartialEq, Eq)]
pub enum Wrong {
    TwoOwners {
        generation: i32,
        members: [String; 2],
    },
    /// The second member had it before the first one had given it up.
    TakenTooSoon { members: [String; 2] },
}

/// All who have owned the partition.
pub fn check(mut holdings: Vec<Holding>) -> Result<(), Wrong> {
    holdings.retain(|holding| holding.generations.is_some());
    holdings.sort_by_key(|holding| (holding.generations, holding.since));
    // Whose generations reach furthest so far.
    let mut furthest: Option<(i32, &Holding)> = None;
    for holding in &holdings {
        let (first, last) = holding.generations.expect("others were taken out");
        if let Some((reaches, former)) = furthest {
            if former.owner != holding.owner && first <= reaches {
                return Err(Wrong::TwoOwners {
                    generation: first,
                    members: [former.owner.clone(), holding.owner.clone()],
                });
            }
            if last <= reaches {
                continue;
            }
        }
        furthest = Some((last, holding));
    }
    check_moments(&holdings)
}

/// In the order of generations: who has given it up has done so before any later owner began.
fn check_moments(holdings: &[Holding]) -> Result<(), Wrong> {
    let mut earliest: Option<&Holding> = None;
    for former in holdings.iter().rev() {
        if let (Some(later), Some(given_up)) = (earliest, former.given_up) {
            if later.owner != former.owner && later.since < given_up {
                let members = [former.owner.clone(), later.owner.clone()];
                return Err(Wrong::TakenTooSoon { members });
            }
        }
        if earliest.is_none_or(|earliest| former.since < earliest.since) {
            earliest = Some(former);
        }
    }
    Ok(())
}
