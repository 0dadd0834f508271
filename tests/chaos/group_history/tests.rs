//! Each promise is broken once, and found so.

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

fn gave_up(generation: i32, partitions: &[i32]) -> Entry {
    let partitions = partitions.iter().copied().collect();
    Entry::GaveUp {
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

type Entries = Vec<(u64, Entry)>;

/// One member does half of the work and is gone, and another one begins where the commits end.
fn lives() -> [Entries; 2] {
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

fn life<'a>(owner: &'a str, still: &'a [(Moment, Moment)], entries: Entries) -> Life<'a> {
    let entries = entries.into_iter();
    Life {
        owner,
        still,
        repeats_last: false,
        entries: entries.map(|(at, entry)| (Moment(at), entry)).collect(),
    }
}

fn check(lives: [Entries; 2], looks: &[(u64, u64, i64)]) -> Result<(), Violation> {
    let records = records();
    let mut history = GroupHistory::new(&records);
    for (owner, entries) in ["first", "second"].into_iter().zip(lives) {
        history.lived(life(owner, &[], entries))?;
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
fn a_generation_that_goes_back_is_found() {
    let mut lives = lives();
    lives[1].insert(3, (22, owns(1, &[0])));
    let expected = Violation::GenerationWentBack {
        member: "second".into(),
        generation: 1,
        before: 2,
    };
    assert_eq!(check(lives, &LOOKS), Err(expected));
    // To be out of the group is no generation.
    let mut lives = self::lives();
    lives[1].insert(3, (22, owns(-1, &[0])));
    assert_eq!(check(lives, &LOOKS), Ok(()));
}

/// What is found of two members who owned the partition, where the first one stood still now and then.
fn owners(first: Entries, second: Entries, still: &[(Moment, Moment)]) -> Result<(), Wrong> {
    let records = vec![Vec::new()];
    let mut history = GroupHistory::new(&records);
    history.lived(life("first", still, first)).unwrap();
    history.lived(life("second", &[], second)).unwrap();
    history.check().map_err(|found| match found {
        Violation::Ownership { wrong, .. } => wrong,
        other => panic!("{other}"),
    })
}

fn members() -> [String; 2] {
    ["first".into(), "second".into()]
}

/// What is found of a member whose library repeats, and that was given these records in this order, with
/// rebalances between.
fn repeats(rounds: &[&[i64]]) -> Result<(), Violation> {
    let records = records();
    let mut history = GroupHistory::new(&records);
    let mut entries = Vec::new();
    for (generation, offsets) in (1..).zip(rounds) {
        entries.push((entries.len() as u64, owns(generation, &[0])));
        for offset in *offsets {
            let value = ["a", "b", "c", "d"][*offset as usize];
            entries.push((entries.len() as u64, given(*offset, value)));
        }
    }
    let life = life("one", &[], entries);
    history.lived(Life {
        repeats_last: true,
        ..life
    })?;
    history.check()
}

#[test]
fn a_library_that_repeats_does_so_once_and_after_a_rebalance_only() {
    assert_eq!(repeats(&[&[0, 1], &[1, 2], &[3]]), Ok(()));
    let jumps: [&[&[i64]]; 4] = [
        &[&[0, 1, 1, 2, 3]],
        &[&[0, 1], &[1, 1, 2, 3]],
        &[&[0, 1, 2], &[1, 2, 3]],
        &[&[0, 1], &[3]],
    ];
    for rounds in jumps {
        let found = repeats(rounds).unwrap_err();
        assert!(matches!(found, Violation::Jumped { .. }), "{found}");
    }
}

#[test]
fn two_owners_in_a_generation_are_found_and_one_that_comes_back_is_none() {
    let found = |first, second| owners(first, second, &[]);
    let two = |generation| {
        Err(Wrong::TwoOwners {
            generation,
            members: members(),
        })
    };
    let one = || vec![(10, owns(1, &[0]))];
    assert_eq!(found(one(), vec![(20, owns(1, &[0]))]), two(1));
    assert_eq!(found(one(), vec![(20, owns(2, &[0]))]), Ok(()));
    // Out of the group it owns nothing in anybody's eyes.
    assert_eq!(found(one(), vec![(20, owns(-1, &[0]))]), Ok(()));
    let records = vec![Vec::new()];
    let mut history = GroupHistory::new(&records);
    for at in [10, 20] {
        let entries = vec![(at, owns(1, &[0]))];
        history.lived(life("the same", &[], entries)).unwrap();
    }
    assert_eq!(history.check(), Ok(()));
}

/// A member's epoch may pass several of its group's without a word about what it owns.
#[test]
fn two_owners_are_found_at_an_epoch_that_one_of_them_had_only_passed() {
    let passes = || vec![(10, owns(3, &[0])), (15, owns(6, &[0]))];
    let two = Err(Wrong::TwoOwners {
        generation: 4,
        members: members(),
    });
    let between = || vec![(12, owns(4, &[0])), (13, owns(4, &[]))];
    assert_eq!(owners(passes(), between(), &[]), two);
    let gives_up = vec![(10, owns(3, &[0])), (15, gave_up(6, &[0]))];
    assert_eq!(owners(gives_up, between(), &[]), two);
    // It had lost it meanwhile.
    let mut comes_back = passes();
    comes_back.insert(1, (11, owns(3, &[])));
    assert_eq!(owners(comes_back, between(), &[]), Ok(()));
}

#[test]
fn an_owner_that_begins_before_the_former_one_has_given_up_is_found() {
    let first = || vec![(10, owns(3, &[0])), (20, gave_up(3, &[0]))];
    let second = |at| vec![(at, owns(4, &[0]))];
    let members = members();
    let too_soon = Err(Wrong::TakenTooSoon { members });
    assert_eq!(owners(first(), second(19), &[]), too_soon);
    assert_eq!(owners(first(), second(21), &[]), Ok(()));
    // It may have been gone for the others, who waited no longer.
    let still = [(Moment(12), Moment(18))];
    assert_eq!(owners(first(), second(19), &still), Ok(()));
    let still_before = [(Moment(5), Moment(9))];
    assert_eq!(owners(first(), second(19), &still_before), too_soon);
    // What it loses, or leaves behind, it need not have given up.
    let loses = vec![(10, owns(3, &[0])), (20, owns(-1, &[]))];
    assert_eq!(owners(loses, second(19), &[]), Ok(()));
    // One that hears late of what it had before.
    let late = vec![(19, owns(2, &[0]))];
    assert_eq!(owners(first(), late, &[]), Ok(()));
}
