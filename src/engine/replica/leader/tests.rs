//! Who is released, and when.

use super::super::readers::READERS_SWEEP_MIN;
use super::*;

#[derive(Debug, PartialEq, Eq)]
struct Reader(&'static str);

impl Patience for Reader {
    fn is_gone(&self) -> bool {
        self.0 == "gone"
    }
}

type Replica = LeaderReplica<&'static str, Reader>;

const NODE: BrokerId = BrokerId(1);

fn alone() -> Membership {
    Membership {
        replicas: vec![NODE],
        in_sync: vec![NODE],
        partition_epoch: 0,
        min_in_sync: 1,
        has_eligible_leaders: false,
    }
}

fn replica(rule: CommitRule) -> Replica {
    let start = LeaderStart {
        node: NODE,
        epoch: LeaderEpoch(3),
        rule,
        log_end: Offset(10),
        synced: Offset(10),
        high_watermark: Offset(0),
    };
    LeaderReplica::new(start, alone(), Timestamp(0))
}

const LATER: Timestamp = Timestamp(1_000);

#[test]
fn one_sync_releases_everyone_that_it_covers_and_nobody_else() {
    let mut replica = replica(CommitRule::Synced);
    for (end, ticket) in [(11, "a"), (15, "b"), (16, "c")] {
        assert!(replica
            .appended(Offset(end), Timestamp(0))
            .committed
            .is_empty());
        assert_eq!(
            replica.wait_for_commit(Offset(end), LATER, ticket),
            Commit::Waits
        );
    }
    assert_eq!(replica.high_watermark(), Offset(10));
    assert_eq!(replica.synced(Offset(15)).committed, ["a", "b"]);
    assert_eq!(replica.high_watermark(), Offset(15));
    assert_eq!(replica.synced(Offset(16)).committed, ["c"]);
}

#[test]
fn without_syncs_an_append_commits() {
    let mut replica = replica(CommitRule::Written);
    replica.appended(Offset(12), Timestamp(0));
    assert_eq!(replica.high_watermark(), Offset(12));
    assert_eq!(
        replica.wait_for_commit(Offset(12), LATER, "a"),
        Commit::Done("a")
    );
}

#[test]
fn the_high_watermark_never_goes_back() {
    let mut replica = replica(CommitRule::Synced);
    replica.appended(Offset(20), Timestamp(0));
    replica.synced(Offset(20));
    replica.synced(Offset(12));
    assert_eq!(replica.high_watermark(), Offset(20));
}

#[test]
fn a_duplicate_of_a_record_that_is_not_yet_on_disk_waits_in_its_place() {
    let mut replica = replica(CommitRule::Synced);
    replica.appended(Offset(12), Timestamp(0));
    replica.wait_for_commit(Offset(11), LATER, "first");
    replica.wait_for_commit(Offset(12), LATER, "second");
    replica.wait_for_commit(Offset(11), LATER, "first again");
    let released = replica.synced(Offset(11));
    assert_eq!(released.committed, ["first", "first again"]);
}

#[test]
fn a_reader_is_woken_once_by_the_next_advance() {
    let mut replica = replica(CommitRule::Synced);
    replica.wait_for_advance(Reader("r"));
    assert!(replica.appended(Offset(11), Timestamp(0)).woken.is_empty());
    assert_eq!(replica.synced(Offset(11)).woken, [Reader("r")]);
    replica.appended(Offset(12), Timestamp(0));
    assert!(replica.synced(Offset(12)).woken.is_empty());
}

#[test]
fn readers_who_left_are_not_kept() {
    let mut replica = replica(CommitRule::Synced);
    for _ in 0..10_000 {
        replica.wait_for_advance(Reader("gone"));
    }
    assert!(replica.readers.len() <= 2 * READERS_SWEEP_MIN);
}

#[test]
fn a_producer_waits_no_longer_than_its_deadline() {
    let mut replica = replica(CommitRule::Synced);
    replica.appended(Offset(12), Timestamp(0));
    replica.wait_for_commit(Offset(11), Timestamp(50), "hasty");
    replica.wait_for_commit(Offset(12), Timestamp(90), "patient");
    assert!(replica.expire(Timestamp(49)).is_empty());
    assert_eq!(replica.expire(Timestamp(50)), ["hasty"]);
    assert_eq!(replica.synced(Offset(12)).committed, ["patient"]);
}

#[test]
fn too_few_in_sync_replicas_refuse_acks_all_only() {
    let mut replica = replica(CommitRule::Synced);
    let mut membership = Membership {
        replicas: vec![NODE, BrokerId(2)],
        partition_epoch: 1,
        min_in_sync: 2,
        ..alone()
    };
    replica.assign(membership.clone(), Timestamp(0));
    assert_eq!(replica.admit(Acks::All), Err(ErrorCode::NotEnoughReplicas));
    assert_eq!(replica.admit(Acks::Leader), Ok(()));
    membership.partition_epoch = 2;
    membership.in_sync.push(BrokerId(2));
    replica.assign(membership, Timestamp(0));
    assert_eq!(replica.admit(Acks::All), Ok(()));
}

#[test]
fn a_leader_is_not_at_rest_while_somebody_who_has_everything_is_not_in_sync() {
    let mut replica = replica(CommitRule::Synced);
    let other = BrokerId(2);
    let mut membership = Membership {
        replicas: vec![NODE, other],
        partition_epoch: 1,
        ..alone()
    };
    replica.assign(membership.clone(), Timestamp(0));
    let end = Offset(10);
    let ack = Ack {
        leader_epoch: LeaderEpoch(3),
        written: end,
        synced: end,
        log_start: Offset(0),
    };
    replica.acked(other, ack, Timestamp(1));
    replica.sent(other, end, 0, Timestamp(1));
    // It is fenced yet, and nothing more is to be heard of it.
    assert_eq!(replica.propose_isr(1_000, Timestamp(1), |_| false), None);
    assert!(!replica.is_at_rest());
    let proposal = replica.propose_isr(1_000, Timestamp(2), |_| true).unwrap();
    membership.partition_epoch = 2;
    membership.in_sync = proposal.isr;
    replica.assign(membership, Timestamp(3));
    assert!(replica.is_at_rest());
}

#[test]
fn a_consumer_can_read_from_followers_that_are_in_sync_and_have_what_it_wants() {
    let mut replica = replica(CommitRule::Synced);
    let others = [BrokerId(2), BrokerId(3)];
    let membership = Membership {
        replicas: vec![NODE, others[0], others[1]],
        in_sync: vec![NODE, others[0]],
        partition_epoch: 1,
        ..alone()
    };
    replica.assign(membership, Timestamp(0));
    let ack = Ack {
        leader_epoch: LeaderEpoch(3),
        written: Offset(8),
        synced: Offset(8),
        log_start: Offset(5),
    };
    for other in others {
        replica.acked(other, ack, Timestamp(7));
    }
    let readable = |offset| {
        let all = replica.readable_at(Offset(offset));
        all.map(|follower| follower.id).collect::<Vec<_>>()
    };
    assert_eq!(readable(4), [], "it has deleted more than its leader");
    assert_eq!(readable(5), [BrokerId(2)]);
    assert_eq!(readable(8), [BrokerId(2)]);
    assert_eq!(readable(9), []);
}

#[test]
fn a_client_with_another_epoch_is_told_which_of_us_is_behind() {
    let replica = replica(CommitRule::Synced);
    let check = |epoch| replica.check_epoch(LeaderEpoch(epoch));
    assert_eq!(check(-1), Ok(()));
    assert_eq!(check(3), Ok(()));
    assert_eq!(check(2), Err(ErrorCode::FencedLeaderEpoch));
    assert_eq!(check(4), Err(ErrorCode::UnknownLeaderEpoch));
}
