//! Throttles: how fast followers that catch up are filled, where an operator has said so (KIP-73).
//!
//! A broker may be told how much of throttled partitions it gives to such followers in a second
//! (`leader.replication.throttled.rate`), and how much it takes (`follower.replication.throttled.rate`). The
//! leader keeps both: a push is paid for out of the [`TokenBucket`] of its own node, and out of one for the
//! follower's, which holds this leader's share ([`ThrottleRates`]). What in-sync followers get is never counted.
//!
//! Whoever wants to push pays in advance for as much as it may, and waits until it can; what it hasn't used
//! it is given back ([`Throttle::settle`]). Those who wait are served in their order, but nobody waits for a
//! bucket that it doesn't need.

use std::collections::{BTreeMap, VecDeque};

use super::turns::CATCH_UP_PUSH_BYTES_MAX;
use crate::model::{BrokerId, Timestamp};

/// What was saved up while nothing was sent is worth so much time at most.
const SAVED_MS_MAX: i64 = 1_000;
/// A push carries what the rate gives in a tenth of a second, within these bounds: small enough for an even
/// stream, and large enough to be worth its while.
const PUSHES_A_SECOND: u64 = 10;
const PUSH_BYTES_MIN: u64 = 16 << 10;
const PUSH_BYTES_MAX: u64 = CATCH_UP_PUSH_BYTES_MAX as u64;

/// Bytes that may be spent; a rate adds to them. Spending goes on until nothing is left, so the last of it may
/// be more than there was, and the next waits for so much longer.
#[derive(Debug)]
pub struct TokenBucket {
    /// Bytes a second.
    rate: u64,
    /// In thousandths of a byte, as many as the rate gives in a millisecond.
    left: i128,
    at: Timestamp,
}

impl TokenBucket {
    /// Without savings.
    pub fn new(rate: u64, now: Timestamp) -> TokenBucket {
        TokenBucket {
            rate,
            left: 0,
            at: now,
        }
    }

    /// What was saved or is owed stays, as far as it fits the new rate.
    pub fn set_rate(&mut self, rate: u64, now: Timestamp) {
        self.refill(now);
        self.rate = rate;
        self.refill(now);
    }

    /// Whether something may be spent. Nothing at all with a rate of 0.
    pub fn is_open(&mut self, now: Timestamp) -> bool {
        self.refill(now);
        self.rate > 0 && self.left >= 0
    }

    /// When it is open if nothing more is spent until then; `None` with a rate of 0.
    pub fn opens_at(&mut self, now: Timestamp) -> Option<Timestamp> {
        self.refill(now);
        let owed = u128::try_from(-self.left).unwrap_or(0);
        let ms = match self.rate {
            0 => return None,
            rate => owed.div_ceil(u128::from(rate)),
        };
        let ms = i64::try_from(ms).unwrap_or(i64::MAX);
        Some(Timestamp(now.0.saturating_add(ms)))
    }

    pub fn spend(&mut self, bytes: u64) {
        self.left -= i128::from(bytes) * 1_000;
    }

    pub fn give_back(&mut self, bytes: u64) {
        self.left += i128::from(bytes) * 1_000;
    }

    /// A clock that is set back adds nothing, and takes nothing.
    fn refill(&mut self, now: Timestamp) {
        let passed_ms = (now - self.at).max(0);
        self.at = now;
        let saved_max = i128::from(self.rate) * i128::from(SAVED_MS_MAX);
        self.left += i128::from(self.rate) * i128::from(passed_ms);
        self.left = self.left.min(saved_max);
    }
}

/// Bytes a second; who isn't named goes as fast as it can.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThrottleRates {
    /// What this node may give to all followers together.
    pub given: Option<u64>,
    /// What it may give to those of one broker: its share of what that one takes.
    pub taken: BTreeMap<BrokerId, u64>,
}

/// Pushes of one partition to one follower, and which rates they are held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttled {
    pub to: BrokerId,
    /// That of the leader's node.
    pub by_leader: bool,
    /// That of the follower's.
    pub by_follower: bool,
}

impl Throttled {
    fn shares_a_rate(&self, other: &Throttled) -> bool {
        let by_follower = self.by_follower && other.by_follower && self.to == other.to;
        by_follower || (self.by_leader && other.by_leader)
    }
}

/// What was paid for one push in advance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Toll {
    throttled: Throttled,
    bytes: u64,
}

impl Toll {
    /// How much the push may carry, unless a single batch is larger.
    pub fn bytes(&self) -> usize {
        usize::try_from(self.bytes).unwrap_or(usize::MAX)
    }
}

/// All throttled pushes of a node. `W` is somebody who waits.
#[derive(Debug)]
pub struct Throttle<W> {
    given: Option<TokenBucket>,
    taken: BTreeMap<BrokerId, TokenBucket>,
    waiting: VecDeque<(Throttled, W)>,
}

impl<W> Default for Throttle<W> {
    fn default() -> Throttle<W> {
        Throttle {
            given: None,
            taken: BTreeMap::new(),
            waiting: VecDeque::new(),
        }
    }
}

impl<W> Throttle<W> {
    /// Other rates may be a reason to ask for [`Self::due`].
    pub fn set_rates(&mut self, rates: &ThrottleRates, now: Timestamp) {
        let given = rates.given.map(|rate| (rate, self.given.take()));
        self.given = given.map(|(rate, known)| bucket(known, rate, now));
        let mut known = std::mem::take(&mut self.taken);
        let taken = rates.taken.iter().map(|(id, rate)| {
            let known = known.remove(id);
            (*id, bucket(known, *rate, now))
        });
        self.taken = taken.collect();
    }

    /// The toll for a push; `None` if `waits` is [due](Self::due) later. It must not ask again before.
    pub fn pay(
        &mut self,
        throttled: Throttled,
        now: Timestamp,
        waits: impl FnOnce() -> W,
    ) -> Option<Toll> {
        let mut before = self.waiting.iter();
        let is_first = !before.any(|(other, _)| throttled.shares_a_rate(other));
        let paid = is_first.then(|| self.paid(throttled, now)).flatten();
        if paid.is_none() {
            self.waiting.push_back((throttled, waits()));
        }
        paid
    }

    /// Those who have waited long enough, with what they have paid.
    pub fn due(&mut self, now: Timestamp) -> Vec<(W, Toll)> {
        let mut due = Vec::new();
        for (throttled, waits) in std::mem::take(&mut self.waiting) {
            match self.paid(throttled, now) {
                Some(toll) => due.push((waits, toll)),
                None => self.waiting.push_back((throttled, waits)),
            }
        }
        due
    }

    /// When somebody who waits is due; `None` if nobody is until the rates change.
    pub fn next_due(&mut self, now: Timestamp) -> Option<Timestamp> {
        let waiting = std::mem::take(&mut self.waiting);
        let due = waiting.iter().filter_map(|(throttled, _)| {
            let mut buckets = self.buckets(*throttled);
            buckets.try_fold(now, |due, bucket| Some(due.max(bucket.opens_at(now)?)))
        });
        let next = due.min();
        self.waiting = waiting;
        next
    }

    /// What the push has really carried; 0 if there was none.
    pub fn settle(&mut self, toll: Toll, carried: usize) {
        let carried = u64::try_from(carried).unwrap_or(u64::MAX);
        for bucket in self.buckets(toll.throttled) {
            bucket.give_back(toll.bytes);
            bucket.spend(carried);
        }
    }

    fn paid(&mut self, throttled: Throttled, now: Timestamp) -> Option<Toll> {
        let mut bytes = PUSH_BYTES_MAX;
        for bucket in self.buckets(throttled) {
            if !bucket.is_open(now) {
                return None;
            }
            bytes = bytes.min((bucket.rate / PUSHES_A_SECOND).max(PUSH_BYTES_MIN));
        }
        for bucket in self.buckets(throttled) {
            bucket.spend(bytes);
        }
        Some(Toll { throttled, bytes })
    }

    fn buckets(&mut self, throttled: Throttled) -> impl Iterator<Item = &mut TokenBucket> + '_ {
        let given = self.given.as_mut().filter(|_| throttled.by_leader);
        let taken = self.taken.get_mut(&throttled.to);
        given
            .into_iter()
            .chain(taken.filter(|_| throttled.by_follower))
    }
}

fn bucket(known: Option<TokenBucket>, rate: u64, now: Timestamp) -> TokenBucket {
    match known {
        Some(mut bucket) => {
            bucket.set_rate(rate, now);
            bucket
        }
        None => TokenBucket::new(rate, now),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NODE: BrokerId = BrokerId(2);

    fn held(to: i32, by_leader: bool, by_follower: bool) -> Throttled {
        Throttled {
            to: BrokerId(to),
            by_leader,
            by_follower,
        }
    }

    fn rates(given: Option<u64>, taken: &[(i32, u64)]) -> ThrottleRates {
        ThrottleRates {
            given,
            taken: taken
                .iter()
                .map(|(id, rate)| (BrokerId(*id), *rate))
                .collect(),
        }
    }

    #[test]
    fn a_bucket_waits_for_what_was_spent_beyond_what_there_was() {
        let mut bucket = TokenBucket::new(1_000, Timestamp(0));
        assert!(bucket.is_open(Timestamp(0)));
        bucket.spend(3_500);
        assert_eq!(bucket.opens_at(Timestamp(500)), Some(Timestamp(3_500)));
        assert!(!bucket.is_open(Timestamp(3_499)));
        assert!(bucket.is_open(Timestamp(3_500)));
    }

    #[test]
    fn a_new_rate_pays_what_is_owed_and_none_pays_nothing() {
        let mut bucket = TokenBucket::new(1_000, Timestamp(0));
        bucket.spend(10_000);
        bucket.set_rate(0, Timestamp(1_000));
        assert_eq!(bucket.opens_at(Timestamp(90_000)), None);
        assert!(!bucket.is_open(Timestamp(90_000)));
        bucket.set_rate(9_000, Timestamp(90_000));
        assert_eq!(bucket.opens_at(Timestamp(90_000)), Some(Timestamp(91_000)));
    }

    #[test]
    fn a_clock_that_is_set_back_holds_nothing_up() {
        let mut bucket = TokenBucket::new(1_000, Timestamp(100_000));
        bucket.spend(500);
        assert_eq!(bucket.opens_at(Timestamp(0)), Some(Timestamp(500)));
        assert!(bucket.is_open(Timestamp(500)));
    }

    #[test]
    fn who_waits_is_served_in_order_and_nobody_for_a_rate_of_others() {
        let mut throttle = Throttle::default();
        throttle.set_rates(&rates(Some(1_000_000), &[(3, 1_000_000)]), Timestamp(0));
        let now = Timestamp(0);
        let paid = throttle.pay(held(2, true, false), now, || "first");
        assert_eq!(paid.map(|toll| toll.bytes()), Some(100_000));
        assert_eq!(throttle.pay(held(2, true, false), now, || "second"), None);
        assert_eq!(throttle.pay(held(3, true, true), now, || "third"), None);
        // Broker 4 has no rate of its own, and these don't share the leader's.
        assert!(throttle.pay(held(4, false, true), now, || "free").is_some());
        assert_eq!(throttle.pay(held(3, false, true), now, || "behind"), None);
        assert_eq!(
            throttle.next_due(now),
            Some(now),
            "it waits for its turn alone"
        );
        let due = |throttle: &mut Throttle<&'static str>, now| {
            let due = throttle.due(Timestamp(now)).into_iter();
            due.map(|(waits, _)| waits).collect::<Vec<_>>()
        };
        assert_eq!(due(&mut throttle, 0), ["behind"]);
        assert_eq!(throttle.next_due(now), Some(Timestamp(100)));
        assert_eq!(due(&mut throttle, 99), Vec::<&str>::new());
        assert_eq!(due(&mut throttle, 100), ["second"]);
        assert_eq!(due(&mut throttle, 200), ["third"]);
    }

    #[test]
    fn without_rates_nobody_waits_and_those_who_do_are_due() {
        let mut throttle = Throttle::default();
        let now = Timestamp(0);
        throttle.set_rates(&rates(Some(0), &[]), now);
        assert_eq!(throttle.pay(held(2, true, true), now, || "waits"), None);
        assert_eq!(throttle.next_due(now), None);
        throttle.set_rates(&ThrottleRates::default(), now);
        assert_eq!(throttle.due(now).len(), 1);
        assert!(throttle.pay(held(2, true, true), now, || "new").is_some());
    }

    #[test]
    fn what_a_push_has_not_carried_is_given_back() {
        let mut throttle = Throttle::default();
        let now = Timestamp(0);
        throttle.set_rates(&rates(Some(1_000_000), &[]), now);
        let toll = throttle.pay(held(2, true, false), now, || ()).unwrap();
        throttle.settle(toll, 0);
        let toll = throttle.pay(held(2, true, false), now, || ()).unwrap();
        throttle.settle(toll, 300_000);
        assert_eq!(throttle.pay(held(2, true, false), now, || ()), None);
        assert_eq!(throttle.next_due(now), Some(Timestamp(300)));
    }

    proptest! {
        /// However many push, however large their batches are, and whatever they leave unused: in any time
        /// from the first push on there go no more bytes than the rate gives, its savings, and what the last
        /// push has carried beyond what there was.
        #[test]
        fn no_more_goes_than_the_rate_gives(
            rate in 1_000u64..5_000_000,
            steps in prop::collection::vec((0i64..400, 0usize..2_000_000), 1..200),
        ) {
            let mut throttle = Throttle::default();
            throttle.set_rates(&rates(None, &[(NODE.0, rate)]), Timestamp(0));
            let pushes = held(NODE.0, false, true);
            let (mut now, mut sent, mut largest) = (0, 0u64, 0);
            let mut waits = false;
            for (passes, carries) in steps {
                now += passes;
                let toll = match waits {
                    true => throttle.due(Timestamp(now)).pop().map(|((), toll)| toll),
                    false => throttle.pay(pushes, Timestamp(now), || ()),
                };
                waits = toll.is_none();
                if let Some(toll) = toll {
                    throttle.settle(toll, carries);
                    sent += carries as u64;
                    largest = largest.max(carries as u64);
                }
                let given = rate * (now + SAVED_MS_MAX) as u64 / 1_000;
                prop_assert!(sent <= given + largest, "{sent} of {given}");
            }
        }

        /// And as long as somebody waits, no less.
        #[test]
        fn no_less_goes_than_the_rate_gives(rate in 20_000u64..5_000_000, partitions in 1usize..50) {
            let mut throttle = Throttle::default();
            throttle.set_rates(&rates(Some(rate), &[]), Timestamp(0));
            let pushes = held(NODE.0, true, false);
            let (mut now, mut sent) = (Timestamp(0), 0);
            let mut tolls: Vec<Toll> = Vec::new();
            for number in 0..partitions {
                tolls.extend(throttle.pay(pushes, now, || number));
            }
            while now < Timestamp(20_000) {
                for toll in tolls.drain(..) {
                    throttle.settle(toll, toll.bytes());
                    sent += toll.bytes as u128;
                    prop_assert!(throttle.pay(pushes, now, || 0).is_none());
                }
                now = throttle.next_due(now).unwrap();
                tolls = throttle.due(now).into_iter().map(|(_, toll)| toll).collect();
            }
            let given = u128::from(rate) * now.0 as u128 / 1_000;
            prop_assert!(sent + u128::from(PUSH_BYTES_MAX) > given, "{sent} of {given}");
        }
    }
}
