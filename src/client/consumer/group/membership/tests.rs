//! A member's life, step by step.

use std::collections::BTreeMap;

use super::*;
use crate::model::{ErrorCode, Offset};
use crate::protocol::join_group::{JoinGroupResponseMember, Response as Joined};

/// Starts with a member that hasn't done anything.
struct Life {
    member: Membership,
    now: Instant,
}

fn habits() -> Habits {
    Habits {
        group_id: "g".into(),
        is_static: false,
        is_cooperative: true,
        heartbeat_interval: Duration::from_secs(1),
        max_poll_interval: Duration::from_secs(300),
        client: ClientConfig::default(),
        consumer: ConsumerConfig::default(),
    }
}

fn parts(numbers: &[i32]) -> BTreeSet<TopicPartition> {
    numbers.iter().map(|n| ("t".into(), *n)).collect()
}

fn joined(generation: i32) -> Joined {
    Joined {
        generation_id: generation,
        protocol_name: Some("cooperative-sticky".into()),
        leader: "other".into(),
        member_id: "me".into(),
        ..Default::default()
    }
}

fn refused_with(code: ErrorCode) -> Joined {
    Joined {
        error_code: code,
        generation_id: -1,
        ..Default::default()
    }
}

fn lost_connection() -> ClientError {
    ClientError::ConnectionLost {
        address: "b:1".into(),
        reason: "reset".into(),
    }
}

impl Life {
    fn begin() -> Life {
        Life::with(habits())
    }

    fn with(habits: Habits) -> Life {
        let now = Instant::now();
        Life {
            member: Membership::new(habits, now),
            now,
        }
    }

    fn act(&mut self) -> Vec<Effect> {
        self.member.act(self.now)
    }

    /// The only thing to do now.
    fn only(&mut self) -> Effect {
        let mut effects = self.act();
        let only = effects.pop().expect("there is something to do");
        assert_eq!(effects, []);
        only
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn turn(&self) -> u64 {
        self.member.turn
    }

    fn joins(&mut self, owned: &[i32]) {
        match self.only() {
            Effect::Join { owned: has, .. } => assert_eq!(has, parts(owned)),
            other => panic!("{other:?}"),
        }
    }

    fn is_joined(&mut self, generation: i32) {
        let turn = self.turn();
        self.member.joined(self.now, turn, Ok(joined(generation)));
        let effect = self.only();
        assert!(matches!(effect, Effect::Sync { .. }), "{effect:?}");
    }

    fn is_assigned(&mut self, numbers: &[i32]) {
        let turn = self.turn();
        self.member.synced(self.now, turn, Ok(Ok(parts(numbers))));
    }

    /// It knows where to start, at 7 in each.
    fn is_positioned(&mut self) {
        let turn = self.turn();
        let new = self.member.new.clone().into_iter();
        let offsets = new.map(|partition| (partition, Offset(7)));
        self.member
            .positioned(self.now, turn, Ok(offsets.collect()));
    }

    /// A member in generation 1 with these partitions.
    fn stable(numbers: &[i32]) -> Life {
        Life::stable_with(habits(), numbers)
    }

    fn stable_with(habits: Habits, numbers: &[i32]) -> Life {
        let mut life = Life::with(habits);
        life.joins(&[]);
        life.is_joined(1);
        life.is_assigned(numbers);
        life.act();
        life.is_positioned();
        life.act();
        life
    }

    /// What the application is told first of the generation that it is in.
    fn told_generation(&self) -> Event {
        Event::Joined(self.member.identity().expect("it is a member"))
    }

    fn hears(&mut self, code: ErrorCode) {
        let identity = self.member.identity().expect("it is a member");
        self.member.heard(self.now, &identity, Ok(code));
    }

    fn rebalances(&mut self) {
        self.hears(ErrorCode::RebalanceInProgress);
    }
}

fn told(effects: Vec<Effect>) -> Vec<Event> {
    let told = effects.into_iter().filter_map(|effect| match effect {
        Effect::Tell(event) => Some(event),
        _ => None,
    });
    told.collect()
}

#[test]
fn it_joins_under_the_id_that_it_is_told_and_reads_from_where_the_group_is() {
    let mut life = Life::begin();
    life.joins(&[]);
    let required = Joined {
        member_id: "me".into(),
        ..refused_with(ErrorCode::MemberIdRequired)
    };
    life.member.joined(life.now, life.turn(), Ok(required));
    match life.only() {
        Effect::Join { member_id, .. } => assert_eq!(member_id, "me"),
        other => panic!("{other:?}"),
    }
    life.is_joined(4);
    assert_eq!(life.member.identity().unwrap().generation, 4);
    life.is_assigned(&[0, 1]);
    let asked = Effect::FetchOffsets {
        turn: life.turn(),
        partitions: parts(&[0, 1]),
    };
    assert_eq!(life.act(), [Effect::Tell(life.told_generation()), asked]);
    // Of one of them nothing is committed.
    let offsets = [(("t".into(), 1), Offset(9))].into();
    life.member.positioned(life.now, life.turn(), Ok(offsets));
    let assigned = [(("t".into(), 0), None), (("t".into(), 1), Some(Offset(9)))];
    let assigned = Event::Assigned(assigned.into());
    assert_eq!(life.only(), Effect::Tell(assigned));
    // And then it only says that it is there.
    assert_eq!(life.act(), []);
    life.pass(Duration::from_secs(1));
    let identity = life.member.identity().unwrap();
    assert_eq!(life.only(), Effect::Heartbeat(identity.clone()));
    life.pass(Duration::from_secs(1));
    assert_eq!(life.act(), [], "one after the other");
    life.member.heard(life.now, &identity, Ok(ErrorCode::None));
    assert_eq!(
        life.member.wake_at(),
        Some(life.now + Duration::from_secs(1))
    );
}

#[test]
fn the_leader_is_told_whom_to_assign_to() {
    let mut life = Life::begin();
    life.joins(&[]);
    let members = vec![JoinGroupResponseMember {
        member_id: "me".into(),
        ..Default::default()
    }];
    let leads = Joined {
        leader: "me".into(),
        members: members.clone(),
        ..joined(1)
    };
    life.member.joined(life.now, life.turn(), Ok(leads));
    match life.only() {
        Effect::Sync { leads, .. } => assert_eq!(leads.unwrap().members, members),
        other => panic!("{other:?}"),
    }
}

#[test]
fn cooperatively_it_keeps_what_it_has_and_joins_again_when_the_rest_is_given_up() {
    let mut life = Life::stable(&[0, 1, 2]);
    life.rebalances();
    life.joins(&[0, 1, 2]);
    life.is_joined(2);
    life.is_assigned(&[0, 3]);
    let turn = life.turn();
    let effects = life.act();
    let revoked = Event::Revoked(turn, parts(&[1, 2]));
    assert_eq!(told(effects), [life.told_generation(), revoked]);
    life.is_positioned();
    assert!(matches!(life.only(), Effect::Tell(Event::Assigned(new)) if new.len() == 1));
    // The application takes its time; the session goes on.
    life.pass(Duration::from_secs(1));
    assert!(matches!(life.only(), Effect::Heartbeat(_)));
    life.rebalances();
    assert_eq!(life.act(), [], "not before it is given up");
    life.member.given_up(turn - 1);
    assert_eq!(life.act(), [], "that was another time");
    life.member.given_up(turn);
    life.joins(&[0, 3]);
}

#[test]
fn eagerly_it_gives_up_everything_before_it_joins() {
    let eager = Habits {
        is_cooperative: false,
        ..habits()
    };
    let mut life = Life::stable_with(eager, &[0, 1]);
    life.rebalances();
    let revoked = Event::Revoked(life.turn() + 1, parts(&[0, 1]));
    assert_eq!(life.only(), Effect::Tell(revoked));
    life.pass(Duration::from_secs(1));
    assert!(matches!(life.only(), Effect::Heartbeat(_)));
    life.rebalances();
    life.member.given_up(life.turn());
    life.joins(&[]);
    life.is_joined(2);
    life.is_assigned(&[1]);
    life.act();
    life.is_positioned();
    assert!(matches!(life.only(), Effect::Tell(Event::Assigned(new)) if new.len() == 1));
}

#[test]
fn what_a_generation_ends_before_it_was_positioned_is_never_told() {
    let mut life = Life::begin();
    life.joins(&[]);
    life.is_joined(1);
    life.is_assigned(&[0, 1]);
    life.act();
    let turn = life.turn();
    life.hears(ErrorCode::UnknownMemberId);
    assert_eq!(told(life.act()), [Event::Lost(parts(&[0, 1]))]);
    life.member.positioned(life.now, turn, Ok(BTreeMap::new()));
    assert_eq!(life.act(), []);
}

#[test]
fn one_who_is_fenced_loses_all_and_joins_anew() {
    for (code, id) in [
        (ErrorCode::UnknownMemberId, ""),
        (ErrorCode::IllegalGeneration, "me"),
    ] {
        let mut life = Life::stable(&[0]);
        life.hears(code);
        assert_eq!(told(life.act()), [Event::Lost(parts(&[0]))]);
        assert_eq!(life.member.identity(), None);
        life.pass(PAUSE_MAX);
        match life.only() {
            Effect::Join {
                member_id,
                generation,
                owned,
                ..
            } => {
                assert_eq!((&*member_id, generation), (id, -1));
                assert_eq!(owned, parts(&[]));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_coordinator_that_moves_is_looked_for_and_nothing_is_lost() {
    let mut life = Life::stable(&[0]);
    for answer in [
        Ok(ErrorCode::NotCoordinator),
        Ok(ErrorCode::CoordinatorLoadInProgress),
        Err(lost_connection()),
    ] {
        life.pass(Duration::from_secs(1));
        let Effect::Heartbeat(identity) = life.only() else {
            panic!("it is heard from");
        };
        life.member.heard(life.now, &identity, answer);
        assert!(life.member.wake_at().unwrap() <= life.now + PAUSE_MAX);
    }
    // So it is while it joins and syncs.
    life.pass(PAUSE_MAX);
    life.act();
    life.rebalances();
    life.joins(&[0]);
    life.member
        .joined(life.now, life.turn(), Err(lost_connection()));
    life.pass(PAUSE_MAX);
    life.joins(&[0]);
    life.is_joined(2);
    let moved = Ok(Err(ErrorCode::NotCoordinator));
    life.member.synced(life.now, life.turn(), moved);
    assert_eq!(life.act(), []);
    life.pass(PAUSE_MAX);
    life.joins(&[0]);
}

#[test]
fn an_answer_to_an_earlier_question_is_not_listened_to() {
    let mut life = Life::begin();
    life.joins(&[]);
    let first = life.turn();
    life.member.joined(life.now, first, Err(lost_connection()));
    life.pass(PAUSE_MAX);
    life.joins(&[]);
    life.member.joined(life.now, first, Ok(joined(1)));
    assert_eq!(life.act(), []);
    life.is_joined(2);
    // A heartbeat of an earlier generation.
    life.is_assigned(&[]);
    assert_eq!(told(life.act()), [life.told_generation()]);
    let former = Identity {
        member_id: "me".into(),
        generation: 1,
    };
    let answer = Ok(ErrorCode::UnknownMemberId);
    life.member.heard(life.now, &former, answer);
    assert_eq!(life.act(), []);
}

#[test]
fn who_does_not_poll_leaves_and_comes_back_with_the_next_poll() {
    let mut life = Life::stable(&[0]);
    life.member.polls(life.now);
    life.pass(Duration::from_secs(1000));
    assert!(!told(life.act()).contains(&Event::Lost(parts(&[0]))));
    life.member.polled(life.now);
    life.pass(Duration::from_secs(300));
    let effects = life.act();
    let leave = Effect::Leave {
        member_id: "me".into(),
    };
    let lost = Effect::Tell(Event::Lost(parts(&[0])));
    assert_eq!(effects, [leave, lost]);
    life.pass(Duration::from_secs(1000));
    life.member.polled(life.now);
    assert_eq!(life.act(), []);
    assert_eq!(life.member.wake_at(), None);
    life.member.polls(life.now);
    life.joins(&[]);
}

#[test]
fn a_static_member_does_not_leave_and_is_told_when_another_has_its_name() {
    let fixed = Habits {
        is_static: true,
        ..habits()
    };
    let mut life = Life::stable_with(fixed.clone(), &[0]);
    assert_eq!(life.member.end(), []);
    assert!(life.member.is_ended());

    let mut life = Life::stable_with(fixed, &[0]);
    life.hears(ErrorCode::FencedInstanceId);
    let told = told(life.act());
    assert_eq!(told[0], Event::Lost(parts(&[0])));
    assert!(matches!(&told[1], Event::Failed(error)
        if error.code() == Some(ErrorCode::FencedInstanceId)));
    assert!(life.member.is_ended());
    life.pass(Duration::from_secs(1000));
    assert_eq!(life.act(), []);
}

#[test]
fn what_waiting_does_not_help_is_told_at_once_and_what_it_does_after_a_while() {
    let mut life = Life::begin();
    life.joins(&[]);
    let full = refused_with(ErrorCode::GroupMaxSizeReached);
    life.member.joined(life.now, life.turn(), Ok(full));
    assert!(matches!(life.only(), Effect::Tell(Event::Failed(_))));
    assert!(life.member.is_ended());

    let mut life = Life::begin();
    life.member.polls(life.now);
    let begun = life.now;
    loop {
        let effects = life.act();
        let is_told = effects.iter().any(|it| matches!(it, Effect::Tell(_)));
        if is_told {
            break;
        }
        if effects.iter().any(|it| matches!(it, Effect::Join { .. })) {
            life.member
                .joined(life.now, life.turn(), Err(lost_connection()));
        }
        life.now = life.member.wake_at().expect("it goes on");
    }
    assert!(life.now >= begun + ConsumerConfig::default().retry_timeout);
    assert!(!life.member.is_ended());
}

#[test]
fn a_group_that_rebalances_again_and_again_is_no_error() {
    let mut life = Life::begin();
    life.member.polls(life.now);
    let begun = life.now;
    while life.now < begun + 2 * ConsumerConfig::default().retry_timeout {
        let effect = life.only();
        assert!(matches!(effect, Effect::Join { .. }), "{effect:?}");
        life.is_joined(1);
        // It was too slow for its session.
        let gone = Ok(Err(ErrorCode::UnknownMemberId));
        life.member.synced(life.now, life.turn(), gone);
        life.now = life.member.wake_at().expect("it goes on");
    }
}

#[test]
fn the_leader_joins_again_when_the_topics_have_changed() {
    let mut life = Life::stable(&[0]);
    life.member.topics_changed();
    life.joins(&[0]);
}

#[test]
fn one_that_ends_tells_the_others() {
    let mut life = Life::stable(&[0]);
    let leave = Effect::Leave {
        member_id: "me".into(),
    };
    assert_eq!(life.member.end(), [leave]);
    assert_eq!(life.act(), []);
}
