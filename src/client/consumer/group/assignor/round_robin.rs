//! `roundrobin`, as Kafka's `RoundRobinAssignor`: all partitions in order to all members in order, past those
//! who don't read the topic.

use super::{Assignments, Member, PartitionCounts};

pub(super) fn assign(counts: &PartitionCounts, members: &[&Member]) -> Assignments {
    let mut assignments = Assignments::new();
    let mut turn = 0;
    for (topic, count) in counts {
        for partition in 0..*count {
            let from_turn = members.iter().cycle().skip(turn).take(members.len());
            let Some(past) = from_turn.clone().position(|member| member.reads(topic)) else {
                break;
            };
            turn = (turn + past) % members.len();
            let of_member = assignments.entry(members[turn].id.clone()).or_default();
            of_member.insert((topic.clone(), partition));
            turn = (turn + 1) % members.len();
        }
    }
    assignments
}
