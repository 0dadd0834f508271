//! What a member of a group notes of what happens to it: a line each, in a file that outlives its process.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::str::FromStr;

use rustix::time::{clock_gettime, ClockId};

/// Nanoseconds of a clock that all processes of this machine share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    pub fn now() -> Moment {
        let time = clock_gettime(ClockId::Monotonic);
        Moment(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// From now on it owns just these partitions, in this generation of the group, or at this epoch of the member;
    /// 0 or less is none.
    Owns {
        generation: i32,
        partitions: BTreeSet<i32>,
    },
    /// It was told to give these up, has owned them up to this generation, and is given nothing more of them.
    GaveUp {
        generation: i32,
        partitions: BTreeSet<i32>,
    },
    /// It was handed this record.
    Given {
        partition: i32,
        offset: i64,
        value: String,
    },
    /// It was told that this is committed: the offset of the next record.
    Committed { partition: i32, offset: i64 },
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words =
            |f: &mut fmt::Formatter<'_>, what, generation: &i32, partitions: &BTreeSet<_>| {
                write!(f, "{what} {generation}")?;
                (partitions.iter()).try_for_each(|number: &i32| write!(f, " {number}"))
            };
        match self {
            Entry::Owns {
                generation,
                partitions,
            } => words(f, "owns", generation, partitions),
            Entry::GaveUp {
                generation,
                partitions,
            } => words(f, "gave-up", generation, partitions),
            Entry::Given {
                partition,
                offset,
                value,
            } => write!(f, "given {partition} {offset} {value}"),
            Entry::Committed { partition, offset } => {
                write!(f, "committed {partition} {offset}")
            }
        }
    }
}

impl FromStr for Entry {
    type Err = String;

    fn from_str(line: &str) -> Result<Entry, String> {
        parse(line).ok_or_else(|| format!("{line:?} is no entry"))
    }
}

fn parse(line: &str) -> Option<Entry> {
    let (what, rest) = line.split_once(' ')?;
    let mut words = rest.splitn(3, ' ');
    Some(match what {
        "owns" | "gave-up" => {
            let mut numbers = rest.split(' ').map(str::parse);
            let generation = numbers.next()?.ok()?;
            let partitions = numbers.collect::<Result<_, _>>().ok()?;
            match what {
                "owns" => Entry::Owns {
                    generation,
                    partitions,
                },
                _ => Entry::GaveUp {
                    generation,
                    partitions,
                },
            }
        }
        "given" => Entry::Given {
            partition: words.next()?.parse().ok()?,
            offset: words.next()?.parse().ok()?,
            value: words.next()?.to_owned(),
        },
        "committed" => Entry::Committed {
            partition: words.next()?.parse().ok()?,
            offset: words.next()?.parse().ok()?,
        },
        _ => return None,
    })
}

/// Whoever writes it.
pub struct Diary(File);

impl Diary {
    pub fn begin(path: &Path) -> Diary {
        Diary(File::create_new(path).unwrap())
    }

    /// It is written when this returns, whatever becomes of the process.
    pub fn note(&mut self, entry: &Entry) {
        let line = format!("{} {entry}\n", Moment::now().0);
        self.0.write_all(line.as_bytes()).unwrap();
    }
}

/// What a diary says, without a last line that was never finished.
pub fn entries(path: &Path) -> io::Result<Vec<(Moment, Entry)>> {
    let text = match fs::read_to_string(path) {
        // It ended before it began.
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        text => text?,
    };
    let (finished, _) = text.rsplit_once('\n').unwrap_or_default();
    let entry = |line: &str| {
        let (moment, entry) = line.split_once(' ').expect("it begins with a moment");
        let moment = moment.parse().expect("a moment is a number");
        (Moment(moment), entry.parse().expect("it is an entry"))
    };
    Ok(finished.lines().map(entry).collect())
}

#[test]
fn a_diary_says_what_was_noted_up_to_the_last_finished_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("diary");
    assert_eq!(entries(&path).unwrap(), []);
    let all = [
        Entry::Owns {
            generation: 3,
            partitions: BTreeSet::from([0, 2]),
        },
        Entry::Given {
            partition: 2,
            offset: 17,
            value: "writer 1 record 5".into(),
        },
        Entry::Committed {
            partition: 2,
            offset: 18,
        },
        Entry::GaveUp {
            generation: 4,
            partitions: BTreeSet::from([0, 2]),
        },
        Entry::Owns {
            generation: -1,
            partitions: BTreeSet::new(),
        },
    ];
    let mut diary = Diary::begin(&path);
    all.iter().for_each(|entry| diary.note(entry));
    diary.0.write_all(b"17 commi").unwrap();
    let read = entries(&path).unwrap();
    assert!(read.is_sorted_by_key(|(moment, _)| *moment));
    let read: Vec<Entry> = read.into_iter().map(|(_, entry)| entry).collect();
    assert_eq!(read, all);
}
