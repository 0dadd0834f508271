//! In which order the requests of one connection begin, and their answers leave.
//!
//! In MessagePack a request begins as it comes and its answer leaves when it is there. A Kafka
//! client takes the next response on its connection for that of its oldest request, so answers
//! leave in the order of the requests; and since an answer that waits for another takes up room, a
//! request that needs any begins only when it is the oldest. Produce requests begin at once in both:
//! it is for them that clients have several on their way, and their answers are small.

use std::collections::VecDeque;

use crate::protocol::Encoding;

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub enum Due<R, A> {
    /// This answer leaves now.
    Leave(A),
    /// This request begins now.
    Begin(R),
}

#[derive(Debug)]
pub enum Turn<R, A> {
    /// It begins when it is the oldest.
    Parked(R),
    Begun,
    /// `None`: the request has no answer.
    Done(Option<A>),
}

/// The requests of one connection, of kind `R`, and their answers, of kind `A`.
#[derive(Debug)]
pub enum Turns<R, A> {
    AsTheyCome {
        /// The number of the next request.
        next: u64,
    },
    InOrder {
        /// The number of the oldest request; those after it follow.
        oldest: u64,
        turns: VecDeque<Turn<R, A>>,
    },
}

impl<R, A> Turns<R, A> {
    pub fn of(encoding: Encoding) -> Turns<R, A> {
        match encoding {
            Encoding::MessagePack => Turns::AsTheyCome { next: 0 },
            Encoding::Kafka => Turns::InOrder {
                oldest: 0,
                turns: VecDeque::new(),
            },
        }
    }

    /// Numbers a request that begins at once.
    pub fn begin(&mut self) -> u64 {
        match self {
            Turns::AsTheyCome { next } => {
                *next += 1;
                *next - 1
            }
            Turns::InOrder { oldest, turns } => {
                turns.push_back(Turn::Begun);
                *oldest + turns.len() as u64 - 1
            }
        }
    }

    /// Takes a request in turn, which is made with its number: it comes back as [`Due::Begin`],
    /// now or later.
    pub fn enter(&mut self, request: impl FnOnce(u64) -> R) -> Option<Due<R, A>> {
        match self {
            Turns::InOrder { oldest, turns } if !turns.is_empty() => {
                let number = *oldest + turns.len() as u64;
                turns.push_back(Turn::Parked(request(number)));
                None
            }
            _ => Some(Due::Begin(request(self.begin()))),
        }
    }

    /// The request of this number has its answer, or has none. Call [`Self::next`] after it.
    pub fn done(&mut self, number: u64, answer: Option<A>) -> Option<Due<R, A>> {
        match self {
            Turns::AsTheyCome { .. } => answer.map(Due::Leave),
            Turns::InOrder { oldest, turns } => {
                let place = number.checked_sub(*oldest)?;
                *turns.get_mut(usize::try_from(place).ok()?)? = Turn::Done(answer);
                self.next()
            }
        }
    }

    /// What else is due.
    pub fn next(&mut self) -> Option<Due<R, A>> {
        let Turns::InOrder { oldest, turns } = self else {
            return None;
        };
        loop {
            match turns.pop_front()? {
                Turn::Done(answer) => {
                    *oldest += 1;
                    if let Some(answer) = answer {
                        return Some(Due::Leave(answer));
                    }
                }
                Turn::Begun => {
                    turns.push_front(Turn::Begun);
                    return None;
                }
                Turn::Parked(request) => {
                    turns.push_front(Turn::Begun);
                    return Some(Due::Begin(request));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Case = Turns<(u64, &'static str), &'static str>;

    fn named(name: &'static str) -> impl FnOnce(u64) -> (u64, &'static str) {
        move |number| (number, name)
    }

    #[test]
    fn in_messagepack_everything_begins_and_leaves_as_it_comes() {
        let mut turns = Case::of(Encoding::MessagePack);
        assert_eq!(turns.enter(named("fetch")), Some(Due::Begin((0, "fetch"))));
        assert_eq!(
            turns.enter(named("metadata")),
            Some(Due::Begin((1, "metadata")))
        );
        assert_eq!(turns.begin(), 2);
        assert_eq!(turns.done(1, Some("b")), Some(Due::Leave("b")));
        assert_eq!(turns.next(), None);
        assert_eq!(turns.done(2, None), None);
        assert_eq!(turns.done(0, Some("a")), Some(Due::Leave("a")));
    }

    #[test]
    fn in_kafka_answers_leave_in_the_order_of_the_requests() {
        let mut turns = Case::of(Encoding::Kafka);
        assert_eq!((turns.begin(), turns.begin(), turns.begin()), (0, 1, 2));
        assert_eq!(turns.done(2, Some("c")), None);
        // acks=0 has no answer, and holds nobody up.
        assert_eq!(turns.done(1, None), None);
        assert_eq!(turns.done(0, Some("a")), Some(Due::Leave("a")));
        assert_eq!(turns.next(), Some(Due::Leave("c")));
        assert_eq!(turns.next(), None);
    }

    #[test]
    fn in_kafka_a_request_that_needs_room_begins_when_it_is_the_oldest() {
        let mut turns = Case::of(Encoding::Kafka);
        assert_eq!(turns.enter(named("fetch")), Some(Due::Begin((0, "fetch"))));
        assert_eq!(turns.enter(named("metadata")), None);
        // A Produce behind it begins at once all the same, and its answer waits.
        assert_eq!(turns.begin(), 2);
        assert_eq!(turns.done(2, Some("produced")), None);
        assert_eq!(turns.done(0, Some("fetched")), Some(Due::Leave("fetched")));
        assert_eq!(turns.next(), Some(Due::Begin((1, "metadata"))));
        assert_eq!(turns.next(), None);
        assert_eq!(turns.done(1, Some("told")), Some(Due::Leave("told")));
        assert_eq!(turns.next(), Some(Due::Leave("produced")));
        assert_eq!(turns.next(), None);
        assert_eq!(turns.enter(named("again")), Some(Due::Begin((3, "again"))));
    }
}
