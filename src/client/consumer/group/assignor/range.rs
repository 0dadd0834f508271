//! `range`, as Kafka's `RangeAssignor` assigns members without racks.

use super::{Assignments, Member, PartitionCounts};

pub(super) fn assign(counts: &PartitionCounts, members: &[&Member]) -> Assignments {
    let mut assignments = Assignments::new();
    for (topic, count) in counts {
        let readers = members.iter().filter(|member| member.reads(topic));
        let readers: Vec<_> = readers.collect();
        let mut next = 0;
        for (place, reader) in (0..).zip(&readers) {
            let (each, more) = (count / readers.len() as i32, count % readers.len() as i32);
            let end = next + each + i32::from(place < more);
            let range = (next..end).map(|partition| (topic.clone(), partition));
            let of_reader = assignments.entry(reader.id.clone()).or_default();
            of_reader.extend(range);
            next = end;
        }
    }
    assignments
}
